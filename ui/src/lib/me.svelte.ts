import { get, token } from './api';
import { fleet } from './fleet.svelte';
import type { Me } from './types';

class Session {
  me = $state.raw<Me | null>(null);
  in = $state(token.get() !== null);
  refused = $state(false);
  may = $derived(this.me !== null && this.me.role !== 'viewer');

  async enter(text: string) {
    token.set(text.trim());
    try {
      this.me = await get<Me>('me');
      this.refused = false;
      this.in = true;
    } catch (error) {
      token.clear();
      throw error;
    }
  }

  leave(refused = false) {
    fleet.stop();
    token.clear();
    this.me = null;
    this.in = false;
    this.refused = refused;
  }
}

export const session = new Session();
