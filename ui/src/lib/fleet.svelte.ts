import { get } from './api';
import { live, type LiveEvent } from './live.svelte';
import type { Bars, Brief, Channel, Health, Incident, Metrics, MonitorBars, Ready } from './types';

/** While the stream is gone, lists are read this often instead. */
const POLL_MS = 10_000;
/** How long the first lists wait for the stream. */
const STREAM_MS = 1_000;
/** Open incidents are read at most so many; a storm is counted, not listed. */
const OPEN_MAX = 400;
/** What no event tells of (new and retired monitors, mutes) is read this often; longer where there are many. */
const REFRESH_MS = 60_000;
const REFRESH_MANY_MS = 300_000;
const MANY = 1_000;
/** A sparkline is good for so long. */
const RECENT_MS = 30_000;

export type Shown = Health | 'paused' | 'maintenance';

/** What stands in the place of the health while it is hidden. */
export function shown(monitor: Brief): Shown {
  if (monitor.paused) return 'paused';
  return monitor.health !== 'up' && monitor.mutes.some((mute) => mute.by === 'maintenance') ? 'maintenance' : monitor.health;
}

/** All monitors, what is wrong now, and the bars: read once, then kept current by the stream. */
class Fleet {
  monitors = $state.raw<Brief[]>([]);
  open = $state.raw<Incident[]>([]);
  bars = $state.raw<Bars | null>(null);
  /** The bars of each, by name. */
  days = $state.raw<Map<string, MonitorBars>>(new Map());
  ready = $state.raw<Ready | null>(null);
  /** Those that this tenant's people are told over. */
  channels = $state.raw<Channel[] | null>(null);
  loaded = $state(false);
  /** Whether the newest question was answered. */
  reached = $state(true);
  /** When the lists were last known to be true. */
  asOf = $state(0);
  recent = $state.raw<Map<string, { metrics: Metrics | null; at: number }>>(new Map());
  /** Whether there are more open incidents than were read. */
  more = $state(false);
  #byUid = new Map<string, Brief>();
  /** What the stream said since the lists were last asked for: an answer under way may be older. */
  #heard = new Map<string, Pick<Brief, 'health' | 'since' | 'why'>>();
  #flush = 0;
  #incidents = 0;
  /** An answer that a later question has overtaken is dropped. */
  #openTurn = 0;
  #timers: number[] = [];
  #unlisten = () => {};
  #reading: Promise<void> | null = null;
  #again = false;

  start() {
    this.stop();
    const unlisten = live.listen((event) => this.#hear(event));
    live.start();
    // Lists that are read after the stream has begun miss nothing; but a stream that does not come must not hold them up.
    let begun = false;
    this.#timers.push(window.setTimeout(() => !begun && void this.refresh(), STREAM_MS));
    const first = live.listen(({ kind }) => {
      if (kind !== 'connected') return;
      first();
      begun = true;
      void this.refresh();
    });
    this.#unlisten = () => [unlisten, first].forEach((forget) => forget());
    let since = Date.now();
    this.#timers.push(
      window.setInterval(() => {
        if (document.hidden && live.state === 'live') return;
        const wait = live.state === 'live' ? (this.monitors.length > MANY ? REFRESH_MANY_MS : REFRESH_MS) : POLL_MS;
        if (Date.now() - since < wait) return;
        since = Date.now();
        void this.refresh();
      }, 1_000),
    );
  }

  stop() {
    this.#unlisten();
    live.stop();
    this.#timers.forEach(clearInterval);
    this.#timers = [];
  }

  /** Reads everything; asked for meanwhile, once more after it. */
  refresh(): Promise<void> {
    if (this.#reading) this.#again = true;
    this.#reading ??= this.#read().finally(() => {
      this.#reading = null;
      if (this.#again) void this.refresh();
      this.#again = false;
    });
    return this.#reading;
  }

  /** What is wrong comes first, also on the wire; then all monitors, which can be looked through before their past is there. */
  async #read() {
    this.#heard.clear();
    try {
      const [, , channels, overview] = await Promise.all([this.readOpen(), this.#readReady(), get('alert-channels'), get('overview')]);
      this.channels = channels.items;
      const nothing = { labels: {}, paused: false, since: null, why: null, flapping: [], mutes: [] };
      this.#set(overview.items.map((brief) => ({ ...nothing, ...brief })));
      [this.loaded, this.reached] = [true, true];
      this.asOf = Date.now();
      const bars = await get('bars');
      this.days = new Map(bars.items.map((one) => [one.name, one]));
      this.bars = bars;
    } catch {
      // The line at the top says that nothing is heard; the next turn tries again.
      this.reached = false;
    }
  }

  monitor(uidOrName: string) {
    return this.monitors.find((monitor) => monitor.uid === uidOrName) ?? this.monitors.find((monitor) => monitor.name === uidOrName);
  }

  #set(monitors: Brief[]) {
    this.monitors = monitors.map((monitor) => {
      const heard = this.#heard.get(monitor.uid);
      return heard && (heard.since ?? '') > (monitor.since ?? '') ? { ...monitor, ...heard } : monitor;
    });
    this.#byUid = new Map(this.monitors.map((monitor) => [monitor.uid, monitor]));
  }

  async #readReady() {
    // 503 is an answer too: it says what is wrong.
    const response = await fetch('ready', { cache: 'no-store' }).catch(() => null);
    this.ready = response ? await response.json().catch(() => null) : null;
  }

  async readOpen() {
    // One answer of one moment: two would name an incident twice that somebody takes on between them.
    const turn = (this.#openTurn += 1);
    const page = await get('incidents', { query: { status: 'unresolved', limit: OPEN_MAX } });
    if (turn !== this.#openTurn) return;
    this.more = page.next !== null;
    const rank = { critical: 0, warning: 1, info: 2 };
    this.open = page.items.sort(
      (a, b) =>
        Number(a.status === 'acknowledged') - Number(b.status === 'acknowledged') ||
        rank[a.severity] - rank[b.severity] ||
        b.opened_at.localeCompare(a.opened_at),
    );
  }

  #hear({ kind, data }: LiveEvent) {
    if (kind === 'resync' || kind === 'returned' || kind.startsWith('silence')) return void this.refresh();
    if (kind === 'monitor_state') {
      const uid = String(data.monitor);
      this.#heard.set(uid, { health: data.health as Health, since: data.since as string, why: (data.why as string | null) ?? null });
      if (!this.#byUid.has(uid)) return void this.refresh();
      // A storm is drawn once a frame, not once an event.
      this.#flush ||= requestAnimationFrame(() => this.#apply());
    } else if (kind.startsWith('incident_') || kind === 'channels_failed') {
      clearTimeout(this.#incidents);
      this.#incidents = window.setTimeout(() => void this.readOpen().catch(() => {}), 100);
    }
  }

  #apply() {
    this.#flush = 0;
    this.#set(this.monitors);
    this.asOf = Date.now();
  }

  /** Reads the last hour of these monitors, those that are in sight, a few at a time. */
  async look(uids: string[], gone: () => boolean) {
    const stale = uids.filter((uid) => Date.now() - (this.recent.get(uid)?.at ?? 0) > RECENT_MS);
    for (let begin = 0; begin < stale.length && !gone(); begin += 6) {
      const found = await Promise.all(
        stale.slice(begin, begin + 6).map(async (uid) => {
          const metrics = await get('monitors/{id}/metrics', { path: { id: uid }, query: { period: '1h' } }).catch(() => null);
          return [uid, { metrics, at: Date.now() }] as const;
        }),
      );
      this.recent = new Map([...this.recent, ...found]);
    }
  }
}

export const fleet = new Fleet();
