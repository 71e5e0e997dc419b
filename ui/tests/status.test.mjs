// @ts-check
// A public status page in a real browser, over the real program: without scripts, in both schemes, on a phone.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { launch } from './chromium.mjs';
import { LONG_MS, start, until } from './fleet.mjs';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

const program = process.env.WATCHKEEPER_PROGRAM ?? fileURLToPath(new URL('../../target/debug/watchkeeper', import.meta.url));
/** @type {Awaited<ReturnType<typeof start>>} */
let fleet;
/** @type {import('playwright-core').Browser} */
let browser;
/** @type {string} */
let url;

before(async () => {
  [fleet, browser] = await Promise.all([start(program), launch()]);
  url = `${fleet.url}status/public`;
  await until(async () => (await (await fetch(url)).text()).includes('Partial outage'), 'an outage on the page');
});
after(async () => {
  await browser?.close();
  await fleet?.stop();
});

test('without scripts it says what is wrong, and nothing of it is refused', async () => {
  const context = await browser.newContext({ javaScriptEnabled: false });
  context.setDefaultTimeout(LONG_MS);
  const page = await context.newPage();
  const complaints = /** @type {string[]} */ ([]);
  page.on('console', (said) => said.text().includes('Content Security Policy') && complaints.push(said.text()));
  await page.goto(url);
  await page.getByRole('heading', { name: 'Partial outage' }).waitFor();
  await page.getByRole('heading', { name: 'Imports: Outage' }).waitFor();
  await page.getByRole('img', { name: /days with outages: 1/ }).waitFor();
  await page.getByText('Days with outages: 1').click();
  assert.ok(await page.getByText(/\d{4}: .*min/).isVisible());
  assert.equal(await page.getByText('queue').count(), 0, 'what the page does not name is not on it');
  assert.deepEqual(complaints, []);
  await context.close();
});

test('without scripts somebody subscribes, and a link that is no good says so', async () => {
  const context = await browser.newContext({ javaScriptEnabled: false });
  context.setDefaultTimeout(LONG_MS);
  const page = await context.newPage();
  const complaints = /** @type {string[]} */ ([]);
  page.on('console', (said) => said.text().includes('Content Security Policy') && complaints.push(said.text()));
  const styles = /** @type {number[]} */ ([]);
  page.on('response', (response) => response.url().includes('status.css') && styles.push(response.status()));
  await page.goto(`${fleet.url}status/acme`);
  await page.getByLabel('E-mail address').fill('reader@example.org');
  await page.getByRole('button', { name: 'Subscribe' }).click();
  await page.getByRole('heading', { name: 'Please look at your mail' }).waitFor();
  await page.goto(`${fleet.url}status/acme/subscription/${'x'.repeat(43)}`);
  await page.getByRole('heading', { name: 'This link is no longer good' }).waitFor();
  assert.ok(styles.length > 0 && styles.every((status) => status === 200), `the style has come: ${styles}`);
  assert.deepEqual(complaints, []);
  await context.close();
});

test('the form is fit for everybody', async () => {
  const context = await browser.newContext({ viewport: { width: 320, height: 800 } });
  context.setDefaultTimeout(LONG_MS);
  const page = await context.newPage();
  await page.goto(`${fleet.url}status/acme`);
  assert.ok((await page.evaluate(() => document.documentElement.scrollWidth)) <= 320, 'nothing is wider than the screen');
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => /** @type {any} */ (window).axe.run({ resultTypes: ['violations'] }));
  assert.deepEqual(violations.map((/** @type {{ id: string, nodes: unknown }} */ one) => [one.id, JSON.stringify(one.nodes)]), []);
  await context.close();
});

for (const colorScheme of /** @type {const} */ (['light', 'dark'])) {
  for (const width of [1280, 390, 320]) {
    test(`it is fit for everybody: ${colorScheme}, ${width} wide`, async () => {
      const context = await browser.newContext({ colorScheme, viewport: { width, height: 800 } });
      context.setDefaultTimeout(LONG_MS);
      const page = await context.newPage();
      await page.goto(url);
      assert.ok((await page.evaluate(() => document.documentElement.scrollWidth)) <= width, 'nothing is wider than the screen');
      const ground = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
      assert.equal(ground, colorScheme === 'light' ? 'rgb(246, 247, 249)' : 'rgb(14, 17, 22)', 'the style has come');
      await page.evaluate(axe);
      const { violations } = await page.evaluate(() => /** @type {any} */ (window).axe.run({ resultTypes: ['violations'] }));
      assert.deepEqual(violations.map((/** @type {{ id: string, nodes: unknown }} */ one) => [one.id, JSON.stringify(one.nodes)]), []);
      await context.close();
    });
  }
}
