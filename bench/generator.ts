import { createHistogram } from 'node:perf_hooks';
import type { Room } from '../src/shared/protocol/objects.js';
import {
  answer,
  type BenchUser,
  child,
  type FanOutJob,
  type IdleJob,
  type LatencyJob,
  type PairsJob,
} from './job.js';
import { Wire } from './wire.js';

/** Connections that log in at the same time. */
const AT_ONCE = 50;
/** Connections per source address: there are some 28,000 ports. */
const PER_ADDRESS = 10_000;
/** How long what was acknowledged may take to be delivered after the last send, ms. */
const LAST_DELIVERIES_MS = 10_000;
/** Makes the keys of this run differ from those of the last. */
const RUN = Math.random().toString(36).slice(2, 8).padEnd(6, '0');

/** The process that makes load and counts what comes back. One job per process. */
child(async (job) => {
  switch (job.kind) {
    case 'pairs':
      return pairs(job);
    case 'fan-out':
      return fanOut(job);
    case 'latency':
      return latency(job);
    case 'idle':
      return idle(job);
    default:
      throw new Error(`not a job for this process: ${job.kind}`);
  }
});

async function pairs({ server, users, outstanding, text, warmUpS, seconds }: PairsJob): Promise<void> {
  const wires = await logIn(server, users);
  const senders = wires.filter((_, index) => index % 2 === 0);
  const receivers = wires.filter((_, index) => index % 2 === 1);
  let stopped = false;
  await Promise.all(
    senders.map(async (sender, index) => {
      const { room } = await sender.request('room.direct', { userId: users[2 * index + 1]?.id ?? 0 });
      const frame = frames(room.id, text);
      let sent = 0;
      sender.onCounted = () => {
        let burst = '';
        while (!stopped && sent - sender.oks < outstanding) burst += frame(++sent);
        if (burst !== '') sender.write(burst);
      };
    }),
  );
  for (const wire of wires) wire.count();
  for (const sender of senders) sender.onCounted(sender);
  const perSecond = await rate(() => sum(senders, (wire) => wire.oks), warmUpS, seconds);
  stopped = true;
  const missing = () => sum(senders, (wire) => wire.oks) - sum(receivers, (wire) => wire.messages);
  await until(
    () => missing() <= 0,
    receivers,
    () => `${missing()} acknowledged messages were not delivered`,
  );
  answer({ type: 'rate', perSecond });
}

async function fanOut(job: FanOutJob): Promise<void> {
  const { server, peer, users, outstanding, text, warmUpS, seconds } = job;
  const wires: Wire[] = [];
  let roomId = 1;
  if (peer === 'relay') {
    for (let n = 0; n < users.length; n++) wires.push(await greeted(server, n));
  } else {
    wires.push(...(await logIn(server, users)));
    roomId = (await makeRoom(wires, users)).id;
  }

  const senders = wires
    .slice(0, job.senders)
    .map((wire, index) => ({ wire, frame: frames(roomId, text, index), sent: 0 }));
  const window = outstanding * senders.length;
  const counted = peer === 'relay' ? new Map(senders.map((sender) => [sender.wire, sender])) : undefined;
  let sent = 0;
  let turn = 0;
  // Every connection gets every message, the sender as `ok` from a server and not at all from a relay. The slowest
  // connection decides how many more are sent, so nothing can pile up in either.
  const top = () => {
    scheduled = false;
    let slowest = Number.POSITIVE_INFINITY;
    for (const wire of wires) {
      slowest = Math.min(
        slowest,
        wire.messages + (counted === undefined ? wire.oks : (counted.get(wire)?.sent ?? 0)),
      );
    }
    const bursts = new Map<Wire, string>();
    for (; sent - slowest < window; sent++) {
      const sender = senders[turn++ % senders.length];
      if (sender === undefined) break;
      bursts.set(sender.wire, (bursts.get(sender.wire) ?? '') + sender.frame(++sender.sent));
    }
    for (const [wire, burst] of bursts) wire.write(burst);
  };
  let scheduled = false;
  for (const wire of wires) {
    wire.count();
    wire.onCounted = () => {
      if (scheduled) return;
      scheduled = true;
      setImmediate(top);
    };
  }
  top();
  const perSecond = await rate(() => sum(wires, (wire) => wire.messages), warmUpS, seconds);
  answer({ type: 'rate', perSecond });
}

async function latency(job: LatencyJob): Promise<void> {
  const { server, users, rate: perUser, text, warmUpS, seconds } = job;
  const wires = await logIn(server, users);
  const room = await makeRoom(wires, users);
  const lags = createHistogram();
  let measuring = false;
  const periodMs = 1000 / perUser;
  const running: Promise<void>[] = [];
  let stopped = false;
  for (const [index, wire] of wires.entries()) {
    const frame = frames(room.id, text, index);
    const send = async (n: number) => {
      const others = wires.filter((other) => other !== wire);
      const key = keyOf(index, n);
      const began = performance.now();
      const arrivals = others.map((other) => other.message(key));
      wire.write(frame(n));
      await Promise.all(arrivals);
      if (measuring) lags.record(Math.max(1, Math.round((performance.now() - began) * 1000)));
    };
    running.push(
      (async () => {
        // Each at a moment of its own within the period, drawn anew for every message.
        for (let n = 1; !stopped; n++) {
          const phase = Math.random() * periodMs;
          await passing(phase);
          const sending = send(n);
          await passing(periodMs - phase);
          await sending;
        }
      })(),
    );
  }
  await passing(warmUpS * 1000);
  measuring = true;
  await passing(seconds * 1000);
  stopped = true;
  measuring = false;
  await Promise.all(running);
  answer({
    type: 'latency',
    samples: lags.count,
    p50: lags.percentile(50) / 1000,
    p99: lags.percentile(99) / 1000,
    max: lags.max / 1000,
  });
}

async function idle({ server, peer, users }: IdleJob): Promise<void> {
  const wires: Wire[] = [];
  if (peer === 'server') {
    wires.push(...(await logIn(server, users)));
  } else {
    for (let n = 0; n < users.length; n++) wires.push(await greeted(server, n));
  }
  answer({ type: 'connected' });
}

async function logIn(server: PairsJob['server'], users: readonly BenchUser[]): Promise<Wire[]> {
  const wires: Wire[] = [];
  let next = 0;
  const lane = async () => {
    for (let n = next++; n < users.length; n = next++) {
      const wire = await Wire.connect(server, sourceAddress(n));
      wires[n] = wire;
      const user = users[n];
      if (user !== undefined) await wire.login(user);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, lane));
  for (const wire of wires) {
    wire.onTrouble = (why) => {
      answer({ type: 'failed', why });
      wire.onTrouble = () => {};
    };
  }
  return wires;
}

/** Connects and waits for the peer's first line, so that the peer knows the connection too. */
async function greeted(server: PairsJob['server'], n: number): Promise<Wire> {
  const wire = await Wire.connect(server, sourceAddress(n));
  await wire.event('hello');
  return wire;
}

/** A room of all users, made by the first; resolves when all know it. */
async function makeRoom(wires: readonly Wire[], users: readonly BenchUser[]): Promise<Room> {
  const [owner, ...others] = wires;
  if (owner === undefined) throw new Error('no users');
  const added = others.map((wire) => wire.event('room.added'));
  const memberIds = users.slice(1).map((user) => user.id);
  const { room } = await owner.request('room.create', { name: 'bench', visibility: 'private', memberIds });
  await Promise.all(added);
  return room;
}

function keyOf(sender: number, n: number): string {
  return `${RUN}-${sender}-${String(n).padStart(9, '0')}`;
}

/** Makes the frames of one sender; all but the number is put together beforehand. */
function frames(roomId: number, text: string, sender = roomId): (n: number) => string {
  const start = '{"type":"message.send","id":';
  const middle = `,"data":{"roomId":${roomId},"kind":"text","clientMessageId":"`;
  const end = `","text":${JSON.stringify(text)}}}\n`;
  return (n) => `${start}${n}${middle}${keyOf(sender, n)}${end}`;
}

async function rate(total: () => number, warmUpS: number, seconds: number): Promise<number> {
  await passing(warmUpS * 1000);
  answer({ type: 'measuring' });
  const [before, began] = [total(), performance.now()];
  await passing(seconds * 1000);
  return ((total() - before) * 1000) / (performance.now() - began);
}

function sum(wires: readonly Wire[], of: (wire: Wire) => number): number {
  let total = 0;
  for (const wire of wires) total += of(wire);
  return total;
}

function until(done: () => boolean, wires: readonly Wire[], complaint: () => string): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(complaint())), LAST_DELIVERIES_MS);
    const look = () => {
      if (!done()) return;
      clearTimeout(timer);
      resolve();
    };
    for (const wire of wires) wire.onCounted = look;
    look();
  });
}

function passing(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

function sourceAddress(n: number): string {
  return `127.0.0.${1 + Math.floor(n / PER_ADDRESS)}`;
}
