// Names for the forms of the API that the page reads. The forms are made of docs/openapi.json (`npm run types`); docs/api.md says what they mean.

import type { components } from '../../openapi';

type Forms = components['schemas'];

/** What the list of all monitors knows of one: what is not there is empty, false, or not known. */
export type Brief = Required<Forms['MonitorBrief']>;
export type Health = Brief['health'];
export type Mute = Forms['Mute'];
export type Heartbeat = Forms['Heartbeat'];
/** What a waterfall is drawn of: a heartbeat, or an attempt that is none. */
export type Drawn = Pick<Heartbeat, 'dns_us' | 'connect_us' | 'tls_us' | 'first_byte_us' | 'transfer_us' | 'total_us'> & { detail?: Pick<Forms['Attempt'], 'hops' | 'error' | 'worker'> | null };
export type Monitor = Forms['Monitor'];
/** What is wrong with a field of what was sent. */
export type Problem = Forms['Fault'];
export type Metrics = Forms['MonitorMetrics'];
export type Days = Forms['UptimeDays'];
export type Bars = Forms['Bars'];
export type MonitorBars = Forms['MonitorBars'];
export type Notice = Forms['Notice'];
export type Entry = Forms['Entry'];
export type Incident = Forms['Incident'];
export type Match = Forms['Match'];
export type Silence = Forms['Silence'];
export type DeadLetter = Forms['DeadLetter'];
export type Channel = Forms['AlertChannel'];
export type ChannelNotice = Forms['ChannelNotice'];
export type Maintenance = Forms['Maintenance'];
export type Subscriber = Forms['Subscriber'];
export type Document = Forms['Document'];
export type Imported = Forms['Imported'];
export type About = Forms['Installation'];
export type Me = Forms['Me'];
export type Role = Me['role'];
export type SignIn = Forms['SignIn'];
export type User = Forms['User'];
export type Token = Forms['Token'];
export type Deed = Forms['Audited'];
export type Node = Forms['Node'];
export type Ready = Forms['ReadyBody'];
export type ReadyNote = Forms['ReadyNote'];
export type PublicPage = Forms['PublicPage'];
export type PublicMessage = PublicPage['messages'][number];
export type Tenant = Forms['Tenant'];
export type Made = Forms['MadeObject'];
export type Attempt = Forms['Attempt'];
export type Worker = NonNullable<Attempt['worker']>;
