import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { audit, Courier, caughtUp, freeze, Pinger, until } from './support/courier.js';
import { type PrivateDatabase, startPrivateDatabase } from './support/database.js';
import { insertUsers, startServerOn, USERS } from './support/server.js';

const PHONES = 20;
/** What a request may spend in the database; short, so that a hang is noticed soon. */
const TIMEOUT_MS = 1000;

interface Fault {
  begin(database: PrivateDatabase): Promise<void>;
  end(database: PrivateDatabase): Promise<void>;
}

const FAULTS: Record<string, Fault> = {
  'is killed and started again': {
    begin: (database) => database.kill(),
    end: (database) => database.start(),
  },
  'is shut down and started again': {
    begin: (database) => database.stop(),
    end: (database) => database.start(),
  },
  'hangs and goes on': {
    begin: ({ pid }) => freeze(pid),
    end: async ({ pid }) => void process.kill(pid, 'SIGCONT'),
  },
};

async function outage(t: Test, fault: Fault): Promise<void> {
  const database = await startPrivateDatabase(t);
  await insertUsers(database.url);
  const server = await startServerOn(t, database.url, {
    CHAT_MYSQL_TIMEOUT_MS: String(TIMEOUT_MS),
    CHAT_WORKER_THREADS: '2',
  });
  const owner = await server.phone('mina', 'the owner');
  const members = USERS.slice(1).map((_, i) => i + 2);
  const roomIds: number[] = [];
  for (let n = 0; n < 3; n++) {
    const { room } = await owner.client.request('room.create', { name: `room ${n}`, memberIds: members });
    roomIds.push(room.id);
  }
  const couriers = Array.from(
    { length: PHONES },
    (_, i) => new Courier(server, USERS[i % USERS.length] ?? 'mina', `phone ${i}`),
  );
  t.teardown(() => Promise.all(couriers.map((courier) => courier.client.destroy())));
  await Promise.all(couriers.map((courier) => courier.login()));
  // One that pings on a connection of its own, and one on a connection whose sends hang.
  const pingers = [owner.client, ...couriers.slice(0, 2).map((courier) => courier.client)].map(
    (client) => new Pinger(client),
  );
  for (const courier of couriers) courier.start(roomIds);
  const acknowledged = () => couriers.map((courier) => courier.acknowledged.size);
  await until('everybody has sent', () => acknowledged().every((count) => count >= 10));

  const beganAt = performance.now();
  await fault.begin(database);
  const refused = () => couriers.filter((c) => c.answers.some((a) => a.code === 'UNAVAILABLE')).length;
  await until('everybody is told that the database is away', () => refused() === PHONES);
  // A while of it: from now on the answer must come at once.
  const noticedAt = performance.now();
  await sleep(500);
  await fault.end(database);
  const endedAt = performance.now();
  const before = acknowledged();
  await until('everybody sends again', () => acknowledged().every((count, i) => count > (before[i] ?? 0)));
  t.ok(performance.now() - endedAt < 3500, `service resumed after ${performance.now() - endedAt} ms`);

  await Promise.all(couriers.map((courier) => courier.stop()));
  await caughtUp(server, couriers, roomIds);
  await Promise.all(pingers.map((pinger) => pinger.stop()));
  t.same(await audit(server, couriers, roomIds), []);
  t.same(
    couriers.flatMap((courier) => courier.losses),
    [],
    'no connection was lost',
  );
  const answers = couriers.flatMap((courier) => courier.answers).filter(({ at }) => at > beganAt);
  const longest = Math.max(...answers.map(({ ms }) => ms));
  t.ok(longest < TIMEOUT_MS + 1000, `no answer took longer than ${longest} ms`);
  const late = answers.filter(({ at, ms, code }) => code !== 'ok' && at - ms > noticedAt && at < endedAt);
  t.ok(late.length > PHONES, 'many were refused while it lasted');
  const slowest = Math.max(...late.map(({ ms }) => ms));
  t.ok(slowest < 300, `and each within ${slowest} ms`);
  for (const pinger of pingers) {
    t.equal(pinger.failure, undefined);
    t.ok(pinger.longestMs < 800, `${pinger.count} pings took ${pinger.longestMs} ms at most`);
  }
}

for (const [what, fault] of Object.entries(FAULTS)) {
  t.test(`20 phones send while the database ${what}: nothing is lost, doubled or out of order`, (t) =>
    outage(t, fault),
  );
}
