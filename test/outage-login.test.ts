import t from 'tap';
import { until } from './support/courier.js';
import { again, type CommitFault, startOnFaultyLink } from './support/faulty-link.js';
import { codeOf, tokenFor } from './support/server.js';

const COMMITTED: readonly CommitFault[] = ['answer lost', 'late'];

t.test('COMMIT of a login, answer lost or late: nobody stays online who has no connection', async (t) => {
  const tries = COMMITTED.map(async (fault) => {
    const { server, link } = await startOnFaultyLink(t, { CHAT_MYSQL_TIMEOUT_MS: '500' });
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
