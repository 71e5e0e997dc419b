// Where one is: behind the `#`, so that the page works under any path of a proxy.

const read = () => location.hash.replace(/^#\/?/, '').split('?')[0]!.split('/').map(decodeURIComponent);

class Place {
  parts = $state.raw(read());

  constructor() {
    addEventListener('hashchange', () => {
      this.parts = read();
      scrollTo(0, 0);
    });
  }

  /** What stands behind `?` in the place. */
  query(name: string) {
    return new URLSearchParams(location.hash.split('?')[1] ?? '').get(name);
  }
}

export const place = new Place();

export const at = (...parts: string[]) => `#/${parts.map(encodeURIComponent).join('/')}`;
export const go = (...parts: string[]) => void (location.hash = at(...parts));
