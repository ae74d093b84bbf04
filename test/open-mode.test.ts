import t from 'tap';
import { ConfigError, loadConfig } from '../src/shared/config.js';
import { codeOf, say, startServer, tokenFor } from './support/server.js';

t.test('CHAT_AUTH=open', async (t) => {
  const server = await startServer(t, { CHAT_AUTH: 'open' });

  t.test('auth.login: trusts the userId, and the session does not expire', async (t) => {
    const [mina, jun] = await server.within(t).phones('mina', 'jun');
    t.equal(mina.login.user.username, 'mina');
    t.notOk('tokenExpiresAt' in mina.login);
    const room = await server.room(mina, [jun]);
    await say(mina, room.id, 'open');
    await jun.client.waitFor('message', ({ text }) => text === 'open');
  });

  t.test(
    'auth.login: AUTH_FAILED for an unknown or disabled user, and the connection is closed',
    async (t) => {
      await server.sql('UPDATE chat_user SET disabled_at = UTC_TIMESTAMP(3) WHERE id = 6');
      for (const userId of [4711, 6, Number.MAX_SAFE_INTEGER]) {
        const client = await server.within(t).connect();
        t.equal(await codeOf(client.login({ userId }, { id: 'x' })), 'AUTH_FAILED');
        t.equal((await client.closed).error, null);
      }
    },
  );

  t.test('auth.login: BAD_REQUEST for what is no user id, and for a token', async (t) => {
    const client = await server.within(t).connect();
    for (const userId of [0, -1, 1.5, 2 ** 53]) {
      t.equal(await codeOf(client.login({ userId }, { id: 'x' })), 'BAD_REQUEST', String(userId));
    }
    t.equal(await codeOf(client.login({ token: await tokenFor(1) }, { id: 'x' })), 'BAD_REQUEST');
    t.match(await client.login({ userId: 1 }, { id: 'x' }), { user: { id: 1 } });
  });

  t.test('auth.refresh: there is no token to refresh', async (t) => {
    const { client } = await server.within(t).phone('mina');
    t.equal(await codeOf(client.request('auth.refresh', { token: await tokenFor(1) })), 'CONFLICT');
    await client.request('ping');
  });

  t.test('SESSION_REVOKED: the same device.id replaces the older connection', async (t) => {
    const old = await server.within(t).phone('sora', 'x');
    await server.within(t).phone('sora', 'x');
    t.equal((await old.client.closed).error?.code, 'SESSION_REVOKED');
  });
});

t.test('CHAT_AUTH=jwt: a userId instead of a token is BAD_REQUEST', async (t) => {
  const server = await startServer(t);
  const client = await server.connect();
  t.equal(await codeOf(client.login({ userId: 1 }, { id: 'x' })), 'BAD_REQUEST');
});

t.test('CHAT_AUTH=open: the start is refused on an address that others can reach', async (t) => {
  const open = { CHAT_AUTH: 'open' };
  for (const host of ['0.0.0.0', '::', '192.168.1.2', 'chat.example.com', '127.0.0.1.example.com']) {
    const settings = { ...open, CHAT_TCP_HOST: host };
    t.throws(() => loadConfig(settings, '/'), ConfigError, host);
    const meant = loadConfig({ ...settings, CHAT_AUTH_OPEN_ANYWHERE: 'yes' }, '/');
    t.equal(meant.CHAT_TCP_HOST, host);
    t.equal(loadConfig({ CHAT_TCP_HOST: host }, '/').CHAT_AUTH, 'jwt');
  }
  for (const host of ['127.0.0.1', 'localhost', '::1', '127.1.2.3']) {
    t.equal(loadConfig({ ...open, CHAT_TCP_HOST: host }, '/').CHAT_AUTH, 'open', host);
  }
  t.throws(() => loadConfig({ ...open, CHAT_TCP_HOST: '0.0.0.0', CHAT_AUTH_OPEN_ANYWHERE: 'no' }, '/'));
});
