// Runs the seed's Node sample as it is: gives it the bot's logic that it leaves out.
const { readFileSync } = require('node:fs');

const goOn = new Promise((resolve) => process.stdin.on('end', resolve).resume());

async function handleUpdate(update) {
  if (update === 'hold') await goOn;
  if (update === 'fail') throw new Error("the bot's logic failed");
}

const sample = readFileSync(process.argv[2], 'utf8');
const processMessage = new Function('require', 'process', 'handleUpdate', `${sample}\nreturn processMessage;`)(require, process, handleUpdate);

(async () => {
  await Promise.all([1, 2, 3].map(() => processMessage('hold')));
  for (let i = 0; i < 20; i += 1) await processMessage('short');
  let failed = false;
  await processMessage('fail').catch(() => { failed = true; });
  if (!failed) process.exit(1);
})();
