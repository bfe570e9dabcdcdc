// node-redlock as a contender: `locks.mjs rounds URL…` or `locks.mjs contend NAME RESOURCE HOLD_MS URL…`
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { setTimeout } from "node:timers/promises";

const require = createRequire(`${process.env.REDLOCK_TEST_PEERS}/`);
const { default: Redlock } = require("redlock");
const { default: Redis } = require("ioredis");

const TTL = 10_000;
const [mode, ...rest] = process.argv.slice(2);
const [, resource, hold] = mode === "contend" ? rest.splice(0, 3) : [];
const clients = rest.map((url) => new Redis(url));
// Patient, with its default delay.
const redlock = new Redlock(clients, { retryCount: -1 });
redlock.on("error", () => {});
// The clock of all processes, in nanoseconds.
const now = () => Number(process.hrtime.bigint());
const micros = (nanos) => Math.round(nanos / 1000);

// What `work` does; undefined, and counted, if it fails.
async function attempt(failures, work) {
  try {
    return await work();
  } catch (error) {
    failures.count++;
    failures.first ??= String(error);
  }
}

async function round(tasks, millis) {
  const [start, cpu, acquires_us, failures] = [now(), process.cpuUsage(), [], { count: 0 }];
  const end = start + millis * 1e6;
  const cycles = async (_, task) => {
    do {
      await attempt(failures, async () => {
        const asked = now();
        const lock = await redlock.acquire([`bench:${task}`], TTL);
        const took = micros(now() - asked);
        await lock.release();
        acquires_us.push(took);
      });
    } while (now() < end);
  };
  await Promise.all(Array.from({ length: tasks }, cycles));
  const { user, system } = process.cpuUsage(cpu);
  return { acquires_us, failures, elapsed_us: micros(now() - start), cpu_us: user + system };
}

async function contend(from, until) {
  const [turns, failures] = [[], { count: 0 }];
  while (now() < from) await setTimeout(1);
  while (now() < until) {
    const asked = now();
    const lock = await attempt(failures, () => redlock.acquire([resource], TTL));
    if (!lock) continue;
    const granted = now();
    await setTimeout(Number(hold));
    const freeing = now();
    await attempt(failures, () => lock.release());
    turns.push([asked, granted, freeing, now()]);
  }
  return { turns, failures };
}

if (mode === "contend") {
  await (await redlock.acquire([`warm:${process.pid}`], TTL)).release();
  console.log("ready");
}
for await (const line of createInterface({ input: process.stdin })) {
  const numbers = line.split(" ").map(Number);
  console.log(JSON.stringify(await (mode === "contend" ? contend : round)(...numbers)));
}
clients.forEach((client) => client.disconnect());
