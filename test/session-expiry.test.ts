import { SignJWT, UnsecuredJWT } from 'jose';
import t from 'tap';
import type { ChatClient } from '../src/cli/client.js';
import {
  caughtUp,
  codeOf,
  eventsOf,
  SECRET,
  startServer,
  type TestServer,
  tokenFor,
  userIdOf,
} from './support/server.js';

const HOUR = Math.floor(Date.now() / 1000) + 3600;

/** A client of mina whose token is good for `seconds`. */
async function loggedInFor(server: TestServer, seconds: number, device: string): Promise<ChatClient> {
  const client = await server.connect();
  await client.login({ token: await tokenFor(userIdOf('mina'), seconds) }, { id: device });
  return client;
}

t.test('a session and its token', async (t) => {
  const shared = await startServer(t, { CHAT_PRESENCE_GRACE_MS: '60000' });

  t.test(
    'session.expiring: comes once, 30 s ahead; the close with SESSION_REVOKED at the time',
    async (t) => {
      const server = shared.within(t);
      const watcher = await server.phone('jun');
      const exp = Math.floor(Date.now() / 1000) + 2;
      const client = await loggedInFor(server, 2, 'short');
      const { tokenExpiresAt } = await client.waitFor('session.expiring');
      t.equal(tokenExpiresAt, exp * 1000);
      await watcher.client.request('presence.subscribe', { userIds: [1] });
      const { error } = await client.closed;
      t.match(error, { code: 'SESSION_REVOKED', retryable: false });
      const late = Date.now() - tokenExpiresAt;
      t.ok(late >= 0 && late < 1500, `closed ${late} ms after the expiry`);
      t.equal(client.events.filter(({ type }) => type === 'session.expiring').length, 1);
      await watcher.client.waitFor('presence', ({ state }) => state === 'offline');
      t.pass('without a grace: the user is not coming back with this token');
    },
  );

  t.test('session.expiring: not for a token that is good for longer', async (t) => {
    const server = shared.within(t);
    const short = await loggedInFor(server, 20, 'twenty seconds');
    const long = await loggedInFor(server, 33, 'more than thirty');
    await short.waitFor('session.expiring');
    await long.request('ping');
    t.same(
      long.events.map(({ type }) => type),
      ['hello'],
    );
    await long.waitFor('session.expiring');
    t.pass('and then it comes');
  });

  t.test('auth.refresh: a new token keeps the connection beyond the old one', async (t) => {
    const server = shared.within(t);
    const client = await loggedInFor(server, 2, 'refreshed');
    const old = (await client.waitFor('session.expiring')).tokenExpiresAt;
    const { tokenExpiresAt } = await client.request('auth.refresh', { token: await tokenFor(1, 3600) });
    t.ok(tokenExpiresAt > Date.now() + 3_500_000);
    const outlived = await loggedInFor(server, (old - Date.now()) / 1000 + 1, 'outlived');
    await outlived.closed;
    await client.request('ping');
    t.ok(Date.now() > old, 'the old token has expired');
    t.equal(client.events.filter(({ type }) => type === 'session.expiring').length, 1);
  });

  t.test('auth.refresh: with a token that expires soon is announced again', async (t) => {
    const server = shared.within(t);
    const client = await loggedInFor(server, 10, 'again');
    await client.waitFor('session.expiring');
    const { tokenExpiresAt } = await client.request('auth.refresh', { token: await tokenFor(1, 20) });
    await client.waitFor('session.expiring', (data) => data.tokenExpiresAt === tokenExpiresAt);
  });

  t.test('auth.refresh: AUTH_FAILED for a bad token or that of another user; it is closed', async (t) => {
    const server = shared.within(t);
    const sign = (claims: Record<string, unknown>) =>
      new SignJWT(claims).setProtectedHeader({ alg: 'HS256' }).sign(new TextEncoder().encode(SECRET));
    const bad: Record<string, string> = {
      'of another user': await tokenFor(userIdOf('jun')),
      expired: await tokenFor(1, -1),
      'alg none': new UnsecuredJWT({ sub: '1', exp: HOUR }).encode(),
      'missing exp': await sign({ sub: '1' }),
      'missing sub': await sign({ exp: HOUR }),
      'no token': 'x',
    };
    for (const [what, token] of Object.entries(bad)) {
      const { client } = await server.phone('mina', what);
      client.sendRaw(
        `${JSON.stringify({ id: 1, type: 'auth.refresh', data: { token } })}\n` +
          '{"id":2,"type":"room.create","data":{"name":"after a bad refresh"}}\n',
      );
      t.match(await client.waitForReply(1), { type: 'error', error: { code: 'AUTH_FAILED' } }, what);
      t.equal((await client.closed).error, null);
      t.same(client.unmatched, [], 'what came behind it is not executed');
    }
    const { rooms } = (await server.phone('mina')).login;
    t.notOk(rooms.some(({ name }) => name === 'after a bad refresh'));
  });

  t.test('auth.refresh: BAD_REQUEST keeps the connection', async (t) => {
    const { client } = await shared.within(t).phone('mina');
    client.sendRaw('{"id":1,"type":"auth.refresh","data":{}}\n{"id":2,"type":"ping"}\n');
    t.match(await client.waitForReply(1), { type: 'error', error: { code: 'BAD_REQUEST' } });
    t.match(await client.waitForReply(2), { type: 'ok' });
  });

  t.test('SESSION_REVOKED: a user who is disabled is logged out, and can not refresh', async (t) => {
    const server = shared.within(t);
    const [duri, bora, mina] = await server.phones('duri', 'bora', 'mina');
    await server.sql('UPDATE chat_user SET disabled_at = UTC_TIMESTAMP(3) WHERE id IN (5, 6)');
    t.equal(await codeOf(bora.client.request('auth.refresh', { token: await tokenFor(5) })), 'AUTH_FAILED');
    t.match((await duri.client.closed).error, { code: 'SESSION_REVOKED', retryable: false });
    await caughtUp(mina);
    t.same(eventsOf(mina, 'session.expiring'), []);
  });
});
