import { setTimeout as sleep } from 'node:timers/promises';
import { createConnection } from 'mysql2/promise';
import t from 'tap';
import type { RequestData, RequestType } from '../src/shared/protocol/requests.js';
import { connectionOptions } from '../src/workers/store/connection-options.js';
import { audit, Courier, caughtUp, until } from './support/courier.js';
import { codeOf, type Phone, say, startServer, type TestServer, USERS } from './support/server.js';

/** What contention must never be answered with. */
const FAILED = new Set(['INTERNAL', 'UNAVAILABLE']);

/** Rooms with all users in them. */
async function rooms(owner: Phone, count: number): Promise<number[]> {
  const roomIds: number[] = [];
  for (let n = 0; n < count; n++) {
    const { room } = await owner.client.request('room.create', {
      name: `room ${n}`,
      memberIds: [2, 3, 4, 5],
    });
    roomIds.push(room.id);
  }
  return roomIds;
}

/** Repeats requests until told to stop, and counts what they were answered with. */
function repeat<T extends RequestType>(
  phone: Phone,
  type: T,
  next: (n: number) => RequestData<T>,
): { codes: Map<string, number>; stop: () => Promise<void> } {
  const codes = new Map<string, number>();
  let isStopping = false;
  const run = async (): Promise<void> => {
    for (let n = 0; !isStopping; n++) {
      const code = await codeOf(phone.client.request<RequestType>(type, next(n)));
      codes.set(code, (codes.get(code) ?? 0) + 1);
    }
  };
  const running = run();
  return {
    codes,
    stop: () => {
      isStopping = true;
      return running;
    },
  };
}

async function join(server: TestServer): Promise<Courier[]> {
  const couriers = Array.from(
    { length: 16 },
    (_, i) => new Courier(server, USERS[i % 5] ?? 'mina', `phone ${i}`),
  );
  await Promise.all(couriers.map((courier) => courier.login()));
  return couriers;
}

t.test('many send into the same rooms in different orders, mark, kick and join: nothing fails', async (t) => {
  const server = await startServer(t, { CHAT_WORKER_THREADS: '2' });
  const [mina, jun, duri] = await server.phones('mina', 'jun', 'duri');
  if (!mina || !jun || !duri) throw new Error();
  const roomIds = await rooms(mina, 6);
  const some = (n: number) => ({ roomId: roomIds[n % roomIds.length] ?? 0 });
  const couriers = await join(server);
  t.teardown(() => {
    for (const courier of couriers) courier.client.destroy();
  });
  for (const [i, courier] of couriers.entries()) {
    const turned = [...roomIds.slice(i % 6), ...roomIds.slice(0, i % 6)];
    courier.start(i % 2 === 0 ? turned : turned.reverse());
  }
  const others = [
    repeat(mina, 'message.read', (n) => ({ ...some(n), seq: 1 + (n % 5) })),
    repeat(jun, 'message.delivered', (n) => ({ ...some(5 * n), seq: 1 + (n % 7) })),
    repeat(jun, 'message.read', (n) => ({ ...some(n), seq: 1 })),
    repeat(duri, 'room.join', some),
    repeat(duri, 'room.leave', (n) => some(n + 3)),
    repeat(mina, 'room.kick', (n) => ({ ...some(5 * n + 1), userId: duri.userId })),
    repeat(mina, 'room.invite', (n) => ({ ...some(n), userIds: [duri.userId] })),
    repeat(mina, 'room.update', (n) => ({ ...some(n), name: `name ${n}` })),
    repeat(jun, 'room.direct', (n) => ({ userId: 3 + (n % 4) })),
    repeat(jun, 'room.members', some),
  ];
  await until('everybody has sent a lot', () => couriers.every(({ acknowledged }) => acknowledged.size > 60));
  await Promise.all([...others.map((other) => other.stop()), ...couriers.map((courier) => courier.stop())]);
  await caughtUp(server, couriers, roomIds);
  t.same(await audit(server, couriers, roomIds), []);
  for (const { codes } of others) {
    t.same(
      [...codes.keys()].filter((code) => FAILED.has(code)),
      [],
      `${JSON.stringify([...codes])}`,
    );
    t.ok(codes.has('ok'));
  }
  const failed = couriers.flatMap(({ answers }) => answers).filter(({ code }) => code !== 'ok');
  t.same(failed, []);

  const members = await server.sql(
    `SELECT r.id FROM chat_room r LEFT JOIN chat_member m ON m.room_id = r.id
      GROUP BY r.id, r.member_count HAVING COUNT(m.user_id) <> r.member_count`,
  );
  t.same(members, [], 'member counts are right');
});

t.test('a deadlock is not the clients’ business: the batch is done again', async (t) => {
  const server = await startServer(t, { CHAT_WORKER_THREADS: '2' });
  const [mina, jun] = await server.phones('mina', 'jun');
  if (!mina || !jun) throw new Error();
  const [first = 0, second = 0] = await rooms(mina, 2);
  const foreign = await createConnection(connectionOptions(server.databaseUrl));
  t.teardown(() => foreign.destroy());
  const witness = await createConnection(connectionOptions(server.databaseUrl));
  t.teardown(() => witness.destroy());
  await foreign.query('CREATE TABLE weight (n INT) ENGINE=InnoDB');
  let deadlocks = 0;
  let victims = 0;
  for (let n = 0; n < 5; n++) {
    // The foreigner takes the rooms in the wrong order, and has changed so much that the chat is chosen to lose.
    await foreign.query('START TRANSACTION');
    await foreign.query('INSERT INTO weight VALUES (1), (2), (3), (4), (5), (6), (7), (8), (9)');
    await foreign.query('SELECT id FROM chat_room WHERE id = ? FOR UPDATE', [second]);
    const both = JSON.stringify([first, second]);
    const lines = [first, second].map((roomId, i) =>
      JSON.stringify({
        id: `${n}.${i}`,
        type: 'message.send',
        data: { roomId, clientMessageId: `${n} ${both}`, kind: 'text', text: 'hi' },
      }),
    );
    mina.client.sendRaw(`${lines.join('\n')}\n`);
    const replies = [mina.client.waitForReply(`${n}.0`), mina.client.waitForReply(`${n}.1`)];
    await until('the chat holds the first room and waits for the second', async () => {
      const free = 'SELECT id FROM chat_room WHERE id = ? FOR UPDATE SKIP LOCKED';
      const [rows] = await witness.query(free, [first]);
      return Array.isArray(rows) && rows.length === 0;
    });
    const [mine] = await Promise.allSettled([
      foreign.query('SELECT id FROM chat_room WHERE id = ? FOR UPDATE', [first]),
    ]);
    if (mine.status === 'fulfilled') deadlocks++;
    else victims++;
    await foreign.query('ROLLBACK');
    for (const reply of await Promise.all(replies))
      t.match(reply, { type: 'ok', data: { duplicate: false } });
  }
  t.ok(deadlocks > 0, `${deadlocks} deadlocks hit the chat, ${victims} the other one`);
  for (const roomId of [first, second]) {
    const { messages } = await jun.client.request('message.history', { roomId });
    t.same(
      messages.map(({ seq }) => seq),
      [1, 2, 3, 4, 5, 6],
    );
    await jun.client.waitFor('message', (message) => message.roomId === roomId && message.seq === 6);
  }
});

t.test('a room that somebody else has locked for long does not take the server down', async (t) => {
  const server = await startServer(t, { CHAT_WORKER_THREADS: '1' });
  const [mina, jun] = await server.phones('mina', 'jun');
  if (!mina || !jun) throw new Error();
  const [locked = 0, free = 0] = await rooms(mina, 2);
  const foreign = await createConnection(connectionOptions(server.databaseUrl));
  t.teardown(() => foreign.destroy());
  await foreign.query('START TRANSACTION');
  await foreign.query('SELECT id FROM chat_room WHERE id = ? FOR UPDATE', [locked]);
  const startedAt = performance.now();
  const code = codeOf(say(mina, locked, 'into the locked one', 'key'));
  await sleep(50);
  t.match(await say(jun, free, 'into another one'), { seq: 2 });
  t.ok(performance.now() - startedAt < 1500, 'others go on meanwhile');
  t.equal(await code, 'UNAVAILABLE');
  t.ok(performance.now() - startedAt < 9000);
  await foreign.query('ROLLBACK');
  t.match(await say(mina, locked, 'into the locked one', 'key'), { seq: 2, duplicate: false });
});
