import type { paths } from '../../openapi';
import type { Problem } from './types';

const KEY = 'watchkeeper.token';
const PERSON = 'watchkeeper.person';
const TENANT = 'watchkeeper.tenant';

/** What the API answered instead of what was asked for; `status` 0 is no answer at all. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    /** What is wrong with which field of what was sent. */
    readonly problems: Problem[] = [],
  ) {
    super(message);
  }
}

// A token lives as long as the tab, and never in an address. Who signs in by name has a cookie that no script can see.
export const token = {
  get: () => sessionStorage.getItem(KEY),
  set: (text: string) => sessionStorage.setItem(KEY, text),
  clear: () => sessionStorage.removeItem(KEY),
};

/** Which tenant is meant, for whoever belongs to several; each tab has its own. None is the one that was signed in to. */
export const tenant = {
  get: () => sessionStorage.getItem(TENANT),
  set: (id: string) => sessionStorage.setItem(TENANT, id),
  clear: () => sessionStorage.removeItem(TENANT),
};

/** Who acts, for tokens that several people share. Nobody checks it; it stands beside the token's name. */
export const person = {
  get: () => localStorage.getItem(PERSON) ?? '',
  set: (name: string) => (name ? localStorage.setItem(PERSON, name) : localStorage.removeItem(PERSON)),
};

let refused = () => {};

/** Says what is done when whoever asks is not known any more. */
export function onRefused(act: () => void) {
  refused = act;
}

let expelled = () => {};

/** Says what is done when something was forbidden in a tenant that was chosen: perhaps it is closed to whoever asks by now. */
export function onForbidden(act: () => void) {
  expelled = act;
}

/** That the page itself asks (no other one could say so), the token if there is one, and the tenant that is meant. */
export function headers(): Record<string, string> {
  const known = token.get();
  const meant = tenant.get();
  return { 'x-watchkeeper-page': '1', ...(known === null ? {} : { authorization: `Bearer ${known}` }), ...(meant === null ? {} : { 'x-tenant-id': meant }) };
}

/** The name as UTF-8 bytes, as a header carries it. */
function asBytes(name: string) {
  return Array.from(new TextEncoder().encode(name), (byte) => String.fromCharCode(byte)).join('');
}

type Method = 'get' | 'post' | 'put' | 'patch' | 'delete';

/** The paths below `/api/v1/` that have a method, as the OpenAPI document has them. */
type Path<M extends Method> = { [P in keyof paths]: P extends `/api/v1/${infer Rest}` ? (paths[P] extends Record<M, object> ? Rest : never) : never }[keyof paths];
type Operation<M extends Method, P extends string> = `/api/v1/${P}` extends keyof paths ? paths[`/api/v1/${P}`][M] : never;

/** A part of a request: not there where the document has none, and left out where nothing of it is needed. */
type Part<Name extends string, T> = [T] extends [undefined] ? unknown : Record<never, never> extends T ? { [N in Name]?: T } : { [N in Name]: T };
type Said<O> = O extends { parameters: { path?: infer Names; query?: infer Query }; requestBody?: infer Sent }
  ? Part<'path', Names> & Part<'query', Query> & Part<'body', Sent extends { content: { 'application/json': infer Body } } ? Body : undefined> & { seen?: number | undefined }
  : never;
type Answer<O> = O extends { responses: infer All } ? { [S in keyof All]: S extends 200 | 201 | 202 ? (All[S] extends { content: { 'application/json': infer A } } ? A : never) : never }[keyof All] : never;

/** What is said beside the path, before its types are forgotten. */
interface Loose {
  path?: Record<string, string | number>;
  query?: Record<string, string | number | boolean | null | undefined>;
  body?: unknown;
  /** Only if it still has this version. */
  seen?: number | undefined;
}

/** A path with its names filled in. */
function address(path: string, { path: names = {}, query = {} }: Loose) {
  const filled = path.replace(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(String(names[name])));
  const asked = Object.entries(query).flatMap(([name, value]) => (value === null || value === undefined ? [] : [[name, String(value)]]));
  return asked.length === 0 ? filled : `${filled}?${new URLSearchParams(asked)}`;
}

async function answered(method: Method, path: string, said: Loose): Promise<Response> {
  const { body, seen } = said;
  const about = headers();
  if (method !== 'get' && token.get() && person.get()) about['x-watchkeeper-as'] = asBytes(person.get());
  if (seen !== undefined) about['if-match'] = `"${seen}"`;
  const request: RequestInit = { method: method.toUpperCase(), headers: about, cache: 'no-store', signal: AbortSignal.timeout(20_000) };
  if (isYaml(body)) {
    about['content-type'] = 'application/yaml';
    request.body = body.yaml;
  } else if (body !== undefined) request.body = JSON.stringify(body);
  let response: Response;
  try {
    response = await fetch(`api/v1/${address(path, said)}`, request);
  } catch {
    throw new ApiError(0, 'unreachable', 'Watchkeeper does not answer');
  }
  if (!response.ok) {
    const answer = await response.json().catch(() => ({}));
    // While signing in, it is the form that says so.
    if (response.status === 401 && !path.startsWith('auth/')) refused();
    if (response.status === 403 && tenant.get() !== null && path !== 'me') expelled();
    throw new ApiError(response.status, answer.code ?? 'unknown', answer.message ?? response.statusText, answer.problems);
  }
  return response;
}

/** An object as it is written in a file. */
const isYaml = (body: unknown): body is { yaml: string } => typeof body === 'object' && body !== null && 'yaml' in body && typeof body.yaml === 'string';

/** What the document says of a path decides what may be said to it, and what it answers. */
const calls = <M extends Method>(method: M) =>
  async <P extends Path<M>>(path: P, ...[said]: Record<never, never> extends Said<Operation<M, P>> ? [Said<Operation<M, P>>?] : [Said<Operation<M, P>>]) =>
    (await (await answered(method, path, said ?? {})).json().catch(() => ({}))) as Answer<Operation<M, P>>;

export const get = calls('get');
export const post = calls('post');
export const put = calls('put');
export const patch = calls('patch');
export const end = calls('delete');

/** What is no JSON. */
export const text = async (path: Path<'get'>) => (await answered('get', path, {})).text();
/** The same, made of an object that is sent. */
export const drawn = async <P extends Path<'post'>>(path: P, said: Said<Operation<'post', P>>) => (await answered('post', path, said)).text();

export const say = (error: unknown) => (error instanceof Error ? error.message : String(error));
