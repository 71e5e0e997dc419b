// An object of the API as YAML: what people write in files, and what the form sends when it shows its text.

/** At the top of an object these come first, in this order. */
const FIRST = ['name', 'labels', 'probe', 'every', 'cron', 'timeout', 'down_after', 'up_after', 'notify', 'alerts'];

const PLAIN = /^[A-Za-z0-9_/][\w ./@%+-]*$/;
const WORDS = /^(?:true|false|null|yes|no|on|off)$/i;

/** A text as it can stand there: plain where nobody could take it for something else. JSON's quotes are YAML's too. */
const scalar = (value: unknown) => (typeof value === 'string' ? (PLAIN.test(value) && !WORDS.test(value) && isNaN(Number(value)) && value.trim() === value ? value : JSON.stringify(value)) : String(value));

const isTree = (value: unknown): value is object => typeof value === 'object' && value !== null && Object.keys(value).length > 0;
const empty = (value: unknown) => (Array.isArray(value) ? '[]' : typeof value === 'object' && value !== null ? '{}' : scalar(value));

export function yaml(value: unknown, indent = ''): string {
  if (!isTree(value)) return `${indent}${empty(value)}\n`;
  if (Array.isArray(value)) {
    // The first line of an item stands behind its dash.
    return value.map((item) => `${indent}- ${inline(item) ?? yaml(item, `${indent}  `).slice(indent.length + 2)}`).join('');
  }
  const rank = (key: string) => (indent === '' && FIRST.includes(key) ? FIRST.indexOf(key) : FIRST.length);
  const keys = Object.keys(value).sort((a, b) => rank(a) - rank(b));
  return keys
    .map((key) => {
      const inner = (value as Record<string, unknown>)[key];
      const short = inline(inner);
      return short === null ? `${indent}${scalar(key)}:\n${yaml(inner, `${indent}  `)}` : `${indent}${scalar(key)}: ${short}`;
    })
    .join('');
}

/** What fits on the line of its key: single values, and lists of them. */
function inline(value: unknown): string | null {
  if (!isTree(value)) return `${empty(value)}\n`;
  return Array.isArray(value) && !value.some(isTree) ? `[${value.map((item) => (typeof item === 'string' ? JSON.stringify(item) : empty(item))).join(', ')}]\n` : null;
}
