import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { until } from './support/courier.js';
import { createTestDatabase } from './support/database.js';
import { type CommitFault, FaultyLink } from './support/faulty-link.js';
import { codeOf, insertUsers, startServerOn, tokenFor } from './support/server.js';

/** A server whose wire to the database breaks on purpose. */
async function start(t: Test, settings: Record<string, string> = {}) {
  const { url } = await createTestDatabase(t);
  await insertUsers(url);
  const link = await FaultyLink.to(t, url);
  const server = await startServerOn(t, link.url, settings);
  return { server, link };
}

/** Asks again, as the error said one should, until the answer is another one than `UNAVAILABLE`. */
async function again<T>(request: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await request();
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'UNAVAILABLE')) throw error;
      await sleep(50);
    }
  }
}

const COMMITTED: readonly CommitFault[] = ['answer lost', 'late'];

t.test('COMMIT of a login, answer lost or late: nobody stays online who has no connection', async (t) => {
  const tries = COMMITTED.map(async (fault) => {
    const { server, link } = await start(t, { CHAT_MYSQL_TIMEOUT_MS: '500' });
    const mina = await server.phone('mina');
    link.hitCommitOf('the lost phone', fault);
    const lost = await server.connect();
    const login = lost.login({ token: await tokenFor(2) }, { id: 'jun', name: 'the lost phone' });
    t.equal(await codeOf(login), 'UNAVAILABLE');
    lost.destroy();
    link.release();
    const sessions = () => server.sql('SELECT id FROM chat_session WHERE user_id = 2');
    await until('the session is there', async () => (await sessions()).length === 1);
    await until('the session is gone', async () => (await sessions()).length === 0);
    const ask = () => mina.client.request('presence.subscribe', { userIds: [1, 2] });
    t.match(await again(ask), { presences: [{ state: 'online' }, { state: 'offline' }] });
  });
  await Promise.all(tries);
});
