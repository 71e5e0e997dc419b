// @ts-check
// What a person with a cold browser waits for, as JSON: asked for by `./prove page` with the page's address, a token and how many monitors there are.
import { launch } from './tests/chromium.mjs';

const ROUNDS = 5;
const SCROLLED_MS = 3_000;
const [url, token, monitors] = process.argv.slice(2);
if (!url || !token || !monitors) throw new Error('prove.mjs URL TOKEN MONITORS');

/** When everything is there and can be searched, in milliseconds since the address was entered. @param {string} count */
const usable = (count) => {
  const row = document.querySelector('[data-monitor] svg path');
  const all = document.querySelector('.chip .num')?.textContent?.replace(/\D/g, '');
  return row !== null && all === count && document.querySelector('input[type=search]') !== null ? performance.now() : false;
};

/** When the past of all of them is there too. */
const drawn = () => (document.querySelector('[data-monitor] .bars svg path.down[d^=M]') === null ? false : performance.now());

/** The times between frames while the list runs by, as fast as a hand turns a wheel. @param {number} during */
const scroll = (during) =>
  new Promise((/** @type {(frames: number[]) => void} */ done) => {
    const frames = /** @type {number[]} */ ([]);
    const began = performance.now();
    let last = began;
    const step = () => {
      const now = performance.now();
      frames.push(now - last);
      last = now;
      scrollBy(0, 120);
      if (now - began < during) requestAnimationFrame(step);
      else done(frames.slice(1));
    };
    requestAnimationFrame(step);
  });

const browser = await launch();
try {
  const found = { usable_ms: /** @type {number[]} */ ([]), drawn_ms: /** @type {number[]} */ ([]), bytes: /** @type {number[]} */ ([]), search_ms: /** @type {number[]} */ ([]), frames_ms: /** @type {number[]} */ ([]) };
  for (let round = 0; round < ROUNDS; round++) {
    const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, locale: 'en-GB' });
    await context.addInitScript((text) => sessionStorage.setItem('watchkeeper.token', text), token);
    const page = await context.newPage();
    const wire = await context.newCDPSession(page);
    await wire.send('Network.enable');
    let bytes = 0;
    wire.on('Network.loadingFinished', (request) => (bytes += request.encodedDataLength));
    await page.goto(url, { waitUntil: 'commit' });
    found.usable_ms.push(Number(await (await page.waitForFunction(usable, monitors, { polling: 'raf' })).jsonValue()));
    found.drawn_ms.push(Number(await (await page.waitForFunction(drawn, null, { polling: 'raf' })).jsonValue()));
    found.bytes.push(bytes);
    found.frames_ms.push(...(await page.evaluate(scroll, SCROLLED_MS)));
    const last = `m${Number(monitors) - 1}`;
    const began = performance.now();
    await page.getByRole('searchbox').fill(last);
    await page.locator(`[data-monitor=${last}]`).waitFor();
    found.search_ms.push(performance.now() - began);
    await context.close();
  }
  console.log(JSON.stringify(found));
} finally {
  await browser.close();
}
