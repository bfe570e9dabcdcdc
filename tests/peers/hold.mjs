// Takes and frees a lock by node-redlock: hold.mjs LOG COUNT RESOURCE URL…
import { appendFileSync } from "node:fs";
import { createRequire } from "node:module";
import { setTimeout } from "node:timers/promises";

const require = createRequire(`${process.env.REDLOCK_TEST_PEERS}/`);
const { default: Redlock } = require("redlock");
const { default: Redis } = require("ioredis");

const [log, count, resource, ...urls] = process.argv.slice(2);
const clients = urls.map((url) => new Redis(url));
const redlock = new Redlock(clients, { retryCount: -1, retryDelay: 20, retryJitter: 20 });
const say = (what) => appendFileSync(log, `${what} node ${process.pid}\n`);
for (let number = 0; number < Number(count); number++) {
  const lock = await redlock.acquire([resource], 5_000);
  say("enter");
  await setTimeout(3);
  say("leave");
  await lock.release();
  await setTimeout(20); // or nobody else would get a turn
}
clients.forEach((client) => client.disconnect());
