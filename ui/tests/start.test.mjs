// @ts-check
// Where nothing is configured yet: the page leads from there to the first monitor.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { launch } from './chromium.mjs';
import { LONG_MS, start, until } from './fleet.mjs';

const program = process.env.WATCHKEEPER_PROGRAM ?? fileURLToPath(new URL('../../target/debug/watchkeeper', import.meta.url));
/** @type {Awaited<ReturnType<typeof start>>} */
let fleet;
/** @type {import('playwright-core').Browser} */
let browser;

before(async () => {
  [fleet, browser] = await Promise.all([start(program, 0), launch()]);
});
after(async () => {
  await browser?.close();
  await fleet?.stop();
});

test('a newcomer is led to a channel and to the first monitor', async () => {
  const context = await browser.newContext({ locale: 'en-GB', viewport: { width: 390, height: 844 } });
  context.setDefaultTimeout(LONG_MS);
  await context.addInitScript((token) => sessionStorage.setItem('watchkeeper.token', token), fleet.token);
  const page = await context.newPage();
  await page.goto(fleet.url);
  await page.getByRole('heading', { name: 'Nothing is watched yet' }).waitFor();
  await page.getByRole('link', { name: 'New channel' }).click();
  await page.getByLabel('Name', { exact: true }).fill('ops');
  await page.getByLabel('Kind').selectOption('Webhook');
  await page.getByLabel('URL').fill(`${fleet.hook}takes`);
  await page.getByRole('button', { name: 'Create', exact: true }).click();
  await page.getByRole('region', { name: 'ops' }).waitFor();
  await page.getByRole('link', { name: 'Now' }).click();
  await page.getByText('There is: ops.').waitFor();
  await page.getByRole('link', { name: 'New monitor' }).click();
  await page.getByLabel('Name', { exact: true }).fill('first');
  await page.getByLabel('URL').fill(fleet.good);
  await page.getByLabel('Every').fill('1s');
  assert.ok(await page.getByLabel('ops').isChecked(), 'no file names a channel: whoever does not choose one would not be told');
  await page.getByRole('button', { name: 'Create', exact: true }).click();
  await page.getByRole('heading', { name: 'first' }).waitFor();
  assert.deepEqual((await fleet.api('monitors/first')).made.body.notify, ['ops']);
  await until(async () => (await fleet.api('monitors/first')).health === 'up', 'the first look');
  await page.getByRole('link', { name: 'Now' }).click();
  await page.getByRole('heading', { name: 'Everything is up' }).waitFor();
  assert.equal(await page.getByText('Nothing is watched yet').count(), 0);
});
