// The forms of the API that the page reads. docs/api.md says what they mean.

export type Health = 'up' | 'degraded' | 'pending' | 'down' | 'unknown';

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

export interface Attempt {
  error?: string;
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

/** What is wrong with a field of what was sent. */
export interface Problem {
  path: string;
  found: string;
  accepted?: string;
  nearest?: string;
}

export interface Quantiles {
  p50: number | null;
  p95: number | null;
  p99: number | null;
}

export interface Bucket {
  start: string;
  attempts: { up: number; down: number; unknown: number };
  total_us: Quantiles;
}

export interface Metrics {
  period: string;
  from: string;
  to: string;
  uptime_percent: number | null;
  seconds: { up: number; down: number; unknown: number };
  attempts: { up: number; down: number; unknown: number };
  total_us: Quantiles;
  bucket_seconds: number;
  buckets: Bucket[];
}

export interface Days {
  uid: string;
  uptime_percent: number | null;
  known_since: string | null;
  troubled: { nth: number; down_seconds: number; unknown_seconds: number }[];
}

export interface Uptime {
  from: string;
  to: string;
  days: number;
  items: Days[];
}

export interface MonitorBars {
  name: string;
  uptime_percent: number | null;
  /** A letter for each day: up, short outage, down, x not known, not watched. */
  days: string;
}

export interface Bars {
  from: string;
  to: string;
  days: number;
  items: MonitorBars[];
}

export interface Notice {
  channel: string;
  event: string;
  state: 'due' | 'held' | 'sending' | 'sent' | 'dead' | 'suppressed';
  attempts: number;
  last_error: string | null;
  why: string | null;
  next_at: string | null;
  created_at: string;
  sent_at: string | null;
}

export interface Entry {
  nth: number;
  at: string;
  kind: string;
  actor: string | null;
  text: string;
  evidence: unknown;
}

export interface Incident {
  uid: string;
  monitor: { uid: string; name: string };
  rule: string;
  status: 'open' | 'acknowledged' | 'resolved';
  severity: 'info' | 'warning' | 'critical';
  summary: string;
  reason: string | null;
  opened_at: string;
  resolved_at: string | null;
  resolved_why: string | null;
  acknowledged_by: string | null;
  acknowledged_at: string | null;
  routed_by?: string | null;
  timeline?: Entry[];
  notices?: Notice[];
}

export interface Match {
  monitors?: string[];
  labels?: Record<string, string>;
  kinds?: string[];
  rules?: string[];
  severities?: string[];
}

export interface Silence {
  uid: string;
  match: Match;
  starts_at: string;
  ends_at: string;
  author: string;
  comment: string;
  monitors?: number;
}

export interface DeadLetter {
  id: number;
  channel: string;
  event: string;
  incident: string | null;
  summary: string;
  attempts: number;
  last_error: string | null;
  created_at: string;
}

export interface Channel {
  name: string;
  kind: string;
  origin: string;
  made?: Made;
}

export interface ChannelNotice extends Omit<Notice, 'channel'> {
  incident: string | null;
  summary: string;
}

export interface Maintenance {
  name: string;
  match: Match;
  starts_at: string | null;
  ends_at: string | null;
  every: { cron: string; for: string; zone: string } | null;
  open_until: string | null;
  falls?: { starts_at: string; ends_at: string }[];
  origin: string;
  made?: Made;
}

/** What the owner of a status page says on it. */
export interface PublicMessage {
  /** Its place in `made.body.messages`. */
  nth: number;
  title: string;
  text: string;
  at: string;
  until: string | null;
  /** Newest first. */
  updates: { at: string; text: string }[];
}

/** A public status page, as its owner sees it. */
export interface PublicPage {
  name: string;
  title: string;
  description: string | null;
  language: 'en' | 'ru';
  domain: string | null;
  closed: boolean;
  monitors: { uid: string; title: string }[];
  /** Newest first. */
  messages: PublicMessage[];
  origin: string;
  made?: Made;
}

export interface Document {
  uid: string;
  kind: 'monitor' | 'channel' | 'maintenance' | 'status_page';
  name: string;
  made: Made;
  problems: Problem[];
}

export interface Imported {
  applied: boolean;
  items: { kind: Document['kind']; name: string; change: 'made' | 'changed' | 'unchanged' | 'from_a_file'; differences?: { path: string; before: unknown; after: unknown }[] }[];
  left: string[];
}

export interface About {
  version: string;
  node: string;
  store: string;
  api_targets: 'public' | 'private';
}

export interface Me {
  name: string;
  role: Role;
  tenant: string;
  user: string | null;
  second_factor: boolean;
}

export interface Tenant {
  id: string;
  role: Role;
  current: boolean;
}

export type Role = 'viewer' | 'operator' | 'admin';

export interface SignIn {
  setup: boolean;
  password: boolean;
  oidc: string | null;
}

export interface User {
  uid: string;
  name: string;
  role: Role;
  own: boolean;
  second_factor: boolean | null;
  seen_at: string | null;
}

export interface Token {
  id: number;
  name: string;
  role: Role;
  prefix: string;
  made_by: string | null;
  expires_at: string | null;
}

export interface Deed {
  id: number;
  at: string;
  actor: string;
  via: string;
  address: string;
  action: string;
  detail: string;
  status: number | null;
}

export interface Node {
  name: string;
  beats: number;
  scopes: { scope: string; epoch: number }[];
}

export interface Ready {
  ready: boolean;
  problems: string[];
  warnings: string[];
  notes: ReadyNote[];
}

export interface ReadyNote {
  code: string;
  values: string[];
  text: string;
}
