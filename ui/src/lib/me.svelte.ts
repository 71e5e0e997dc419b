import { ApiError, get, post, tenant, token } from './api';
import { fleet } from './fleet.svelte';
import type { Me, SignIn, Tenant } from './types';

class Session {
  me = $state.raw<Me | null>(null);
  /** Whether anybody is signed in; `null` until that is known. */
  in = $state<boolean | null>(null);
  /** What signing in takes here. */
  about = $state.raw<SignIn | null>(null);
  refused = $state(false);
  /** Where whoever is signed in may act. */
  tenants = $state.raw<Tenant[]>([]);
  may = $derived(this.me !== null && this.me.role !== 'viewer');
  admin = $derived(this.me?.role === 'admin');

  /** Finds out whether the tab's token, or the browser's cookie, still opens. */
  async find() {
    // A token that opened before is shown what was there before, also while the server is away.
    if (token.get() !== null) this.in = true;
    try {
      this.me = await get('me');
      this.in = true;
      this.#readTenants();
    } catch (error) {
      // The tenant that this tab was in is closed to us by now.
      if (error instanceof ApiError && error.status === 403 && tenant.get() !== null) return this.choose(null);
      if (!this.in || (error instanceof ApiError && error.status === 401)) await this.#outside();
    }
  }

  /** Acts in another tenant from now on; `null` is the one that was signed in to. Everything on the page was of the former one. */
  choose(id: string | null) {
    if (id === null) tenant.clear();
    else tenant.set(id);
    location.hash = '';
    location.reload();
  }

  #readTenants() {
    // Without an answer there is nothing to choose from.
    get('tenants').then((page) => (this.tenants = page.items)).catch(() => {});
  }

  async #outside() {
    // The form knows what it asks for when it is there.
    this.about = await get('auth').catch(() => null);
    this.in = false;
  }

  /** Signs in with a token. */
  async enter(text: string) {
    token.set(text.trim());
    try {
      await this.#entered();
    } catch (error) {
      token.clear();
      throw error;
    }
  }

  /** Signs in by name, or becomes the first user: `enter` asks for it. The answer sets the cookie. */
  async signIn(enter: () => Promise<unknown>) {
    await enter();
    await this.#entered();
  }

  async #entered() {
    this.me = await get('me');
    this.refused = false;
    this.in = true;
    this.#readTenants();
  }

  async leave(refused = false) {
    // Nobody was signed in, and nobody is: there is nothing to say.
    if (refused && this.me === null && token.get() === null) return;
    fleet.stop();
    const byCookie = token.get() === null;
    token.clear();
    tenant.clear();
    this.me = null;
    this.tenants = [];
    this.refused = refused;
    if (byCookie && !refused) await post('auth/logout').catch(() => {});
    await this.#outside();
  }
}

export const session = new Session();
