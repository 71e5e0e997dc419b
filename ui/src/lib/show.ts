// How numbers and times are shown.
import { counted, noted, t, words } from './words.svelte';
import type { Entry, Match, ReadyNote } from './types';

/** A duration in its two largest units. */
export function duration(seconds: number) {
  const { d, h, min, s } = words.all.units;
  const n = Math.max(0, Math.round(seconds));
  const pair = (large: number, unit: string, small: number, sub: string) => (small > 0 ? `${large} ${unit} ${small} ${sub}` : `${large} ${unit}`);
  if (n < 60) return `${n} ${s}`;
  if (n < 3_600) return n < 600 ? pair(Math.floor(n / 60), min, n % 60, s) : `${Math.floor(n / 60)} ${min}`;
  if (n < 86_400) return pair(Math.floor(n / 3_600), h, Math.floor((n % 3_600) / 60), min);
  return n < 10 * 86_400 ? pair(Math.floor(n / 86_400), d, Math.floor((n % 86_400) / 3_600), h) : `${Math.floor(n / 86_400)} ${d}`;
}

export const secondsSince = (at: string, now: number) => (now - Date.parse(at)) / 1_000;

export function ago(at: string, now: number) {
  const seconds = secondsSince(at, now);
  return seconds < 2 ? t('justNow') : t('ago', duration(seconds));
}

/** What a silence or a window is about. */
export const subject = (match: Match) =>
  [...(match.monitors ?? []), ...Object.entries(match.labels ?? {}).map(([name, value]) => `${name}=${value}`), ...(match.kinds ?? []), ...(match.rules ?? []), ...(match.severities ?? [])].join(', ') || t('everything');

/** What the server says of itself, or on a timeline. */
export const noteText = (note: ReadyNote) => noted(note, 'notes', shownValue);
export const entryText = (entry: Entry) => noted(entry, 'said', shownValue);

const SECONDS = { d: 86_400, h: 3_600, m: 60, s: 1 };

/** A value that the server has put into words: a time, a length of time (`1h30m`), days, or whatever else it is. */
function shownValue(value: string) {
  if (/^\d{4}-\d\d-\d\dT/.test(value)) return moment(value);
  if (/^(\d+[dhms])+$/.test(value)) return duration([...value.matchAll(/(\d+)([dhms])/g)].reduce((sum, [, n, unit]) => sum + Number(n) * SECONDS[unit as keyof typeof SECONDS], 0));
  const [, days] = /^(\d+) days?$/.exec(value) ?? [];
  return days === undefined ? value : counted('daysCount', Number(days));
}

/** A latency: three digits that matter. */
export function latency(us: number | null | undefined) {
  if (us === null || us === undefined) return '–';
  const { s, ms } = words.all.units;
  const digits = (n: number) => n.toLocaleString(words.language, { maximumSignificantDigits: 3 });
  if (us >= 1_000_000) return `${digits(us / 1_000_000)} ${s}`;
  return us >= 10_000 ? `${Math.round(us / 1_000)} ${ms}` : `${(us / 1_000).toLocaleString(words.language, { maximumFractionDigits: 1 })} ${ms}`;
}

/** Cut, never rounded up: 99.999 is not 100. */
export function percent(value: number | null | undefined) {
  if (value === null || value === undefined) return '–';
  const cut = Math.floor(value * 1_000) / 1_000;
  return `${cut.toLocaleString(words.language, { minimumFractionDigits: cut === 100 ? 0 : 2, maximumFractionDigits: 3 })} %`;
}

export function moment(at: string | number) {
  const date = new Date(at);
  const today = date.toDateString() === new Date().toDateString();
  return date.toLocaleString(words.language === 'ru' ? 'ru' : 'en-GB', {
    ...(today ? {} : { day: 'numeric', month: 'short', ...(date.getFullYear() === new Date().getFullYear() ? {} : { year: 'numeric' }) }),
    hour: '2-digit',
    minute: '2-digit',
    second: today ? '2-digit' : undefined,
  } as Intl.DateTimeFormatOptions);
}

export const day = (at: number) =>
  new Date(at).toLocaleDateString(words.language === 'ru' ? 'ru' : 'en-GB', { day: 'numeric', month: 'short', timeZone: 'UTC' });

/** A time on an axis whose marks are so many seconds apart. */
export function short(seconds: number, apart: number) {
  const date = new Date(seconds * 1_000);
  const language = words.language === 'ru' ? 'ru' : 'en-GB';
  if (apart >= 86_400) return date.toLocaleDateString(language, { day: 'numeric', month: 'short' });
  return date.toLocaleTimeString(language, { hour: '2-digit', minute: '2-digit', ...(apart < 60 ? { second: '2-digit' } : {}) });
}
