// Light or dark: as the system has it until somebody chooses.

const KEY = 'watchkeeper.theme';

class Look {
  theme = $state<string>(localStorage.getItem(KEY) ?? '');

  choose(theme: '' | 'light' | 'dark') {
    this.theme = theme;
    if (theme) localStorage.setItem(KEY, theme);
    else localStorage.removeItem(KEY);
    this.show();
  }

  turn() {
    const dark = this.theme ? this.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
    this.choose(dark ? 'light' : 'dark');
  }

  show() {
    if (this.theme) document.documentElement.dataset.theme = this.theme;
    else delete document.documentElement.dataset.theme;
  }
}

export const look = new Look();
look.show();
