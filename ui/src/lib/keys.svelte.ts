// Keys: single letters while nothing is written, and `g` before the letter of a section.

const bindings = new Set<Record<string, () => void>>();
let went = 0;

/** How long after `g` its second letter may come. */
const PAIR_MS = 1_500;

/** Binds keys until the returned function is called; `g x` are written as `gx`. */
export function keys(bound: Record<string, () => void>) {
  bindings.add(bound);
  return () => void bindings.delete(bound);
}

addEventListener('keydown', (event) => {
  const target = event.target as HTMLElement;
  if (event.ctrlKey || event.metaKey || event.altKey || target.closest('input, textarea, select, dialog')) return;
  const key = Date.now() - went < PAIR_MS ? `g${event.key}` : event.key;
  went = event.key === 'g' ? Date.now() : 0;
  for (const bound of bindings) {
    if (Object.hasOwn(bound, key)) {
      event.preventDefault();
      bound[key]!();
    }
  }
});
