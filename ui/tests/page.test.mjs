// @ts-check
// The page in a real browser, over the real program: `node --test tests/`, with the program's path in WATCHKEEPER_PROGRAM.
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
/** @type {import('playwright-core').Page} */
let page;
const complaints = /** @type {string[]} */ ([]);

before(async () => {
  [fleet, browser] = await Promise.all([start(program), launch()]);
  const context = await browser.newContext({ locale: 'en-GB', viewport: { width: 1280, height: 900 } });
  context.setDefaultTimeout(LONG_MS);
  page = await context.newPage();
  page.on('pageerror', (error) => complaints.push(error.message));
  page.on('console', (said) => said.text().includes('Content Security Policy') && complaints.push(said.text()));
});
after(async () => {
  await browser?.close();
  await fleet?.stop();
});

const card = () => page.getByRole('article', { name: 'shop' });
const row = () => page.locator('[data-monitor=shop]');

const PASSWORD = 'four plain words here';

test('the first start asks for an administrator, and takes nobody without the code that it printed', async () => {
  await page.goto(fleet.url);
  await page.getByRole('heading', { name: 'Become the first administrator' }).waitFor();
  await page.getByLabel('Code from the start').fill('ABCD-EFGH-JKLM-NPQR');
  await page.getByLabel('Name').fill('Ann');
  await page.getByLabel('Password').fill(PASSWORD);
  await page.getByRole('button', { name: 'Create and sign in' }).click();
  await page.getByText('The code is not right').waitFor();
  await page.getByLabel('Code from the start').fill(fleet.code().toLowerCase());
  await page.keyboard.press('Enter');
  await row().getByText('up', { exact: true }).waitFor();
  await page.getByText('Live', { exact: true }).waitFor();
  const shown = await page.evaluate(() => document.cookie + JSON.stringify(localStorage) + JSON.stringify(sessionStorage));
  assert.ok(!shown.includes('wk') && !shown.includes('plain words'), shown);
  await page.reload();
  await row().waitFor();
});

test('signed out is signed out, and a wrong token or password is refused in words', async () => {
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.getByRole('button', { name: 'Sign in' }).waitFor();
  await page.reload();
  await page.getByLabel('Name').fill('ann');
  await page.getByLabel('Password').fill('four other words here');
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByText('The name or the password is not right').waitFor();
  await page.getByRole('button', { name: 'Use an access token' }).click();
  await page.getByLabel('Access token').fill('wk_wrong');
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByText('This token is not known').waitFor();
  await page.getByLabel('Access token').fill(fleet.token);
  await page.keyboard.press('Enter');
  await row().getByText('up', { exact: true }).waitFor();
  assert.ok(!page.url().includes('wk_'), page.url());
  assert.equal(await page.evaluate(() => JSON.stringify(localStorage).includes('wk_')), false);
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.getByLabel('Name').fill('ann');
  await page.getByLabel('Password').fill(PASSWORD);
  await page.keyboard.press('Enter');
  await row().getByText('up', { exact: true }).waitFor();
  await page.getByText('Live', { exact: true }).waitFor();
});

test('whoever has an account elsewhere signs in there, and a failure is said in words', async () => {
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.goto(`${fleet.url}?signin=expired`);
  await page.getByText('took too long, or began in another browser').waitFor();
  assert.equal(new URL(page.url()).search, '', 'a reload does not say it again');
  await page.getByRole('link', { name: 'Example SSO' }).click();
  await row().getByText('up', { exact: true }).waitFor();
  assert.deepEqual((await page.context().cookies()).map((cookie) => cookie.name), ['watchkeeper']);
  await page.reload();
  await row().waitFor();
});

test('an administrator makes and removes users and tokens, and all of it is in the log', async () => {
  await page.keyboard.press('g');
  await page.keyboard.press('p');
  const people = page.getByRole('region', { name: 'Users' });
  await people.getByLabel('Name').fill('Bob');
  await people.locator('form select').selectOption('viewer');
  await people.getByLabel('Password').fill(PASSWORD);
  await people.getByRole('button', { name: 'Add' }).click();
  await people.getByRole('listitem').filter({ hasText: 'Bob' }).waitFor();
  await people.getByLabel('Role: Bob').selectOption('operator');
  const log = page.getByRole('region', { name: 'Who changed what' });
  await log.getByText('Bob, role operator instead of viewer').waitFor();
  const tokens = page.getByRole('region', { name: 'Access tokens' });
  await tokens.getByLabel('Name').fill('grafana');
  await tokens.getByRole('button', { name: 'Add' }).click();
  const token = await tokens.locator('p.secret').textContent();
  assert.equal((await fetch(`${fleet.url}api/v1/me`, { headers: { authorization: `Bearer ${token}` } })).status, 200);
  page.on('dialog', (dialog) => void dialog.accept());
  await tokens.getByRole('button', { name: 'Remove: grafana' }).click();
  await tokens.getByText('grafana').waitFor({ state: 'detached' });
  assert.equal((await fetch(`${fleet.url}api/v1/me`, { headers: { authorization: `Bearer ${token}` } })).status, 401);
  await people.getByRole('button', { name: 'Remove: Bob' }).click();
  await people.getByText('Bob').waitFor({ state: 'detached' });
  await page.keyboard.press('g');
  await page.keyboard.press('d');
  await row().waitFor();
});

test('a monitor is made, tried, changed and removed in the page, and what is in a file says where', async () => {
  await page.keyboard.press('c');
  await page.getByRole('heading', { name: 'New monitor' }).waitFor();
  await until(() => page.evaluate(() => document.activeElement?.id === 'f-name'), 'the focus');
  await page.keyboard.type('made here');
  await page.getByRole('button', { name: 'Create', exact: true }).click();
  await page.locator('#f-probe-http-url-fault', { hasText: '`url` is missing' }).waitFor();
  await page.getByLabel('URL').fill(`${fleet.good}made?token=s3cret`);
  await page.getByRole('button', { name: 'Test now' }).click();
  const tried = page.getByRole('region', { name: 'Test now' });
  await tried.getByText('up', { exact: true }).waitFor();
  await tried.getByText('First byte').waitFor();
  await page.getByLabel('Every').fill('1s');
  await page.getByLabel('Labels').fill('team=web, tier=1');
  await page.getByLabel('As the configuration says').uncheck();
  await page.getByLabel('ops').check();
  await page.getByRole('button', { name: 'Create', exact: true }).click();
  await page.getByRole('heading', { name: 'made here' }).waitFor();
  const made = await fleet.api('monitors/made%20here');
  assert.deepEqual(made.made.body, { name: 'made here', probe: { http: { url: `${fleet.good}made?token=***` } }, every: '1s', labels: { team: 'web', tier: '1' }, notify: ['ops'] });
  await page.getByText('Made here by Ann').waitFor();

  await page.getByRole('link', { name: 'Change', exact: true }).click();
  await page.getByLabel('Name', { exact: true }).fill('made there');
  await page.getByLabel('Every').fill('soon');
  await page.getByRole('button', { name: 'Save' }).click();
  await page.locator('#f-every-fault', { hasText: 'found `soon`' }).waitFor();
  await page.getByLabel('Every').fill('2s');
  await page.getByRole('button', { name: 'As YAML' }).click();
  const text = page.getByRole('textbox', { name: 'As YAML' });
  assert.match(await text.inputValue(), /^name: made there\nlabels:\n {2}team: web\n {2}tier: "1"\nprobe:\n {2}http:\n {4}url: .*token=\*\*\*"\nevery: 2s\n/);
  await text.fill((await text.inputValue()) + 'down_after: 4 # in a row\n');
  await page.getByRole('button', { name: 'Save' }).click();
  await page.getByRole('heading', { name: 'made there' }).waitFor();
  const changed = await fleet.api(`monitors/${made.uid}`);
  assert.deepEqual([changed.name, changed.made.body.down_after, changed.made.body.every], ['made there', 4, '2s']);
  await until(async () => (await fleet.api(`monitors/${made.uid}`)).health === 'up', 'it is well, with the secret that was not shown');

  await page.getByRole('button', { name: 'Pause' }).click();
  await page.getByRole('button', { name: 'Resume' }).click();
  await page.getByRole('button', { name: 'Pause' }).waitFor();
  await page.getByRole('button', { name: 'Remove' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Cancel' }).click();
  await page.getByRole('button', { name: 'Remove' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Remove' }).click();
  await row().waitFor();
  await page.locator('[data-monitor="made there"]').waitFor({ state: 'detached' });
  await row().getByRole('link').first().click();
  await page.getByText(/Defined in .*watchkeeper\.yaml:\d+; read-only here/).waitFor();
  assert.equal(await page.getByRole('link', { name: 'Change', exact: true }).count(), 0);
  await page.keyboard.press('g');
  await page.keyboard.press('d');
  await row().waitFor();
});

test('a monitor goes down and comes back before one’s eyes, and somebody takes it on', async () => {
  await page.evaluate(() => void document.body.setAttribute('data-loaded', 'once'));
  fleet.shop.down = true;
  await card().getByText('Nobody is on it').waitFor();
  await row().getByText('down', { exact: true }).waitFor();
  assert.match(await page.title(), /^\(\d+\) /);
  await card().getByRole('button', { name: 'I’m on it' }).click();
  await card().getByText(/is on it/).filter({ hasNotText: 'Nobody' }).waitFor();
  const [taken] = (await fleet.api('incidents?status=acknowledged')).items;
  assert.equal(taken.monitor.name, 'shop');
  fleet.shop.down = false;
  await card().waitFor({ state: 'detached' });
  await row().getByText('up', { exact: true }).waitFor();
  assert.equal(await page.getAttribute('body', 'data-loaded'), 'once', 'without a reload');
});

test('what happens while the line is cut is there when it is mended, and the cut is shown', async () => {
  await fleet.crash();
  await page.getByText('Connection lost', { exact: true }).first().waitFor();
  await page.getByRole('alert').getByText('Connection lost').waitFor();
  fleet.shop.down = true;
  await fleet.again();
  await page.getByText('Live', { exact: true }).waitFor();
  await card().waitFor();
  assert.equal(await page.getByRole('alert').count(), 0);
  assert.equal(await page.getAttribute('body', 'data-loaded'), 'once', 'without a reload');
});

test('the keyboard is enough', async () => {
  await page.keyboard.press('/');
  await page.keyboard.type('team=web service-0003');
  await until(async () => (await page.locator('[data-row]').count()) === 1, 'the one that was searched for');
  await page.keyboard.press('Escape');
  const cards = await page.locator('[data-nth]').count();
  for (let nth = 0; nth <= cards; nth += 1) await page.keyboard.press('j');
  await until(() => page.evaluate(() => document.activeElement?.textContent === 'service-0003'), 'the focus');
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { name: 'service-0003' }).waitFor();
  await page.keyboard.press('g');
  await page.keyboard.press('i');
  await page.getByRole('heading', { name: 'Incidents', level: 1 }).waitFor();
  await page.keyboard.press('?');
  await page.getByRole('dialog').waitFor();
  await page.keyboard.press('Escape');
});

test('an incident is told of, spoken about and ended', async () => {
  await page.getByRole('link', { name: 'shop' }).first().click();
  await page.getByLabel('Comment').fill('the database is full');
  await page.getByRole('button', { name: 'Add comment' }).click();
  await page.getByText('the database is full').first().waitFor();
  await page.getByRole('row', { name: /ops.*began/ }).waitFor();
  await page.getByRole('button', { name: 'It is over' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'It is over' }).click();
  await page.getByText('resolved', { exact: true }).first().waitFor();
});

test('a silence is asked for and ended', async () => {
  await page.keyboard.press('g');
  await page.keyboard.press('s');
  await page.getByLabel('Monitors').fill('service-*');
  await page.getByLabel('Why').fill('a move');
  await page.getByRole('button', { name: 'Silence', exact: true }).click();
  await page.getByText('about 12 monitors').waitFor();
  await page.getByRole('button', { name: 'End now' }).click();
  await page.getByText('Nothing is silenced.').waitFor();
});

test('nothing on any page keeps anybody out, in light and dark, wide and narrow', async () => {
  const incident = (await fleet.api('incidents?limit=1')).items[0].uid;
  const monitor = (await fleet.api('monitors/shop')).uid;
  for (const place of ['', `monitors/${monitor}`, 'incidents', `incidents/${incident}`, 'messages', 'silences', 'nodes', 'people', 'new']) {
    for (const colorScheme of /** @type {const} */ (['light', 'dark'])) {
      for (const width of [1280, 390]) {
        await page.emulateMedia({ colorScheme });
        await page.setViewportSize({ width, height: 844 });
        await page.goto(`${fleet.url}#/${place}`);
        await page.getByRole('heading', { level: 1 }).first().waitFor();
        await until(() => page.evaluate(() => !document.body.textContent?.includes('…')), `all of ${place}`);
        const beyond = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
        assert.ok(beyond <= 0, `/${place} at ${width} px is ${beyond} px too wide`);
        await page.evaluate(axe);
        const found = await page.evaluate(() => /** @type {any} */ (window).axe.run({ resultTypes: ['violations'] }));
        const serious = found.violations.filter((/** @type {any} */ one) => ['serious', 'critical'].includes(one.impact));
        const said = serious.map((/** @type {any} */ one) => `${one.id}: ${one.nodes.map((/** @type {any} */ node) => `${node.target} ${node.any[0]?.message ?? ''}`).join('; ')}`);
        assert.deepEqual(said, [], `/${place} in ${colorScheme} at ${width} px`);
      }
    }
  }
});

test('it speaks Russian too, and nothing was refused by its own policy', async () => {
  await page.setViewportSize({ width: 1280, height: 900 });
  await page.getByRole('button', { name: 'Русский' }).click();
  await page.getByRole('link', { name: 'Инциденты' }).waitFor();
  assert.equal(await page.getAttribute('html', 'lang'), 'ru');
  assert.deepEqual(complaints, []);
});
