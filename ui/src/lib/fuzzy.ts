// Finds what somebody means by a few letters: each part of what was written must be there, its letters in their order.

/** How well a part fits a text, both in small letters; less than nothing if it does not. Wholes and beginnings of words fit best. */
export function fit(part: string, text: string): number {
  const whole = text.indexOf(part);
  if (whole >= 0) return 100 + (whole === 0 ? 60 : begins(text, whole) ? 40 : 0) - Math.min(text.length - part.length, 40) / 2;
  let [score, last] = [0, -1];
  for (const letter of part) {
    const found = text.indexOf(letter, last + 1);
    if (found < 0) return -1;
    score += found === last + 1 ? 6 : begins(text, found) ? 5 : -1;
    last = found;
  }
  return score > 0 ? score : -1;
}

const begins = (text: string, at: number) => at === 0 || /[^\p{L}\p{N}]/u.test(text[at - 1]!);

/** The best of them, best first; as they come if nothing is asked for. */
export function best<T>(asked: string, all: readonly T[], text: (one: T) => string, most: number): T[] {
  const parts = asked.toLowerCase().split(/\s+/).filter(Boolean);
  if (parts.length === 0) return all.slice(0, most);
  const found: { one: T; score: number }[] = [];
  for (const one of all) {
    const inText = text(one);
    let score = 0;
    for (const part of parts) {
      const fits = fit(part, inText);
      score = fits < 0 || score < 0 ? -1 : score + fits;
    }
    if (score >= 0) found.push({ one, score });
  }
  // The sort is stable: of two that fit alike the earlier one stays so.
  return found.sort((a, b) => b.score - a.score).slice(0, most).map(({ one }) => one);
}
