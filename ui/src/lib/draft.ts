// A monitor as it is being written: the object that is sent, and the fields of it that the form knows.

export type Tree = { [key: string]: unknown };

export const KINDS = ['http', 'tcp', 'tls', 'icmp', 'dns', 'push'] as const;
export type Kind = (typeof KINDS)[number];

/** The fields of each kind: where they are below it, and whether it needs them. */
export const FIELDS = {
  http: [
    ['url', true],
    ['method', false],
    ['expect.status', false],
    ['expect.body_contains', false],
  ],
  tcp: [['address', true]],
  tls: [['address', true]],
  icmp: [['host', true]],
  dns: [
    ['name', true],
    ['type', false],
    ['server', false],
  ],
  push: [
    ['expect_every', true],
    ['grace', false],
  ],
} as const satisfies Record<Kind, readonly (readonly [string, boolean])[]>;

export type Field = (typeof FIELDS)[Kind][number][0];

/** What stands in an empty field: how such a thing is written. */
export const SAMPLES: Record<Field, string> = {
  url: 'https://shop.example.org/health',
  method: 'GET',
  'expect.status': '200-299',
  'expect.body_contains': '',
  address: 'db.example.org:5432',
  host: 'gw.example.org',
  name: 'example.org',
  type: 'A',
  server: '9.9.9.9:53',
  expect_every: '24h',
  grace: '1h',
};

const isTree = (value: unknown): value is Tree => typeof value === 'object' && value !== null && !Array.isArray(value);

export const kindOf = (draft: Tree): Kind => (isTree(draft.probe) ? KINDS.find((kind) => kind in (draft.probe as Tree)) : undefined) ?? 'http';

/** What is at a path, as text; a list of single values by commas. */
export function at(draft: Tree, path: string): string {
  let value: unknown = draft;
  for (const key of path.split('.')) value = isTree(value) ? value[key] : undefined;
  if (value === undefined || value === null || isTree(value)) return '';
  return Array.isArray(value) ? value.join(', ') : String(value);
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

/** Another kind, with what the form knows of none. */
export const turned = (draft: Tree, kind: Kind): Tree => ({ ...draft, probe: { [kind]: {} } });

/** `team=web, tier=1` as labels; a word alone has no value. */
export const labelsOf = (text: string) => Object.fromEntries(text.split(',').map((part) => part.trim()).filter(Boolean).map((part) => [part.split('=')[0]!.trim(), part.split('=').slice(1).join('=').trim()]));
export const textOf = (labels: unknown) => (isTree(labels) ? Object.entries(labels).map(([name, value]) => `${name}=${value}`).join(', ') : '');
