// node-redlock as a contender: `locks.mjs rounds URL…` or `locks.mjs contend RESOURCE HOLD_MS URL…`
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { setTimeout } from "node:timers/promises";

const require = createRequire(`${process.env.REDLOCK_TEST_PEERS}/`);
const { default: Redlock } = require("redlock");
const { default: Redis } = require("ioredis");

const TTL = 10_000;
const [mode, ...rest] = process.argv.slice(2);
const [resource, hold] = mode === "contend" ? rest.splice(0, 2) : [];
const clients = rest.map((url) => new Redis(url));
// Patient, with its default delay.
const redlock = new Redlock(clients, { retryCount: -1 });
redlock.on("error", () => {});
const now = () => process.hrtime.bigint();

async function cycles(task, end, acquires) {
  let failures = 0;
  do {
    const start = now();
    const lock = await redlock.acquire([`bench:${task}`], TTL);
    const took = now() - start;
    await lock.release().then(
      () => acquires.push(Number(took / 1000n)),
      () => failures++,
    );
  } while (now() < end);
  return failures;
}

async function round(tasks, millis) {
  const [start, cpu, acquires] = [now(), process.cpuUsage(), []];
  const end = start + BigInt(millis) * 1_000_000n;
  const failures = await Promise.all(Array.from({ length: tasks }, (_, task) => cycles(task, end, acquires)));
  const { user, system } = process.cpuUsage(cpu);
  const failed = failures.reduce((a, b) => a + b, 0);
  const median = acquires.sort((a, b) => a - b)[acquires.length >> 1] ?? 0;
  console.log(acquires.length, failed, Number((now() - start) / 1000n), user + system, median);
}

async function contend(from, end) {
  while (now() < from) await setTimeout(1);
  while (now() < end) {
    const asked = now();
    const lock = await redlock.acquire([resource], TTL);
    const granted = now();
    await setTimeout(Number(hold));
    const freeing = now();
    await lock.release();
    console.log(`${asked} ${granted} ${freeing} ${now()}`);
  }
}

if (mode === "contend") {
  await (await redlock.acquire([`warm:${process.pid}`], TTL)).release();
  console.log("ready");
}
for await (const line of createInterface({ input: process.stdin })) {
  const [first, second] = line.split(" ");
  if (mode === "rounds") await round(Number(first), Number(second));
  else {
    await contend(BigInt(first), BigInt(second));
    break;
  }
}
clients.forEach((client) => client.disconnect());
