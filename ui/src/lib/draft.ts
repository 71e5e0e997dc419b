// Objects as they are being written: the tree that is sent, and the fields of it that the forms know. What they do not know stays as it is.
import type { Key } from './words.svelte';

export type Tree = { [key: string]: unknown };

/** How a field is written. `labels` are `a=b` by commas, `pairs` are `a: b` by lines, `prose` may have several lines, a `secret` is never shown. */
export type Form = 'text' | 'number' | 'list' | 'labels' | 'pairs' | 'prose' | 'choice' | 'flag' | 'secret' | 'moment' | 'zone' | 'repeat';

export interface Field {
  /** Where it is: `probe.http.url`; in a shape below the kind. */
  at: string;
  word: Key;
  form: Form;
  needed?: boolean;
  /** What stands in it while it is empty. */
  sample?: string;
  /** The first is what holds if nothing is said. */
  choices?: readonly string[];
  wide?: boolean;
  help?: Key;
}

/** What stands for a secret that is stored. */
export const MASK = '***';

/** An object of several kinds: the key that says which, and the fields of each. */
export interface Shape {
  /** What the kinds are below; nothing if at the top. */
  under: string;
  kinds: Record<string, readonly Field[]>;
}

const url = { at: 'url', word: 'field_url', form: 'text', needed: true, wide: true } as const;
const address = { at: 'address', word: 'field_address', form: 'text', needed: true, sample: 'db.example.org:5432' } as const;

export const MONITOR: Shape = {
  under: 'probe.',
  kinds: {
    http: [
      { ...url, sample: 'https://shop.example.org/health' },
      { at: 'method', word: 'field_method', form: 'choice', choices: ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'] },
      { at: 'expect.status', word: 'field_status', form: 'list', sample: '200-299' },
      { at: 'expect.body_contains', word: 'field_contains', form: 'text' },
    ],
    tcp: [address],
    tls: [{ ...address, sample: 'shop.example.org:443' }],
    icmp: [{ at: 'host', word: 'field_host', form: 'text', needed: true, sample: 'gw.example.org' }],
    dns: [
      { at: 'name', word: 'field_name', form: 'text', needed: true, sample: 'example.org' },
      { at: 'type', word: 'field_type', form: 'choice', choices: ['A', 'AAAA', 'CNAME', 'MX', 'NS', 'TXT', 'SRV', 'CAA', 'SOA', 'PTR'] },
      { at: 'server', word: 'field_server', form: 'text', sample: '9.9.9.9:53' },
    ],
    push: [
      { at: 'expect_every', word: 'field_expect_every', form: 'text', needed: true, sample: '24h' },
      { at: 'grace', word: 'field_grace', form: 'text', sample: '1h' },
    ],
    worker: [
      { ...url, sample: 'http://127.0.0.1:8081' },
      { at: 'stuck_after', word: 'field_stuck_after', form: 'text', sample: '5m' },
    ],
  },
};

export const CHANNEL: Shape = {
  under: '',
  kinds: {
    telegram: [
      { at: 'bot_token', word: 'field_bot_token', form: 'secret', needed: true, sample: '123456:ABC-DEF', help: 'botTokenHelp' },
      { at: 'chat_id', word: 'field_chat_id', form: 'text', needed: true, sample: '-1001234567890', help: 'chatHelp' },
      { at: 'topic_id', word: 'field_topic_id', form: 'number' },
      { at: 'commands', word: 'field_commands', form: 'flag', help: 'commandsHelp' },
    ],
    webhook: [
      { ...url, sample: 'https://example.org/hook', help: 'hookUrlHelp' },
      { at: 'format', word: 'field_format', form: 'choice', choices: ['native', 'alertmanager', 'v-insight'] },
      { at: 'timeout', word: 'field_timeout', form: 'text', sample: '10s' },
      { at: 'secret', word: 'field_secret', form: 'secret', help: 'hookSecretHelp' },
      { at: 'headers', word: 'field_headers', form: 'pairs', sample: 'X-Team: sre', help: 'headersHelp' },
    ],
    discord: [
      { ...url, sample: 'https://discord.com/api/webhooks/123/abc', help: 'discordHelp' },
      { at: 'thread_id', word: 'field_thread_id', form: 'number' },
    ],
    email: [
      { at: 'host', word: 'field_smtp', form: 'text', needed: true, sample: 'smtp.example.org' },
      { at: 'tls', word: 'field_encryption', form: 'choice', choices: ['starttls', 'implicit', 'none'] },
      { at: 'port', word: 'field_port', form: 'number', sample: '587' },
      { at: 'from', word: 'field_from', form: 'text', needed: true, sample: 'Watchkeeper <alerts@example.org>' },
      { at: 'to', word: 'field_to', form: 'list', needed: true, sample: 'ops@example.org, sre@example.org', wide: true },
      { at: 'username', word: 'field_username', form: 'text' },
      { at: 'password', word: 'password', form: 'secret' },
    ],
  },
};

export const WINDOW: Shape = {
  under: '',
  kinds: {
    once: [
      { at: 'from', word: 'field_begins', form: 'moment', needed: true },
      { at: 'to', word: 'field_ends', form: 'moment', needed: true },
      { at: 'zone', word: 'timeZone', form: 'zone', sample: 'UTC' },
    ],
    every: [
      { at: 'cron', word: 'field_begins', form: 'repeat', needed: true, wide: true },
      { at: 'for', word: 'howLong', form: 'text', needed: true, sample: '2h' },
      { at: 'zone', word: 'timeZone', form: 'zone', sample: 'UTC' },
    ],
  },
};

export const isTree = (value: unknown): value is Tree => typeof value === 'object' && value !== null && !Array.isArray(value);

/** What is at a path. */
export function at(draft: Tree, path: string): unknown {
  let value: unknown = draft;
  for (const key of path.split('.')) value = isTree(value) ? value[key] : undefined;
  return value;
}

/** The same object with another value at a path; without one it is gone, and what was empty around it too. */
export function put(draft: Tree, path: string, value: unknown): Tree {
  const [key, ...rest] = path.split('.') as [string, ...string[]];
  const inner = draft[key];
  const next = rest.length === 0 ? value : put(isTree(inner) ? inner : {}, rest.join('.'), value);
  const { [key]: _, ...others } = draft;
  const nothing = next === undefined || next === '' || (isTree(next) && Object.keys(next).length === 0 && rest.length > 0);
  return nothing ? others : { ...draft, [key]: next };
}

export const kindOf = (draft: Tree, { under, kinds }: Shape) => Object.keys(kinds).find((kind) => at(draft, under + kind) !== undefined) ?? Object.keys(kinds)[0]!;

/** Another kind, with what the form knows of none. */
export function turned(draft: Tree, { under, kinds }: Shape, kind: string): Tree {
  let next = draft;
  for (const other of Object.keys(kinds)) next = put(next, under + other, undefined);
  // `put` would drop what is empty.
  return under ? { ...next, [under.slice(0, -1)]: { [kind]: {} } } : { ...next, [kind]: {} };
}

/** The fields of a kind, with their whole paths. */
export const fieldsOf = ({ under, kinds }: Shape, kind: string): Field[] => (kinds[kind] ?? []).map((field) => ({ ...field, at: `${under}${kind}.${field.at}` }));

const parts = (text: string, by: string) => text.split(by).map((part) => part.trim()).filter(Boolean);
const cut = (text: string, by: string) => [text.split(by)[0]!.trim(), text.split(by).slice(1).join(by).trim()] as const;
const numbered = (text: string) => (/^\d{1,15}$/.test(text) ? Number(text) : text);
const mapped = (pairs: (readonly [string, string])[]) => (pairs.length === 0 ? undefined : Object.fromEntries(pairs));

/** What somebody wrote, as the value that is sent. */
export function valueOf(form: Form, text: string): unknown {
  switch (form) {
    case 'number':
      return numbered(text.trim());
    case 'list':
      return text.includes(',') ? parts(text, ',').map(numbered) : numbered(text.trim());
    case 'labels':
      return mapped(parts(text, ',').map((part) => cut(part, '=')));
    case 'pairs':
      return mapped(parts(text, '\n').map((line) => cut(line, ':')));
    case 'flag':
      return text === 'true' || undefined;
    case 'text':
    case 'prose':
    case 'choice':
    case 'secret':
    case 'moment':
    case 'zone':
    case 'repeat':
      return text;
  }
}

/** A value as it is written. */
export function textOf(form: Form, value: unknown): string {
  if (value === undefined || value === null) return '';
  if (form === 'moment') return String(value).replace(' ', 'T');
  if (Array.isArray(value)) return value.join(', ');
  if (!isTree(value)) return String(value);
  const [between, by] = form === 'pairs' ? ['\n', ': '] : [', ', '='];
  return Object.entries(value).map(([name, one]) => `${name}${by}${one}`).join(between);
}
