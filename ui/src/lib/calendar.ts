// What falls on which day, by the reader's clock.

export interface Entry {
  kind: 'maintenance' | 'silence';
  /** The window's name, or what the silence is about. */
  name: string;
  from: number;
  to: number;
  why?: string;
  /** Where it is changed, if it can be. */
  href?: string;
}

export interface Day {
  begin: Date;
  entries: Entry[];
}

/** Monday of the week in which a time lies. */
export function monday(time: number) {
  const date = new Date(time);
  date.setHours(0, 0, 0, 0);
  date.setDate(date.getDate() - ((date.getDay() + 6) % 7));
  return date;
}

/** So many days on; a day with a change of the clock is one too. */
export const later = (date: Date, days: number) => new Date(date.getFullYear(), date.getMonth(), date.getDate() + days);

/** The weeks from a Monday on, with what falls on each of their days. */
export function weeks(first: Date, count: number, entries: Entry[]): Day[][] {
  const sorted = entries.toSorted((a, b) => a.from - b.from || a.name.localeCompare(b.name));
  return Array.from({ length: count }, (_, week) =>
    Array.from({ length: 7 }, (_, nth) => {
      const begin = later(first, week * 7 + nth);
      const end = later(begin, 1).getTime();
      return { begin, entries: sorted.filter((one) => one.from < end && one.to > begin.getTime()) };
    }),
  );
}

export const dayOf = (date: Date) => `${date.getFullYear()}-${String(date.getMonth() + 1).padStart(2, '0')}-${String(date.getDate()).padStart(2, '0')}`;
