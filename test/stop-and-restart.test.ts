import t from 'tap';
import { ConnectionLost } from '../src/cli/client.js';
import { audit, Courier, caughtUp, until } from './support/courier.js';
import { createTestDatabase } from './support/database.js';
import {
  codeOf,
  eventsOf,
  insertUsers,
  type Phone,
  say,
  startServer,
  startServerOn,
  USERS,
} from './support/server.js';

/** What a stop may take at the very most, ms. */
const LIMIT_MS = 10_000;

t.test('20 phones send while the server stops and starts again: nothing is lost or doubled', async (t) => {
  const { url } = await createTestDatabase(t);
  await insertUsers(url);
  const before = await startServerOn(t, url);
  const owner = await before.phone('mina', 'the owner');
  const { room } = await owner.client.request('room.create', { name: 'a room', memberIds: [2, 3, 4, 5, 6] });
  const { room: second } = await owner.client.request('room.create', { name: 'another', memberIds: [2, 3] });
  const roomIds = [room.id];
  const couriers = Array.from(
    { length: 20 },
    (_, i) => new Courier(before, USERS[i % USERS.length] ?? 'mina', `phone ${i}`),
  );
  t.teardown(() => {
    for (const courier of couriers) courier.client.destroy();
  });
  await Promise.all(couriers.map((courier) => courier.login()));
  for (const courier of couriers) courier.start(roomIds);
  await until('everybody has sent', () => couriers.every((courier) => courier.acknowledged.size >= 10));

  const stoppedAt = performance.now();
  await before.server.stop();
  t.ok(performance.now() - stoppedAt < 4000, `stopped in ${performance.now() - stoppedAt} ms`);
  t.equal(before.server.connections, 0);
  const closings = couriers.flatMap((courier) => courier.closings);
  t.equal(closings.length, couriers.length, 'everybody was told');
  t.ok(new Set(closings).size > 15, 'with delays of their own');
  t.ok(Math.min(...closings) >= 100 && Math.max(...closings) <= 10_000, `${closings}`);

  const after = await startServerOn(t, url);
  const counts = couriers.map((courier) => courier.acknowledged.size);
  for (const courier of couriers) courier.moveTo(after);
  await until('everybody sends again', () =>
    couriers.every((courier, i) => courier.acknowledged.size > (counts[i] ?? 0) + 3),
  );
  await Promise.all(couriers.map((courier) => courier.stop()));
  await caughtUp(after, couriers, roomIds);
  t.same(await audit(after, couriers, roomIds), []);
  const back = await after.phone('mina', 'the owner');
  t.ok(back.login.rooms.some(({ id }) => id === second.id));
});

t.test('after a restart everything is as it was', async (t) => {
  const { url } = await createTestDatabase(t);
  await insertUsers(url);
  const before = await startServerOn(t, url);
  const [mina, jun, sora] = await before.phones('mina', 'jun', 'sora');
  if (!mina || !jun || !sora) throw new Error();
  const room = await before.room(mina, [jun, sora], { name: '방 🏠', visibility: 'private' });
  const direct = await jun.client.request('room.direct', { userId: mina.userId });
  for (let n = 0; n < 5; n++) await say(mina, room.id, `message ${n}`, `key ${n}`);
  await say(jun, direct.room.id, 'a word');
  await jun.client.request('message.read', { roomId: room.id, seq: 3 });
  await sora.client.request('message.delivered', { roomId: room.id, seq: 5 });
  await mina.client.request('room.kick', { roomId: room.id, userId: sora.userId, ban: true });
  const look = async ({ client }: Phone) => {
    const { rooms } = await client.request('room.list', { scope: 'mine' });
    const contents = rooms.map(async ({ id: roomId }) => {
      const { messages } = await client.request('message.history', { roomId });
      const { members } = await client.request('room.members', { roomId });
      return { messages, members: members.map(({ presence: _, ...member }) => member) };
    });
    return { rooms, contents: await Promise.all(contents) };
  };
  const seen = await Promise.all([mina, jun].map(look));
  t.match(seen[1]?.rooms, [{ readSeq: 3, unread: 3, name: '방 🏠' }, { kind: 'direct' }]);
  await before.server.stop();
  t.same(await before.sql('SELECT * FROM chat_session'), []);
  t.same(await before.sql('SELECT * FROM chat_process'), []);

  const after = await startServerOn(t, url);
  const [minaAgain, junAgain, soraAgain] = await after.phones('mina', 'jun', 'sora');
  if (!minaAgain || !junAgain || !soraAgain) throw new Error();
  t.same(await Promise.all([minaAgain, junAgain].map(look)), seen);
  t.same(soraAgain.login.rooms, []);
  t.equal(await codeOf(soraAgain.client.request('room.join', { roomId: room.id })), 'FORBIDDEN');
  t.match(await say(minaAgain, room.id, 'message 4', 'key 4'), { duplicate: true });
  const next = await say(minaAgain, room.id, 'next');
  t.match(await junAgain.client.waitFor('message'), { seq: next.seq, text: 'next' });
});

t.test('a client that does not read does not hold up the stop', async (t) => {
  const server = await startServer(t, { CHAT_OUTPUT_LIMIT_BYTES: String(128 * 1024 * 1024) });
  const [mina, jun, sora] = await server.phones('mina', 'jun', 'sora');
  if (!mina || !jun || !sora) throw new Error();
  const room = await server.room(mina, [jun, sora]);
  jun.client.socket.pause();
  // More than the buffers of the operating system take.
  const text = 'x'.repeat(100_000);
  await Promise.all(Array.from({ length: 130 }, () => say(mina, room.id, text)));
  const startedAt = performance.now();
  await server.server.stop();
  t.ok(performance.now() - startedAt < LIMIT_MS / 2, `stopped in ${performance.now() - startedAt} ms`);
  t.equal(eventsOf(sora, 'server.closing').length, 1);
  t.equal(eventsOf(sora, 'message').length, 130, 'who reads has got everything');
});

t.test('what was accepted before the stop is finished', async (t) => {
  const server = await startServer(t);
  const [mina, jun] = await server.phones('mina', 'jun');
  if (!mina || !jun) throw new Error();
  const room = await server.room(mina, [jun]);
  const sends = Array.from({ length: 200 }, (_, n) => say(mina, room.id, `message ${n}`));
  const answers = sends.map((send) =>
    send.catch((error: unknown) => {
      if (!(error instanceof ConnectionLost)) throw error;
      return undefined;
    }),
  );
  // The first one is answered: the others have come with it.
  await sends[0];
  await server.server.stop();
  const acknowledged = (await Promise.all(answers)).filter((answer) => answer !== undefined);
  const [count] = await server.sql("SELECT COUNT(*) AS stored FROM chat_entry WHERE kind = 'text'");
  t.equal(count?.stored, acknowledged.length, 'stored is what was acknowledged');
  t.equal(eventsOf(jun, 'message').length, acknowledged.length, 'and what the others got');
});

t.test('users of a process that was killed go offline', async (t) => {
  const { url } = await createTestDatabase(t);
  await insertUsers(url);
  const server = await startServerOn(t, url);
  // As a process leaves them that gets no time to say goodbye.
  for (const [name, seconds, userId] of [
    ['long dead', -60, 2],
    ['just killed', 1, 3],
  ] as const) {
    await server.sql(
      `INSERT INTO chat_process (id, host, pid, tcp_address, started_at, lease_until)
       VALUES (?, 'host', 1, '127.0.0.1:9000', UTC_TIMESTAMP(3), UTC_TIMESTAMP(3) + INTERVAL ? SECOND)`,
      [name, seconds],
    );
    await server.sql(
      `INSERT INTO chat_session (user_id, device_id, process_id, address, connected_at)
       VALUES (?, 'phone', ?, '127.0.0.1:40000', UTC_TIMESTAMP(3))`,
      [userId, name],
    );
  }
  const mina = await server.phone('mina');
  const { presences } = await mina.client.request('presence.subscribe', { userIds: [1, 2, 3] });
  t.same(
    presences.map(({ state }) => state),
    ['online', 'offline', 'online'],
    'the lease decides',
  );
  await mina.client.waitFor('presence', ({ userId, state }) => userId === 3 && state === 'offline');
  t.same(await server.sql("SELECT id FROM chat_process WHERE id LIKE '%dead' OR id LIKE '%killed'"), []);
  t.match(await server.sql('SELECT user_id FROM chat_session'), [{ user_id: 1 }]);
});

t.test('stopping twice is stopping once', async (t) => {
  const server = await startServer(t);
  const stops = [server.server.stop(), server.server.stop()];
  await Promise.all(stops);
  await t.rejects(server.connect(), ConnectionLost);
});
