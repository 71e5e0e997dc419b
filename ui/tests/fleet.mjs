// @ts-check
// A fleet for the page to show: real servers on loopback, and the real program that watches them, in a folder of its own.
import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

/** Nothing on loopback takes this long; what has not come by then does not come. */
export const LONG_MS = 30_000;

/** @param {() => unknown} look @param {string} what */
export async function until(look, what) {
  for (const begun = Date.now(); Date.now() - begun < LONG_MS; await new Promise((done) => setTimeout(done, 50))) {
    try {
      const found = await look();
      if (found) return found;
    } catch {
      // Not yet.
    }
  }
  throw new Error(`${what} did not come within ${LONG_MS / 1_000} s`);
}

/** @param {import('node:http').RequestListener} answer @param {number} port */
async function listening(answer, port = 0) {
  const server = createServer(answer);
  await new Promise((done) => server.listen(port, '127.0.0.1', () => done(null)));
  const address = server.address();
  if (!address || typeof address === 'string') throw new Error('no port');
  return { server, port: address.port };
}

/** An OpenID Connect issuer at which whoever comes is signed in as ann. */
async function issuer() {
  let url = '';
  /** @type {Map<string, string>} */
  const nonces = new Map();
  const part = (/** @type {unknown} */ value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const { server, port } = await listening((request, answer) => {
    const asked = new URL(request.url ?? '', url);
    const json = (/** @type {unknown} */ value) => answer.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(value));
    if (asked.pathname === '/.well-known/openid-configuration') {
      json({ issuer: url, authorization_endpoint: `${url}/authorize`, token_endpoint: `${url}/token` });
    } else if (asked.pathname === '/authorize') {
      const code = String(nonces.size);
      nonces.set(code, asked.searchParams.get('nonce') ?? '');
      const back = new URL(asked.searchParams.get('redirect_uri') ?? '');
      back.searchParams.set('code', code);
      back.searchParams.set('state', asked.searchParams.get('state') ?? '');
      answer.writeHead(302, { location: back.href }).end();
    } else {
      let form = '';
      request.on('data', (more) => (form += more)).on('end', () => {
        const nonce = nonces.get(new URLSearchParams(form).get('code') ?? '');
        json({ id_token: `${part({})}.${part({ iss: url, aud: 'watchkeeper', exp: Date.now() / 1_000 + 60, nonce, preferred_username: 'ann' })}.x` });
      });
    }
  });
  // Another host than the page's, for the browser another site: its cookies do not go along by themselves.
  url = `http://localhost:${port}`;
  return { server, url };
}

/** The sidecar of a worker that does nothing by itself, as it is built beside the program. @param {string} program */
async function sidecar(program) {
  const child = spawn(join(dirname(program), 'watchkeeper-sidecar'), { env: { PORT: '0', METRICS_PORT: '0', LISTEN_ADDRESS: '127.0.0.1' }, stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  child.once('error', (error) => (said += error.message));
  child.stderr.on('data', (more) => (said += more));
  const port = await until(() => /listening on [^ ]*:(\d+)/.exec(said)?.[1], `a sidecar; it said: ${said}`);
  return { child, url: `http://127.0.0.1:${port}/` };
}

/** Starts everything. @param {string} program @param {number} more how many further monitors there are, all of them well; without any, nothing is configured at all. */
export async function start(program, more = 12) {
  const folder = mkdtempSync(join(tmpdir(), 'watchkeeper-page-'));
  const shop = { down: false, delay_ms: 0 };
  const { server: shopServer, port: shopPort } = await listening((_, answer) => {
    setTimeout(() => answer.writeHead(shop.down ? 503 : 200).end(shop.down ? 'broken' : 'ok'), shop.delay_ms);
  });
  const { server: goodServer, port: goodPort } = await listening((_, answer) => {
    setTimeout(() => answer.end('ok'), 2 + Math.random() * 10);
  });
  // Takes the words of one channel and refuses those of another, so that there are dead letters.
  const heard = /** @type {{ url: string | undefined, headers: import('node:http').IncomingHttpHeaders }[]} */ ([]);
  const { server: hookServer, port: hookPort } = await listening((request, answer) => {
    heard.push({ url: request.url, headers: request.headers });
    request.resume().on('end', () => answer.writeHead(request.url === '/refuses' ? 400 : 200).end());
  });
  const { server: issuerServer, url: issuerUrl } = await issuer();
  const worker = await sidecar(program);
  const { server: free, port } = await listening(() => {});
  await new Promise((done) => free.close(() => done(null)));
  const others = Array.from({ length: more }, (_, nth) => `  - { name: service-${String(nth).padStart(4, '0')}, labels: { team: ${nth % 2 ? 'web' : 'data'} }, probe: { http: { url: "http://127.0.0.1:${goodPort}/${nth}" } } }`);
  const file = join(folder, 'watchkeeper.yaml');
  const bare = `server:
  listen: "127.0.0.1:${port}"
  api_targets: private
  oidc: { issuer: "${issuerUrl}", client_id: watchkeeper, url: "http://127.0.0.1:${port}", label: Example SSO }
store: { url: "sqlite://${folder}/watchkeeper.db" }
`;
  writeFileSync(
    file,
    more === 0 ? bare : `${bare}channels:
  - { name: ops, webhook: { url: "http://127.0.0.1:${hookPort}/takes" } }
  - { name: pager, webhook: { url: "http://127.0.0.1:${hookPort}/refuses" } }
defaults: { every: ${more > 100 ? '30s' : '1s'}, timeout: 1s, recheck: 1s, down_after: 2, notify: [ops] }
monitors:
  - name: shop
    labels: { team: web }
    every: 1s
    probe: { http: { url: "http://127.0.0.1:${shopPort}/health" } }
    alerts: [ { down: {}, severity: critical, notify: [ops, pager] } ]
  - { name: legacy-import, probe: { tcp: { address: "127.0.0.1:1" } }, alerts: [ { down: {}, severity: warning } ] }
  - { name: queue, probe: { tcp: { address: "127.0.0.1:${goodPort}" } } }
  # The page asks every three seconds: it must see it at work before it is stuck.
  - { name: bot-1, probe: { worker: { url: "${worker.url}", stuck_after: 10s } }, alerts: [ { blind: {} } ] }
  - { name: nightly-backup, probe: { push: { expect_every: 24h, grace: 1h } } }
${others.join('\n')}
tenants:
  - name: acme
    monitors: [ { name: till, probe: { push: { expect_every: 24h } } } ]
    channels: [ { name: mail, email: { host: 127.0.0.1, port: 1, tls: none, from: status@example.org, to: ops@example.org } } ]
    status_pages: [ { name: acme, title: Acme, domain: status.example.org, groups: [ { monitors: [till] } ], subscribers: { channel: mail } } ]
status_pages:
  - name: public
    title: Example
    groups:
      - { name: Shop, monitors: [shop, service-0000], titles: { shop: Shop, service-0000: A_name_without_any_blank_that_is_longer_than_a_telephone_is_wide_and_must_break } }
      - { name: Behind it, monitors: [legacy-import, nightly-backup], titles: { legacy-import: Imports } }
`,
  );
  const log = /** @type {string[]} */ ([]);
  const url = `http://127.0.0.1:${port}/`;
  /** @type {import('node:child_process').ChildProcess | undefined} */
  let running;
  const begin = async () => {
    running = spawn(program, ['serve', '--config', file], { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of [running.stdout, running.stderr]) stream?.on('data', (said) => log.push(String(said)));
    let ended = false;
    running.once('error', (error) => log.push(error.message));
    running.once('close', () => (ended = true));
    await until(async () => ended || (await fetch(`${url}ready`)).ok, 'the program');
    if (ended) throw new Error(`${program} ended by itself`);
  };
  /** @param {NodeJS.Signals} signal */
  const finish = async (signal) => {
    const ending = running;
    running = undefined;
    if (!ending || ending.pid === undefined || ending.exitCode !== null) return;
    ending.kill(signal);
    await new Promise((done) => ending.once('exit', done));
  };
  const stop = async () => {
    await finish('SIGTERM');
    worker.child.kill('SIGKILL');
    for (const server of [shopServer, goodServer, hookServer, issuerServer]) {
      server.closeAllConnections();
      server.close();
    }
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    await begin();
  } catch (error) {
    console.error(log.join(''));
    await stop();
    throw error;
  }
  const token = readFileSync(join(folder, 'watchkeeper.db.token'), 'utf8').trim();
  /** The code for the first user that the newest start printed. */
  const code = () => log.join('').match(/[2-9A-Z]{4}(?:-[2-9A-Z]{4}){3}/g)?.at(-1) ?? '';
  /** @param {string} path @param {unknown} [body] */
  const api = async (path, body) => {
    const request = body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) };
    const answer = await fetch(`${url}api/v1/${path}`, { ...request, headers: { authorization: `Bearer ${token}` } });
    return await answer.json();
  };
  return { url, token, code, shop, api, heard, hook: `http://127.0.0.1:${hookPort}/`, good: `http://127.0.0.1:${goodPort}/`, worker: worker.url, stop, crash: () => finish('SIGKILL'), again: begin, command: (/** @type {string[]} */ ...args) => execFileSync(program, [...args, '--config', file], { cwd: folder, encoding: 'utf8' }) };
}
