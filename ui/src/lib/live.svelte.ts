import { headers } from './api';

export interface LiveEvent {
  kind: string;
  data: Record<string, unknown>;
}

/** The server speaks every 15 s; after so long a silence the line is dead, whatever the socket thinks. */
const SILENCE_MS = 35_000;
const RETRY_MS = [500, 1_000, 2_000, 5_000, 10_000];

/** The stream of events: read by fetch, because EventSource cannot send a token but in the address. */
class Live {
  state = $state<'connecting' | 'live' | 'lost'>('connecting');
  /** When the server last said anything. */
  heard = $state(Date.now());
  #place = '';
  #failures = 0;
  #stop: AbortController | null = null;
  #listeners = new Set<(event: LiveEvent) => void>();

  /** Hears every event until the returned function is called. */
  listen(listener: (event: LiveEvent) => void) {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** Loads anew once events of these kinds have been quiet for so long, until the returned function is called: many come together. */
  reload(load: () => unknown, wanted: (kind: LiveEvent['kind']) => boolean, quiet_ms: number) {
    let timer = 0;
    const forget = this.listen(({ kind }) => {
      if (!wanted(kind)) return;
      clearTimeout(timer);
      timer = window.setTimeout(() => void load(), quiet_ms);
    });
    return () => {
      clearTimeout(timer);
      forget();
    };
  }

  start() {
    this.stop();
    this.#place = '';
    this.#failures = 0;
    this.state = 'connecting';
    this.#stop = new AbortController();
    void this.#run(this.#stop.signal);
  }

  stop() {
    this.#stop?.abort();
    this.#stop = null;
  }

  async #run(stop: AbortSignal) {
    while (!stop.aborted) {
      try {
        await this.#read(stop);
      } catch {
        // Said by `state`.
      }
      if (stop.aborted) return;
      // A stream that ends in good order after its hour comes back at once, and nobody needs to know.
      if (this.#failures > 0 || this.state !== 'live') this.state = 'lost';
      const wait = RETRY_MS[Math.min(this.#failures, RETRY_MS.length - 1)]!;
      this.#failures += 1;
      await new Promise((done) => setTimeout(done, wait + Math.random() * wait * 0.3));
    }
  }

  async #read(stop: AbortSignal) {
    const quiet = new AbortController();
    let timer = 0;
    const alive = () => {
      this.heard = Date.now();
      clearTimeout(timer);
      timer = window.setTimeout(() => quiet.abort(), SILENCE_MS);
    };
    const ask: Record<string, string> = { ...headers(), accept: 'text/event-stream' };
    if (this.#place) ask['last-event-id'] = this.#place;
    timer = window.setTimeout(() => quiet.abort(), SILENCE_MS);
    try {
      const response = await fetch('api/v1/stream/events', { headers: ask, cache: 'no-store', signal: AbortSignal.any([stop, quiet.signal]) });
      if (!response.ok || !response.body) throw new Error(response.statusText);
      const returned = this.state === 'lost';
      this.state = 'live';
      this.#failures = 0;
      alive();
      if (returned) this.#tell({ kind: 'returned', data: {} });
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = '';
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        alive();
        const blocks = (rest + value).split('\n\n');
        rest = blocks.pop()!;
        for (const block of blocks) this.#block(block);
      }
    } catch (error) {
      if (!stop.aborted) this.state = 'lost';
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  #block(block: string) {
    const field = (name: string) =>
      block
        .split('\n')
        .find((line) => line.startsWith(`${name}:`))
        ?.slice(name.length + 1)
        .trim();
    const [kind, id, data] = [field('event'), field('id'), field('data')];
    if (!kind) return;
    if (id) this.#place = id;
    this.#tell({ kind, data: data ? (JSON.parse(data).data ?? {}) : {} });
  }

  #tell(event: LiveEvent) {
    for (const listener of this.#listeners) listener(event);
  }
}

export const live = new Live();
