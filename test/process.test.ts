import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { audit, Courier, caughtUp, listeningPort, until } from './support/courier.js';
import { createTestDatabase, startPrivateDatabase } from './support/database.js';
import { descendants, isRunning, startProgram, temporaryDirectory } from './support/processes.js';
import { insertUsers, SECRET, startServerOn, USERS } from './support/server.js';

/** Starts a chat process as PM2 does, and waits until it is ready. */
async function start(t: Test, url: string, settings: Record<string, string> = {}) {
  const directory = temporaryDirectory(t);
  const program = startProgram(t, 'src/main/chat.js', [], {
    CHAT_MYSQL_URL: url,
    CHAT_TCP_PORT: '0',
    CHAT_WORKER_THREADS: '2',
    CHAT_JWT_SECRET: SECRET,
    CHAT_DATA_DIR: join(directory, 'data'),
    CHAT_LOG_DIR: join(directory, 'logs'),
    ...settings,
  });
  const file = join(directory, 'logs/chat-0.log');
  const ready = async (): Promise<number> => {
    await program.said(' ready ');
    return listeningPort(file);
  };
  return { ...program, ready, log: () => readFileSync(file, 'utf8') };
}

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  t.test(`${signal} while 20 phones send: exit code 0, nothing lost`, async (t) => {
    const { url } = await createTestDatabase(t);
    await insertUsers(url);
    // For the books, and the room: it is gone before the process comes.
    const books = await startServerOn(t, url);
    const owner = await books.phone('mina');
    const { room } = await owner.client.request('room.create', {
      name: 'a room',
      memberIds: [2, 3, 4, 5, 6],
    });
    await books.server.stop();

    const chat = await start(t, url);
    const port = await chat.ready();
    const couriers = Array.from(
      { length: 20 },
      (_, i) => new Courier({ port }, USERS[i % USERS.length] ?? 'mina', `phone ${i}`),
    );
    t.teardown(() => {
      for (const courier of couriers) courier.client.destroy();
    });
    await Promise.all(couriers.map((courier) => courier.login()));
    for (const courier of couriers) courier.start([room.id]);
    await until('everybody has sent', () => couriers.every(({ acknowledged }) => acknowledged.size >= 10));
    const family = descendants(chat.child.pid ?? 0);
    const startedAt = performance.now();
    chat.child.kill(signal);
    // Once more, as an impatient terminal does.
    chat.child.kill(signal);
    const { code, stderr } = await chat.ended;
    t.equal(code, 0);
    t.equal(stderr, '');
    t.ok(performance.now() - startedAt < 10_000, `after ${performance.now() - startedAt} ms`);
    t.notOk(family.some(isRunning), 'no process is left');
    t.ok(couriers.every(({ closings }) => closings.length === 1));
    t.match(chat.log().trimEnd().split('\n').at(-1), / INFO {2}server {5}stopped exitCode=0$/);

    const after = await startServerOn(t, url);
    for (const courier of couriers) courier.moveTo(after);
    const counts = couriers.map((courier) => courier.acknowledged.size);
    await until('everybody sends again', () =>
      couriers.every((courier, i) => courier.acknowledged.size > (counts[i] ?? 0)),
    );
    await Promise.all(couriers.map((courier) => courier.stop()));
    await caughtUp(after, couriers, [room.id]);
    t.same(await audit(after, couriers, [room.id]), []);
  });
}

t.test('a process that is killed: what was acknowledged is there, its users go offline', async (t) => {
  const { url } = await createTestDatabase(t);
  await insertUsers(url);
  const books = await startServerOn(t, url);
  const owner = await books.phone('mina');
  const { room } = await owner.client.request('room.create', { name: 'a room', memberIds: [2, 3, 4, 5, 6] });
  await books.server.stop();
  const chat = await start(t, url);
  const port = await chat.ready();
  const couriers = USERS.slice(1).map((name) => new Courier({ port }, name, `${name}'s phone`));
  t.teardown(() => {
    for (const courier of couriers) courier.client.destroy();
  });
  await Promise.all(couriers.map((courier) => courier.login()));
  for (const courier of couriers) courier.start([room.id]);
  await until('everybody has sent', () => couriers.every(({ acknowledged }) => acknowledged.size >= 20));
  chat.child.kill('SIGKILL');
  await chat.ended;
  for (const courier of couriers) void courier.stop();
  const after = await startServerOn(t, url);
  t.same(await audit(after, couriers, [room.id]), []);
  // The lease would run out by itself in 15 s.
  await after.sql('UPDATE chat_process SET lease_until = UTC_TIMESTAMP(3) WHERE id <> ?', [
    after.server.processId,
  ]);
  const mina = await after.phone('mina');
  const { presences } = await mina.client.request('presence.subscribe', { userIds: [2, 3, 4, 5, 6] });
  t.ok(presences.every(({ state }) => state === 'offline'));
  await until('their sessions are cleaned up', async () => {
    return (await after.sql('SELECT id FROM chat_session WHERE user_id > 1')).length === 0;
  });
});

t.test('all mistakes in the configuration are listed, without a stack', async (t) => {
  const chat = await start(t, 'not a url', {
    CHAT_TCP_PORT: '70000',
    CHAT_LOG_LEVEL: 'loud',
    CHAT_JWT_SECRET: 'short',
    CHAT_WORKER_THREADS: '-1',
  });
  const { code, stdout, stderr } = await chat.ended;
  t.equal(code, 1);
  for (const name of ['MYSQL_URL', 'TCP_PORT', 'LOG_LEVEL', 'JWT_SECRET', 'WORKER_THREADS']) {
    t.match(stderr, `CHAT_${name}: `);
  }
  t.notMatch(stderr, /^\s+at /m);
  t.equal(stdout, '');
});

t.test('a port that is taken', async (t) => {
  const { url } = await createTestDatabase(t);
  const other = createServer();
  await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
  t.teardown(() => other.close());
  const address = other.address();
  if (address === null || typeof address === 'string') throw new Error();
  const chat = await start(t, url, { CHAT_TCP_PORT: String(address.port) });
  const { code, stderr } = await chat.ended;
  t.equal(code, 1);
  t.match(stderr, `port ${address.port} of 127.0.0.1 is taken`);
  t.notMatch(stderr, /^\s+at /m);
  t.match(chat.log(), /start failed reason="port \d+ of 127\.0\.0\.1 is taken/);
});

t.test('directories and files that can not be used', async (t) => {
  const { url } = await createTestDatabase(t);
  const file = join(temporaryDirectory(t), 'file');
  const nowhere = join(import.meta.filename, 'x');
  const faults: [string, Record<string, string>][] = [
    ['log', { CHAT_LOG_DIR: nowhere }],
    ['data', { CHAT_DATA_DIR: nowhere, CHAT_JWT_SECRET: '' }],
    ['certificate', { CHAT_TLS_CERT: file, CHAT_TLS_KEY: file }],
  ];
  for (const [what, settings] of faults) {
    const { code, stderr } = await (await start(t, url, settings)).ended;
    t.equal(code, 1, what);
    t.match(stderr, /ENOTDIR|ENOENT/);
    t.notMatch(stderr, /^\s+at /m, 'no stack');
  }
});

t.test('a process waits for a database that comes later', async (t) => {
  const database = await startPrivateDatabase(t);
  await insertUsers(database.url);
  await database.stop();
  const chat = await start(t, database.url);
  await chat.said('waiting for the database');
  await database.start();
  await chat.ready();
  chat.child.kill('SIGTERM');
  t.equal((await chat.ended).code, 0);
});

t.test('SIGTERM while it waits for a database', async (t) => {
  const database = await startPrivateDatabase(t);
  await database.stop();
  const chat = await start(t, database.url);
  await chat.said('waiting for the database');
  chat.child.kill('SIGTERM');
  const { code, stderr } = await chat.ended;
  t.equal(code, 0);
  t.equal(stderr, '');
});
