// @ts-check
// Every package of the page, and of its tools, has a licence that may be used; what reaches the program is permissive.
import { readFileSync } from 'node:fs';

const SHIPPED = ['0BSD', 'Apache-2.0', 'BSD-2-Clause', 'BSD-3-Clause', 'ISC', 'MIT'];
/** Tools stay on the machine that builds; lightningcss and axe-core are under the MPL, and what makes types of the OpenAPI document needs argparse and type-fest. */
const TOOLS = [...SHIPPED, 'MPL-2.0', 'Python-2.0', '(MIT OR CC0-1.0)'];
const IN_PAGE = ['svelte', 'uplot', 'esm-env', 'clsx', 'devalue'];

const { packages } = JSON.parse(readFileSync(new URL('../package-lock.json', import.meta.url), 'utf8'));
const bad = Object.entries(packages).filter(([path, { license }]) => {
  const name = path.split('node_modules/').at(-1) ?? '';
  return path !== '' && !(IN_PAGE.includes(name) ? SHIPPED : TOOLS).includes(license);
});
for (const [path, { license }] of bad) console.error(`${path}: ${license ?? 'no licence named'}`);
process.exit(bad.length > 0 ? 1 : 0);
