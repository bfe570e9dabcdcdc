// Takes and frees a lock by node-redlock: hold.mjs LOG COUNT RESOURCE URL…
import { appendFileSync } from "node:fs";
import { createRequire } from "node:module";
import { setTimeout } from "node:timers/promises";

const require = createRequire(`${process.env.REDLOCK_TEST_PEERS}/`);
const { default: Redlock, ExecutionError } = require("redlock");
const { default: Redis } = require("ioredis");

const [log, count, resource, ...urls] = process.argv.slice(2);
const clients = urls.map((url) => new Redis(url));
// Between its own retries it keeps what votes it has, so that two of it can shut each other and everybody out.
const redlock = new Redlock(clients, { retryCount: 0 });
const say = (what) => appendFileSync(log, `${what} node ${process.pid}\n`);

async function acquire() {
  for (;;) {
    try {
      return await redlock.acquire([resource], 5_000);
    } catch (error) {
      if (!(error instanceof ExecutionError)) throw error;
      await setTimeout(10 + 20 * Math.random());
    }
  }
}

for (let number = 0; number < Number(count); number++) {
  const lock = await acquire();
  say("enter");
  await setTimeout(3);
  say("leave");
  await lock.release();
  await setTimeout(20); // or nobody else would get a turn
}
clients.forEach((client) => client.disconnect());
