// What `npm run check` refuses: calls that the OpenAPI document does not know. A line of these that is no error any more is one itself.
import { end, get, patch, post } from '../src/lib/api';

export const refused = [
  // @ts-expect-error There is no such path,
  () => get('monitor'),
  // @ts-expect-error nor such a method of one,
  () => end('incidents/{id}', { path: { id: 'x' } }),
  // @ts-expect-error which monitor is not said,
  () => get('monitors/{id}'),
  // @ts-expect-error its name is another,
  () => get('monitors/{id}', { path: { name: 'x' } }),
  // @ts-expect-error a query is misspelt,
  () => get('incidents', { query: { state: 'open' } }),
  // @ts-expect-error a body lacks a field,
  () => post('users', { body: { name: 'ann', role: 'viewer' } }),
  // @ts-expect-error has a word that is none,
  () => patch('users/{id}', { path: { id: 'x' }, body: { role: 'owner' } }),
  // @ts-expect-error is missing,
  () => post('incidents/{id}/comments', { path: { id: 'x' } }),
  // @ts-expect-error and no answer has a field that is not in the document.
  async () => (await get('monitors/{id}', { path: { id: 'x' } })).state,
  // @ts-expect-error What may be null is not used as if it were there,
  async () => (await get('monitors/{id}', { path: { id: 'x' } })).since.length,
  // @ts-expect-error and a word is compared with none that it cannot be.
  async () => (await get('monitors/{id}', { path: { id: 'x' } })).health === 'dead',
];
