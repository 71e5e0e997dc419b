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
  await page.getByRole('button', { name: 'Sign in' }).waitFor();
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
  const members = page.getByRole('region', { name: 'Add a member' });
  for (const [name, said] of /** @type {const} */ ([['bob', 'is a member already'], ['nobody', 'there is no such user']])) {
    await members.getByLabel('Name').fill(name);
    await members.getByRole('button', { name: 'Add' }).click();
    await page.getByRole('alert').getByText(said).waitFor();
  }
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
  let taken = 0;
  const count = (/** @type {import('playwright-core').Request} */ asked) => void (taken += Number(asked.url().endsWith('/acknowledge')));
  page.on('request', count);
  // Nothing is chosen, so nothing is taken on.
  await page.keyboard.press('a');
  await page.keyboard.press('/');
  await page.keyboard.type('team=web service-0003');
  await until(async () => (await page.locator('[data-row]').count()) === 1, 'the one that was searched for');
  await page.keyboard.press('Escape');
  const cards = await page.locator('[data-nth]').count();
  for (let nth = 0; nth <= cards; nth += 1) await page.keyboard.press('j');
  await until(() => page.evaluate(() => document.activeElement?.textContent === 'service-0003'), 'the focus');
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { name: 'service-0003' }).waitFor();
  page.off('request', count);
  assert.equal(taken, 0);
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
  await page.getByText('Silenced: 12 monitors').waitFor();
  await page.getByRole('button', { name: 'End now' }).click();
  await page.getByText('Nothing is silenced.').waitFor();
});

test('a channel is made, tried, changed and removed in the page, and its secrets stay inside', async () => {
  await page.keyboard.press('g');
  await page.keyboard.press('h');
  const [ops, pager, night] = ['ops', 'pager', 'night'].map((name) => page.getByRole('region', { name, exact: true }));
  assert.ok(ops && pager && night);
  await ops.getByText(/Defined in .*watchkeeper\.yaml:\d+; read-only here/).waitFor();
  await ops.getByText('Last taken').waitFor();
  assert.equal(await ops.getByRole('button', { name: 'Remove' }).count(), 0);
  await pager.getByText('Not taken').waitFor();
  await pager.getByText('400').first().waitFor();
  await page.getByRole('link', { name: 'New channel' }).click();
  await until(() => page.evaluate(() => document.activeElement?.id === 'f-name'), 'the focus');
  await page.keyboard.type('night');
  await page.getByLabel('Kind').selectOption('Webhook');
  await page.getByRole('button', { name: 'Create', exact: true }).click();
  await page.locator('#f-webhook-url-fault', { hasText: 'missing' }).waitFor();
  await page.getByLabel('URL').fill(`${fleet.hook}takes/s3cret`);
  await page.getByLabel('Headers').fill('X-Team: sre\nX-Pass: hunter2, again');
  await page.getByLabel('Key of the signature').fill('hunter2');
  await page.getByRole('button', { name: 'Create', exact: true }).click();
  await night.getByRole('button', { name: 'Send a test' }).click();
  await night.getByText('Taken by the provider.').waitFor();
  const last = () => fleet.heard.findLast(({ url }) => url === '/takes/s3cret')?.headers ?? {};
  const signed = last()['x-watchkeeper-signature'];
  assert.match(String(signed), /^v1=/);

  await page.getByRole('link', { name: 'Change: night' }).click();
  await page.getByText('A secret is stored').waitFor();
  assert.equal(await page.getByLabel('Key of the signature').inputValue(), '');
  await page.getByLabel('At most so many messages').fill('soon');
  await page.getByRole('button', { name: 'Save' }).click();
  await page.locator('#f-budget-fault', { hasText: 'soon' }).waitFor();
  await page.getByLabel('At most so many messages').fill('5/min, 60/h');
  assert.ok(!(await page.content()).match(/s3cret|hunter2/), 'no secret comes back');
  await page.getByRole('button', { name: 'Save' }).click();
  await night.getByRole('button', { name: 'Send a test' }).click();
  await night.getByText('Taken by the provider.').waitFor();
  assert.deepEqual([last()['x-team'], last()['x-pass']], ['sre', 'hunter2, again'], 'what was not shown is still there');
  assert.match(String(last()['x-watchkeeper-signature']), /^v1=/);
  const made = (await fleet.api('alert-channels')).items.find((/** @type {{ name: string }} */ one) => one.name === 'night').made.body;
  assert.deepEqual(made, { name: 'night', budget: ['5/min', '60/h'], webhook: { url: `${fleet.hook}***`, secret: '***', headers: { 'X-Team': '***', 'X-Pass': '***' } } });

  await page.getByRole('link', { name: 'Change: night' }).click();
  await page.getByRole('button', { name: 'Remove it' }).click();
  await page.getByText('It will be removed.').waitFor();
  await page.getByRole('button', { name: 'Save' }).click();
  await night.getByRole('button', { name: 'Send a test' }).click();
  await night.getByText('Taken by the provider.').waitFor();
  assert.equal(last()['x-watchkeeper-signature'], undefined);
  await page.getByRole('button', { name: 'Remove: night' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Remove' }).click();
  await night.waitFor({ state: 'detached' });
});

test('maintenance is announced, is in the calendar as it will fall, and is ended', async () => {
  await page.keyboard.press('g');
  await page.keyboard.press('w');
  await page.getByRole('link', { name: 'Announce maintenance' }).click();
  await page.getByLabel('Name', { exact: true }).fill('nightly move');
  await page.getByLabel('Kind').selectOption('Again and again');
  await page.getByLabel('How often').selectOption('Every day');
  await page.getByLabel('Time of day').fill('02:30');
  await page.getByLabel('For how long').fill('90m');
  await page.getByLabel('Monitors').fill('queue, service-*');
  await page.getByRole('button', { name: 'Create', exact: true }).click();
  const falls = page.getByRole('table').getByRole('link', { name: 'nightly move' });
  await falls.first().waitFor();
  const weekday = (new Date().getDay() + 6) % 7;
  const still = new Date().getHours() >= 4 ? 1 : 0;
  assert.equal(await falls.count(), 35 - weekday - still, 'every day from now on, to the end of the fifth week');
  await page.getByText('02:30–04:00').first().waitFor();
  const body = (await fleet.api('maintenance')).items[0].made.body;
  assert.equal(body.every.cron, '30 2 * * *');
  assert.deepEqual(body.match, { monitors: ['queue', 'service-*'] });

  await falls.first().click();
  assert.equal(await page.getByLabel('Time of day').inputValue(), '02:30');
  await page.getByLabel('How often').selectOption('On days of the week');
  await page.getByLabel('Sat').check();
  await page.getByRole('button', { name: 'Save' }).click();
  await until(async () => [8, 9, 10].includes(await falls.count()), 'two days of five weeks');
  assert.equal((await fleet.api('maintenance')).items[0].every.cron, '30 2 * * SAT,SUN');

  await page.getByRole('link', { name: 'Announce maintenance' }).click();
  await page.getByLabel('Name', { exact: true }).fill('now');
  await page.getByLabel('Monitors').fill('queue');
  await page.getByLabel('Begins').fill('2020-01-01T00:00');
  await page.getByLabel('Ends').fill('2019-01-01T00:00');
  await page.getByRole('button', { name: 'Create', exact: true }).click();
  await page.locator('#f-once-to-fault', { hasText: 'without a length' }).waitFor();
  await page.getByLabel('Ends').fill('2099-01-01T00:00');
  await page.getByRole('button', { name: 'Create', exact: true }).click();
  await page.getByText('open now, until 1 Jan 2099').waitFor();
  assert.equal((await fleet.api('monitors/queue')).mutes[0].id, 'now');
  await page.getByRole('button', { name: 'End now: now' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'End now' }).click();
  await page.getByText('open now').waitFor({ state: 'detached' });
  assert.deepEqual((await fleet.api('monitors/queue')).mutes, []);
  await page.getByRole('button', { name: 'Remove: nightly move' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Remove' }).click();
  await page.getByText('No maintenance is announced.').waitFor();
});

test('a file is taken in after its differences were seen, and everything is given out', async () => {
  await page.keyboard.press('g');
  await page.keyboard.press('t');
  const text = page.getByLabel('Its text');
  const file = (/** @type {string} */ every) => `monitors:\n  - name: imported\n    every: ${every}\n    probe: { http: { url: "${fleet.good}" } }\nroutes: []\n`;
  await text.fill('monitors: [ { name: imported, probe: {} } ]');
  await page.getByRole('button', { name: 'See what would change' }).click();
  await page.getByRole('alert').locator('code', { hasText: 'probe' }).waitFor();
  await text.fill(file('2s'));
  await page.getByRole('button', { name: 'See what would change' }).click();
  await page.getByText('1 object would change').waitFor();
  await page.getByText('only files of the server may have it: routes').waitFor();
  assert.equal((await fleet.api('monitors/imported')).code, 'not_found', 'it was only tried');
  await page.getByRole('button', { name: 'Do it' }).click();
  await page.getByText('Done: 1 changed.').waitFor();
  assert.equal((await fleet.api('monitors/imported')).made.body.every, '2s');
  await text.fill(file('3s'));
  await page.getByRole('button', { name: 'See what would change' }).click();
  const change = page.getByRole('listitem').filter({ hasText: 'imported' });
  assert.deepEqual(await Promise.all([change.locator('code').textContent(), change.locator('del').textContent(), change.locator('ins').textContent()]), ['every', '2s', '3s']);
  await page.getByRole('button', { name: 'Cancel' }).click();
  assert.equal((await fleet.api('monitors/imported')).made.body.every, '2s');
  const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'Download the file' }).click()]);
  const given = readFileSync(await download.path(), 'utf8');
  assert.match(given, /name: imported/);
  assert.match(given, /name: shop/);
  await page.getByText('SQLite').waitFor();
});

test('a few letters go anywhere and do what is done often', async () => {
  const asked = page.getByRole('combobox', { name: 'Go to, or do' });
  const said = page.getByRole('dialog').getByRole('status');
  await page.getByLabel('Its text').focus();
  await page.keyboard.press('Control+k');
  await asked.waitFor();
  await page.keyboard.type('srv 0007');
  await page.getByRole('option', { selected: true }).filter({ hasText: 'service-0007' }).waitFor();
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { name: 'service-0007' }).waitFor();
  await page.keyboard.press('/');
  await asked.fill('pause imp');
  await page.getByRole('option', { selected: true }).filter({ hasText: 'Pause: imported' }).waitFor();
  await page.keyboard.press('Enter');
  await said.getByText('imported: paused').waitFor();
  assert.equal((await fleet.api('monitors/imported')).paused, true);
  // What has come in its place is not meant.
  assert.equal(await page.getByRole('option', { selected: true }).count(), 0);
  await page.keyboard.press('Enter');
  await said.getByText('imported: paused').waitFor();
  await asked.fill('nothing is called so');
  await said.getByText('Nothing is called so.').waitFor();
  await asked.fill('test now service-0001');
  await page.keyboard.press('Enter');
  await said.getByText(/service-0001: up/).waitFor();
  await asked.fill('ops');
  await page.keyboard.press('ArrowDown');
  await page.getByRole('option', { selected: true }).filter({ hasText: 'Send a test: ops' }).waitFor();
  assert.equal(await asked.getAttribute('aria-activedescendant'), await page.getByRole('option', { selected: true }).getAttribute('id'));
  await page.keyboard.press('Escape');
  await asked.waitFor({ state: 'detached' });
});

test('among five thousand monitors it finds the one at once', async () => {
  const other = await page.context().newPage();
  const one = await fleet.api('monitors/queue');
  const items = Array.from({ length: 5_000 }, (_, nth) => ({ ...one, uid: `u${nth}`, name: `edge-${nth}-fra` }));
  await other.route(/api\/v1\/overview/, (route) => route.fulfill({ json: { items } }));
  await other.goto(fleet.url);
  await other.locator('[data-monitor=edge-0-fra]').waitFor();
  await other.keyboard.press('Control+k');
  await other.getByRole('combobox').fill('edge49');
  const took = await other.evaluate(async () => {
    const box = /** @type {HTMLInputElement} */ (document.querySelector('[role=combobox]'));
    const begun = performance.now();
    box.value = 'edge4999';
    box.dispatchEvent(new InputEvent('input', { bubbles: true }));
    await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
    return performance.now() - begun;
  });
  await other.getByRole('option', { selected: true }).filter({ hasText: 'edge-4999-fra' }).waitFor();
  assert.ok(took < 1_000, `${took} ms from the letter to the list`);
  await other.close();
});

test('the history is zoomed by keyboard and mouse, and incidents lie on its axis', async () => {
  await page.goto(`${fleet.url}#/monitors/${(await fleet.api('monitors/shop')).uid}`);
  const history = page.getByRole('region', { name: 'History' });
  await history.getByRole('link', { name: /^down · critical/ }).first().waitFor();
  await history.locator('canvas').waitFor();
  const asks = () => page.waitForRequest((request) => request.url().includes('/metrics?from='));
  const span = (/** @type {import('playwright-core').Request} */ request) => {
    const asked = new URL(request.url()).searchParams;
    return (Date.parse(asked.get('to') ?? '') - Date.parse(asked.get('from') ?? '')) / 1_000;
  };
  await history.locator('.zoom').focus();
  const [closer] = await Promise.all([asks(), page.keyboard.press('+')]);
  assert.ok(Math.abs(span(closer) - 12.5 * 3_600) < 3_600, `half of a day and its first hour, not ${span(closer)} s`);
  await closer.response();
  await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
  const canvas = await history.locator('.u-over').boundingBox();
  assert.ok(canvas);
  const drawn = asks();
  await page.mouse.move(canvas.x + canvas.width * 0.5, canvas.y + 60);
  await page.mouse.down();
  await page.mouse.move(canvas.x + canvas.width * 0.75, canvas.y + 60, { steps: 4 });
  await page.mouse.up();
  const share = span(await drawn) / span(closer);
  assert.ok(Math.abs(share - 0.25) < 0.05, `a quarter, not ${share}`);
  await history.getByRole('button', { name: 'Whole period' }).click();
  await history.getByRole('button', { name: 'Whole period', disabled: true }).waitFor();
});

test('whoever belongs to several tenants changes between them, and the stream follows', async () => {
  const chosen = page.getByRole('combobox', { name: 'Tenant' });
  assert.equal(await chosen.count(), 0, 'there is nothing to choose');
  await fleet.crash();
  fleet.command('user', 'role', 'ann', 'operator', '--tenant', 'acme');
  await fleet.again();
  await page.goto(fleet.url);
  await page.reload();
  await chosen.waitFor();
  assert.equal(await chosen.inputValue(), 'default');
  await chosen.selectOption('acme');
  const till = page.locator('[data-monitor=till]');
  await till.waitFor();
  await page.getByText('Live', { exact: true }).waitFor();
  assert.equal(await row().count(), 0, 'nothing of the other tenant is left');
  // No list is read anew so soon: what happens there comes by the stream.
  await page.evaluate(async () => {
    const answer = await fetch('api/v1/monitors/till', { headers: { 'x-tenant-id': 'acme' } });
    await fetch(`api/push/${(await answer.json()).push_token}`);
  });
  await till.getByText('up', { exact: true }).waitFor();
  await page.reload();
  await till.waitFor();
  assert.equal(await chosen.inputValue(), 'acme', 'the tab stays there');
  await page.keyboard.press('Control+k');
  await page.keyboard.type('switch tenant default');
  await page.getByRole('option', { selected: true }).filter({ hasText: 'default' }).waitFor();
  await page.keyboard.press('Enter');
  await row().waitFor();
  assert.equal(await chosen.inputValue(), 'default');
});

test('a status page is made in the page, strangers see it, and it says what is wrong after two clicks', async () => {
  const outside = await browser.newContext({ javaScriptEnabled: false });
  outside.setDefaultTimeout(LONG_MS);
  const stranger = await outside.newPage();
  const visit = async (/** @type {string} */ text) => {
    await stranger.goto(`${fleet.url}status/strangers`);
    return until(async () => (await stranger.getByText(text).count()) > 0 || (await stranger.reload(), false), `“${text}” on the page`);
  };
  await page.goto(fleet.url);
  await page.getByRole('heading', { level: 1 }).first().waitFor();
  await page.keyboard.press('g');
  await page.keyboard.press('u');
  const file = page.getByRole('region', { name: 'Example', exact: true });
  await file.getByText('watchkeeper.yaml:').waitFor();
  assert.equal(await file.getByRole('button').count(), 0, 'what is in a file is changed there');
  await page.getByRole('link', { name: 'New status page' }).click();
  await page.getByLabel('Place').fill('public');
  await page.getByLabel('Heading', { exact: true }).fill('For everybody');
  await page.getByLabel('Add a monitor').selectOption('legacy-import');
  await page.getByLabel('Name on the page: legacy-import').fill('Imports');
  await page.getByLabel('Add a monitor').selectOption('queue');
  await page.getByRole('button', { name: 'queue further up' }).click();
  await page.getByRole('button', { name: 'New group' }).click();
  await page.getByLabel('Heading of group 2').fill('Behind it');
  await page.getByLabel('And every monitor with these labels').nth(1).fill('team=web');
  await page.getByRole('button', { name: 'Create', exact: true }).click();
  await page.getByText('the status page `public` is in the configuration file').waitFor();
  await page.getByLabel('Place').fill('strangers');

  // It is seen before it is there, as strangers would see it.
  await page.getByRole('button', { name: 'Preview' }).click();
  const frame = page.frameLocator('iframe');
  await frame.getByRole('heading', { name: 'For everybody' }).waitFor();
  assert.notEqual(await frame.locator('body').evaluate((body) => getComputedStyle(body).backgroundColor), 'rgba(0, 0, 0, 0)', 'in its own style');
  assert.equal((await stranger.goto(`${fleet.url}status/strangers`))?.status(), 404);
  await page.getByRole('button', { name: 'Create', exact: true }).click();
  const ours = page.getByRole('region', { name: 'For everybody' });
  assert.match((await ours.getByRole('link', { name: '/status/strangers' }).getAttribute('href')) ?? '', /status\/strangers$/);
  await visit('Imports');
  const names = await stranger.locator('li h3').allTextContents();
  assert.deepEqual(names.slice(0, 2), ['queue', 'Imports'], 'in its order, under the names that it gives');
  assert.ok(names.includes('shop') && !names.includes('service-0000'), 'by label too, and nothing else');

  // At three in the morning.
  const incident = (await fleet.api('incidents?limit=50')).items.find((/** @type {any} */ one) => one.monitor.name === 'legacy-import');
  await page.goto(`${fleet.url}#/incidents/${incident.uid}`);
  await page.getByRole('link', { name: 'Say it on a status page' }).click();
  await page.getByRole('button', { name: 'Publish on For everybody' }).click();
  await page.getByRole('button', { name: 'Update: Imports: we are looking into it' }).click();
  await visit('Imports does not work as it should.');
  await page.getByLabel('What is new').fill('The disk was full.\nIt is being emptied.');
  await page.getByRole('button', { name: 'Publish on For everybody' }).click();
  await ours.getByText('The disk was full.').waitFor();
  await visit('It is being emptied.');
  await page.getByRole('button', { name: 'Change: Imports: we are looking into it' }).click();
  await page.getByLabel('Heading', { exact: true }).fill('Imports are late');
  await page.getByRole('button', { name: 'Save' }).click();
  await visit('Imports are late');
  await page.getByRole('button', { name: 'New message: For everybody' }).click();
  await page.getByLabel('Heading', { exact: true }).fill('A second one');
  await page.getByLabel('What strangers should know').fill('Nothing more.');
  await page.keyboard.press('Tab');
  await page.keyboard.press('Enter');
  await page.getByRole('button', { name: 'It is over: A second one' }).click();
  await ours.getByText(/on the page since .*, until /).waitFor();
  await page.getByRole('button', { name: 'Remove: A second one' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Remove' }).click();
  await ours.getByText('A second one').waitFor({ state: 'detached' });
  assert.equal((await fleet.api('status-pages/strangers')).messages.length, 1);

  // A password goes in and does not come out.
  await ours.getByRole('link', { name: 'Change: For everybody' }).click();
  await page.getByLabel('Password').fill('correct horse');
  await page.getByRole('button', { name: 'Save' }).click();
  await ours.getByText('asks for a password').waitFor();
  // A browser may show for 10 s what it has.
  assert.equal((await fetch(`${fleet.url}status/strangers`)).status, 401);
  assert.ok(!JSON.stringify(await fleet.api('status-pages')).includes('correct horse'));
  await outside.close();
});

test('two fingers pull the history apart and together, and one does not', async () => {
  const context = await browser.newContext({ locale: 'en-GB', hasTouch: true, isMobile: true, viewport: { width: 390, height: 844 }, storageState: await page.context().storageState() });
  context.setDefaultTimeout(LONG_MS);
  const phone = await context.newPage();
  const asked = /** @type {URL[]} */ ([]);
  phone.on('request', (request) => request.url().includes('/metrics?from=') && asked.push(new URL(request.url())));
  const hours = () => {
    const query = asked.at(-1)?.searchParams;
    return (Date.parse(query?.get('to') ?? '') - Date.parse(query?.get('from') ?? '')) / 3_600_000;
  };
  await phone.goto(`${fleet.url}#/monitors/${(await fleet.api('monitors/shop')).uid}`);
  const over = phone.getByRole('region', { name: 'History' }).locator('.u-over');
  await over.waitFor();
  await over.evaluate((one) => one.scrollIntoView({ block: 'center' }));
  const cdp = await context.newCDPSession(phone);
  /** Fingers at these shares of the axis. @param {'touchStart' | 'touchMove' | 'touchEnd' | 'touchCancel'} type @param {number[]} shares */
  const touch = async (type, shares) => {
    const box = await over.boundingBox();
    assert.ok(box);
    await cdp.send('Input.dispatchTouchEvent', { type, touchPoints: shares.map((share, id) => ({ id, x: box.x + box.width * share, y: box.y + 60 })) });
  };
  /** @param {[number, number]} from @param {[number, number]} to @param {'touchEnd' | 'touchCancel'} end */
  const pull = async (from, to, end = 'touchEnd') => {
    await touch('touchStart', from);
    for (const part of [0.25, 0.5, 0.75, 1]) await touch('touchMove', from.map((begin, nth) => begin + ((to[nth] ?? 0) - begin) * part));
    await touch(end, []);
  };
  /** Pulls, and waits until what was asked for is drawn. @param {[number, number]} from @param {[number, number]} to */
  const zoomed = async (from, to) => {
    const [answer] = await Promise.all([phone.waitForResponse((response) => response.url().includes('/metrics?from=')), pull(from, to)]);
    await answer.finished();
    await phone.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
    return hours();
  };
  // What was between the fingers is three times as wide: a third of a day and its first hour.
  const apart = await zoomed([0.4, 0.6], [0.2, 0.8]);
  assert.ok(Math.abs(apart - 25 / 3) < 0.7, `${apart} h`);
  await phone.getByRole('button', { name: 'Whole period', disabled: false }).waitFor();
  const together = await zoomed([0.25, 0.75], [0.375, 0.625]);
  assert.ok(Math.abs(together / apart - 2) < 0.15, `${together} h after ${apart} h`);
  // Nothing is asked for by fingers that were taken away, nor by one.
  await pull([0.4, 0.6], [0.1, 0.9], 'touchCancel');
  await touch('touchStart', [0.3]);
  await touch('touchMove', [0.7]);
  await touch('touchEnd', []);
  const half = await zoomed([0.4, 0.6], [0.3, 0.7]);
  assert.ok(Math.abs(half / together - 0.5) < 0.05, `half of what was shown before the fingers were taken away, not ${half} h`);
  assert.equal(new Set(asked.map(String)).size, 3);
  await context.close();
});

test('a worker is shown by what it does, not by where the time went', async () => {
  await page.goto(`${fleet.url}#/monitors/${(await fleet.api('monitors/bot-1')).uid}`);
  const does = (/** @type {string} */ what) => page.getByRole('list', { name: 'What the worker does' }).locator('[aria-current]', { hasText: what }).waitFor();
  const call = (/** @type {string} */ path) => fetch(`${fleet.worker}${path}`, { method: 'POST' });
  await does('Idle');
  await call('start-request?id=update-4711');
  await does('Active');
  await does('Stuck');
  await page.getByRole('listitem').filter({ hasText: 'update-4711' }).waitFor();
  assert.equal(await page.locator('li.phase').count(), 0, 'no waterfall');
  await call('end-request?id=update-4711&duration=3s');
  await does('Idle');
});

test('nothing on any page keeps anybody out, in light and dark, wide and narrow', async () => {
  const incident = (await fleet.api('incidents?limit=1')).items[0].uid;
  const [monitor, worker] = [(await fleet.api('monitors/shop')).uid, (await fleet.api('monitors/bot-1')).uid];
  for (const place of ['', `monitors/${monitor}`, `monitors/${worker}`, 'incidents', `incidents/${incident}`, 'messages', 'channels', 'channels/new', 'silences', 'maintenance', 'maintenance/new', 'status-pages', 'status-pages/new', 'status-pages/strangers/edit', 'nodes', 'people', 'settings', 'new']) {
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
  for (const place of ['', 'messages', 'channels', 'channels/new', 'silences', 'maintenance', 'maintenance/new', 'status-pages', 'status-pages/strangers/edit', 'settings', 'people', 'nodes', 'new']) {
    await page.setViewportSize({ width: 390, height: 844 });
    await page.goto(`${fleet.url}#/${place}`);
    await until(() => page.evaluate(() => !document.body.textContent?.includes('…')), `all of ${place}`);
    const beyond = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(beyond <= 0, `/${place} in Russian is ${beyond} px too wide`);
  }
  // So is what happened in an incident.
  await page.goto(`${fleet.url}#/incidents/${(await fleet.api('incidents?status=unresolved&limit=1')).items[0].uid}`);
  const course = page.getByRole('region', { name: 'Ход событий' });
  await course.getByText('Сообщено в ops').waitFor();
  // What the node says of itself is told in the reader's language.
  await page.getByRole('status').getByText(/не доставлен/).first().waitFor();
  assert.deepEqual(complaints, []);
});
