import t from 'tap';
import type { ChatClient } from '../src/cli/client.js';
import { freeze, until } from './support/courier.js';
import { startPrivateDatabase } from './support/database.js';
import { codeOf, insertUsers, startServerOn, USERS } from './support/server.js';

const CONNECTIONS = 20;
const MEGABYTES = 200;
/** A ping as wide as a long message; JSON allows the spaces. */
const PING_BYTES = 10_000;
const PINGS = (MEGABYTES * 1_000_000) / PING_BYTES / CONNECTIONS;

t.test(`${MEGABYTES} MB of requests while the database hangs do not fill the memory`, async (t) => {
  const database = await startPrivateDatabase(t);
  await insertUsers(database.url);
  const server = await startServerOn(t, database.url, {
    CHAT_WORKER_THREADS: '2',
    CHAT_MYSQL_TIMEOUT_MS: '5000',
  });
  const clients: ChatClient[] = [];
  for (let n = 0; n < CONNECTIONS; n++) {
    const { client } = await server.phone(USERS[n % USERS.length] ?? 'mina', `phone ${n}`);
    clients.push(client);
  }
  const witness = await server.connect();
  t.teardown(() => {
    process.kill(database.pid, 'SIGCONT');
  });
  await freeze(database.pid);
  const hanging = clients.map((client) => codeOf(client.request('room.list', { scope: 'mine' })));
  await witness.request('ping');

  const before = process.memoryUsage();
  const ping = '{"id":"p","type":"ping"}';
  // The same bytes again and again: what the clients hold of them does not count.
  const line = Buffer.from(`${ping}${' '.repeat(PING_BYTES - ping.length - 1)}\n`);
  for (const client of clients) for (let n = 0; n < PINGS; n++) client.socket.write(line);
  let peak = 0;
  const measure = () => {
    const { arrayBuffers, heapUsed } = process.memoryUsage();
    peak = Math.max(peak, arrayBuffers - before.arrayBuffers + heapUsed - before.heapUsed);
  };
  const answered = () => clients.reduce((sum, client) => sum + client.unmatched.length, 0);
  let hung = CONNECTIONS;
  for (const answer of hanging) void answer.then(() => hung--);
  await until('the database is found to hang', async () => {
    measure();
    await witness.request('ping');
    return hung === 0;
  });
  t.same(new Set(await Promise.all(hanging)), new Set(['UNAVAILABLE']));
  await until('every ping is answered', () => {
    measure();
    return answered() === PINGS * CONNECTIONS;
  });
  const megabytes = Math.round(peak / 1_000_000);
  t.ok(megabytes < MEGABYTES / 2, `${megabytes} MB at most`);
  t.ok(clients.every(({ isClosed }) => !isClosed));
});
