import t from 'tap';
import { ConnectionLost } from '../src/cli/client.js';
import { freeze } from './support/courier.js';
import { startPrivateDatabase } from './support/database.js';
import { eventsOf, insertUsers, say, startServerOn } from './support/server.js';

/** What a stop may take at the very most, ms. */
const LIMIT_MS = 10_000;

t.test('the server stops within 10 s while the database hangs, however long requests may hang', async (t) => {
  const database = await startPrivateDatabase(t);
  await insertUsers(database.url);
  const server = await startServerOn(t, database.url, { CHAT_MYSQL_TIMEOUT_MS: '8000' });
  const [mina, jun] = await server.phones('mina', 'jun');
  if (!mina || !jun) throw new Error();
  const room = await server.room(mina, [jun]);
  t.teardown(() => {
    process.kill(database.pid, 'SIGCONT');
  });
  await freeze(database.pid);
  const answers = Array.from({ length: 20 }, (_, n) =>
    say(n % 2 === 0 ? mina : jun, room.id, 'hello?').then(
      () => 'ok',
      (error: unknown) => (error instanceof ConnectionLost ? 'unanswered' : error),
    ),
  );
  await mina.client.request('ping');
  const startedAt = performance.now();
  await server.server.stop();
  t.ok(performance.now() - startedAt < LIMIT_MS, `stopped in ${performance.now() - startedAt} ms`);
  t.same(new Set(await Promise.all(answers)), new Set(['unanswered']));
  t.equal(eventsOf(mina, 'server.closing').length, 1);
});
