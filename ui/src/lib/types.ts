// Names for the forms of the API that the page reads. The forms are made of docs/openapi.json (`npm run types`); docs/api.md says what they mean.

import type { components } from '../../openapi';

export interface Page<T> {
  items: T[];
  next: string | null;
}

export interface Mute {
  by: 'silence' | 'maintenance';
  id: string;
  until: string;
  author: string | null;
  comment: string | null;
}

export interface Hop {
  url: string;
  address?: string;
  dns_us: number;
  connect_us: number;
  tls_us: number;
  first_byte_us: number;
  transfer_us: number;
  status?: number;
}

export interface Certificate {
  subject: string;
  issuer: string;
  names: string[];
  not_before: number;
  not_after: number;
  days_left: number;
  sha256: string;
}

/** What a worker's sidecar said; ages by its own clock. */
export interface Worker {
  state: 'idle' | 'active' | 'stuck' | 'draining' | 'not_ready';
  active: number;
  total: number;
  idle_us: number;
  oldest_us?: number;
  draining_us?: number;
  grace_us?: number;
  ready: boolean;
  last_request?: string;
  since: string;
  stuck?: { id?: string; count: number; for_us: number }[];
}

export interface Attempt {
  error?: string;
  worker?: Worker;
  hops: Hop[];
  total_us: number;
  certificate?: { protocol?: string; cipher?: string; valid: boolean; chain: Certificate[]; not_after: number; days_left: number };
}

export interface Heartbeat {
  at: string;
  datacenter_id: number;
  outcome: 'up' | 'down' | 'unknown';
  why: string | null;
  lag_us: number;
  dns_us: number;
  connect_us: number;
  tls_us: number;
  first_byte_us: number;
  transfer_us: number;
  total_us: number;
  code: number | null;
  size: number | null;
  value: number | null;
  pushed: boolean;
  detail?: Attempt;
}

/** What the list of all monitors knows of one. */
export interface Brief {
  uid: string;
  name: string;
  kind: string;
  target: string;
  labels: Record<string, string>;
  paused: boolean;
  health: Health;
  since: string | null;
  why: string | null;
  flapping: string[];
  mutes: Mute[];
}

/** All of them; what is not there is empty, false, or not known. */
export interface Overview {
  items: (Pick<Brief, 'uid' | 'name' | 'kind' | 'target' | 'health'> & Partial<Brief>)[];
}

export interface Monitor extends Brief {
  last: Heartbeat | null;
  origin: string;
  created_at: string;
  config?: unknown;
  push_token?: string;
  /** If it was made over the API, and only when one is asked for. */
  made?: Made;
}

export interface Made {
  version: number;
  made_by: string;
  changed_by: string;
  changed_at: string;
  body: { [key: string]: unknown };
}

/** What the list of all monitors knows of one: what is not there is empty, false, or not known. */
export type Brief = Required<Forms['MonitorBrief']>;
export type Health = Brief['health'];
export type Mute = Forms['Mute'];
export type Heartbeat = Forms['Heartbeat'];
/** What a waterfall is drawn of: a heartbeat, or an attempt that is none. */
export type Drawn = Pick<Heartbeat, 'dns_us' | 'connect_us' | 'tls_us' | 'first_byte_us' | 'transfer_us' | 'total_us'> & { detail?: Pick<Forms['Attempt'], 'hops' | 'error'> | null };
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
