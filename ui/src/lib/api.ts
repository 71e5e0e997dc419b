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

async function answered(method: string, path: string, body?: unknown, seen?: number): Promise<Response> {
  const said = headers();
  if (method !== 'GET' && token.get() && person.get()) said['x-watchkeeper-as'] = asBytes(person.get());
  if (seen !== undefined) said['if-match'] = `"${seen}"`;
  const request: RequestInit = { method, headers: said, cache: 'no-store', signal: AbortSignal.timeout(20_000) };
  if (isYaml(body)) {
    said['content-type'] = 'application/yaml';
    request.body = body.yaml;
  } else if (body !== undefined) request.body = JSON.stringify(body);
  let response: Response;
  try {
    response = await fetch(`api/v1/${path}`, request);
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

const ask = async <T>(method: string, path: string, body?: unknown, seen?: number) => (await (await answered(method, path, body, seen)).json().catch(() => ({}))) as T;

/** An object as it is written in a file. */
const isYaml = (body: unknown): body is { yaml: string } => typeof body === 'object' && body !== null && 'yaml' in body && typeof body.yaml === 'string';

/** Makes or changes an object; with `seen` only if it still has that version. */
export const send = <T>(method: 'POST' | 'PUT' | 'PATCH' | 'DELETE', path: string, body?: unknown, seen?: number) => ask<T>(method, path, body, seen);

/** What is no JSON. */
export const text = async (path: string) => (await answered('GET', path)).text();
/** The same, made of an object that is sent. */
export const drawn = async (path: string, body: unknown) => (await answered('POST', path, body)).text();
export const get = <T>(path: string) => ask<T>('GET', path);
export const post = <T>(path: string, body: unknown = {}) => ask<T>('POST', path, body);
export const put = <T>(path: string, body: unknown) => ask<T>('PUT', path, body);
export const patch = <T>(path: string, body: unknown) => ask<T>('PATCH', path, body);
export const end = <T>(path: string) => ask<T>('DELETE', path);

export const say = (error: unknown) => (error instanceof Error ? error.message : String(error));
