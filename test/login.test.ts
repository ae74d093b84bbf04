import { connect } from 'node:net';
import { setImmediate as turn } from 'node:timers/promises';
import { SignJWT, UnsecuredJWT } from 'jose';
import t from 'tap';
import { ChatClient, ProtocolError } from '../src/cli/client.js';
import {
  caughtUp,
  codeOf,
  eventsOf,
  type Phone,
  pushedTo,
  SECRET,
  say,
  startServer,
  tokenFor,
  userIdOf,
} from './support/server.js';

const HOUR = Math.floor(Date.now() / 1000) + 3600;
const key = new TextEncoder().encode(SECRET);
const hs256 = (claims: Record<string, unknown>) =>
  new SignJWT(claims).setProtectedHeader({ alg: 'HS256' }).sign(key);

/** Every request type but the two that need no login, with data that would be right. */
const NEEDS_LOGIN: Record<string, object> = {
  'auth.refresh': { token: 'x' },
  'auth.logout': {},
  'room.create': { name: 'a room' },
  'room.direct': { userId: 2 },
  'room.list': { scope: 'mine' },
  'room.get': { roomId: 1 },
  'room.join': { roomId: 1 },
  'room.invite': { roomId: 1, userIds: [2] },
  'room.leave': { roomId: 1 },
  'room.members': { roomId: 1 },
  'room.update': { roomId: 1, name: 'x' },
  'room.kick': { roomId: 1, userId: 2 },
  'room.unban': { roomId: 1, userId: 2 },
  'room.transfer': { roomId: 1, userId: 2 },
  'room.delete': { roomId: 1 },
  'message.send': { roomId: 1, clientMessageId: 'a', kind: 'text', text: 'x' },
  'message.history': { roomId: 1 },
  'message.delivered': { roomId: 1, seq: 1 },
  'message.read': { roomId: 1, seq: 1 },
  typing: { roomId: 1, typing: true },
  sync: { cursors: [] },
  'user.get': { userIds: [1] },
  'user.list': {},
  'presence.subscribe': { userIds: [2] },
};

/** Waits until the server has ended the connection; returns the code it gave, if any. */
async function endOf(phone: { readonly client: ChatClient }): Promise<string | undefined> {
  const { error, cause } = await phone.client.closed;
  if (cause !== undefined) throw cause;
  return error?.code;
}

t.test('connecting and logging in', async (t) => {
  const shared = await startServer(t, { CHAT_PRESENCE_GRACE_MS: '60000' });

  t.test('hello: the first line says who the server is and what its limits are', async (t) => {
    const before = Date.now();
    const { hello } = await shared.within(t).connect();
    t.match(hello, {
      protocol: 1,
      server: shared.server.processId,
      heartbeatMs: 5000,
      timeoutMs: 30_000,
      loginTimeoutMs: 10_000,
      maxFrameBytes: 1_048_576,
      maxTextChars: 100_000,
      features: Array,
    });
    t.ok(hello.serverAt >= before && hello.serverAt <= Date.now(), 'the time is now');
  });

  t.test('ping: is answered before login, with or without data', async (t) => {
    const client = await shared.within(t).connect();
    const { serverAt } = await client.request('ping');
    t.ok(Math.abs(serverAt - Date.now()) < 5000);
    client.sendRaw('{"id":"a","type":"ping"}\n{"id":"b","type":"ping","data":{}}\n');
    t.match(await client.waitForReply('a'), { type: 'ok', data: { serverAt: Number } });
    t.match(await client.waitForReply('b'), { type: 'ok' });
  });

  t.test('auth.login: answers with the user, the session, the device and the rooms', async (t) => {
    const server = shared.within(t);
    const owner = await server.phone('mina');
    const room = await server.room(owner, [], { name: 'the room of the login' });
    await say(owner, room.id, 'hi');
    const client = await server.connect();
    const device = { id: 'tablet', name: 'the tablet', platform: 'android 15' };
    const token = await tokenFor(userIdOf('mina'));
    const login = await client.login({ token }, device);
    t.same(login.user, { id: 1, username: 'mina', displayName: 'MINA', avatarPath: null });
    t.same(login.device, device);
    t.type(login.sessionId, 'string');
    t.equal(login.tokenExpiresAt, Number(JSON.parse(atob(token.split('.')[1] ?? '')).exp) * 1000);
    t.ok(Math.abs(login.serverAt - Date.now()) < 5000);
    const told = login.rooms.find(({ id }) => id === room.id);
    t.match(told, {
      kind: 'group',
      name: 'the room of the login',
      visibility: 'public',
      ownerId: 1,
      memberCount: 1,
      memberLimit: 100,
      lastSeq: 2,
      lastMessage: { roomId: room.id, seq: 2, kind: 'text', senderId: 1, text: 'hi' },
      role: 'owner',
      readSeq: 2,
      deliveredSeq: 2,
      unread: 0,
    });
  });

  t.test('auth.login: requests sent right behind it, in the same packet, run as the user', async (t) => {
    const client = await shared.within(t).connect();
    const login = { token: await tokenFor(2), device: { id: 'one packet' } };
    client.sendRaw(
      `${JSON.stringify({ id: 'login', type: 'auth.login', data: login })}\n` +
        `${JSON.stringify({ id: 'create', type: 'room.create', data: { name: 'at once' } })}\n` +
        `${JSON.stringify({ id: 'list', type: 'room.list', data: { scope: 'mine', query: 'at once' } })}\n`,
    );
    t.match(await client.waitForReply('login'), { type: 'ok', data: { user: { username: 'jun' } } });
    t.match(await client.waitForReply('create'), { type: 'ok', data: { room: { name: 'at once' } } });
    t.match(await client.waitForReply('list'), { type: 'ok', data: { rooms: [{ name: 'at once' }] } });
  });

  t.test('auth.login: a second one on the same connection is CONFLICT and changes nothing', async (t) => {
    const phone = await shared.within(t).phone('sora');
    const again = phone.client.login({ token: await tokenFor(4) }, { id: 'other' });
    t.equal(await codeOf(again), 'CONFLICT');
    const { room } = await phone.client.request('room.create', { name: 'still sora' });
    t.equal(room.ownerId, userIdOf('sora'));
  });

  t.test('NOT_AUTHENTICATED: every request but auth.login and ping, before login', async (t) => {
    const client = await shared.within(t).connect();
    for (const [type, data] of Object.entries(NEEDS_LOGIN)) {
      client.sendRaw(`${JSON.stringify({ id: type, type, data })}\n`);
      const reply = await client.waitForReply(type);
      t.match(reply, { type: 'error', error: { code: 'NOT_AUTHENTICATED', retryable: false } }, type);
    }
    await client.login({ token: await tokenFor(1) }, { id: 'late' });
    t.pass('and the connection can still log in');
  });

  t.test('UNKNOWN_TYPE: before and after login, and the connection stays', async (t) => {
    const { client } = await shared.within(t).phone('mina');
    const fresh = await shared.within(t).connect();
    for (const [i, type] of [
      'room.fly',
      'message',
      'hello',
      'ok',
      '',
      'constructor',
      '__proto__',
    ].entries()) {
      for (const connection of [client, fresh]) {
        connection.sendRaw(`${JSON.stringify({ id: `u${i}`, type })}\n`);
        const reply = await connection.waitForReply(`u${i}`);
        t.match(reply, { type: 'error', error: { code: 'UNKNOWN_TYPE', retryable: false } }, type);
      }
    }
    await client.request('ping');
    await fresh.request('ping');
  });

  t.test('auth.login: BAD_REQUEST for a missing or unknown field keeps the connection', async (t) => {
    const client = await shared.within(t).connect();
    const token = await tokenFor(1);
    const wrong: [object, string][] = [
      [{ token }, 'data.device'],
      [{ device: { id: 'x' } }, 'data.token'],
      [{ token, device: {} }, 'data.device.id'],
      [{ token, device: { id: '' } }, 'data.device.id'],
      [{ token, device: { id: 'x', colour: 'red' } }, 'data.device.colour'],
      [{ token, device: { id: 'x' }, userId: 1 }, 'data.userId'],
      [{ token: 7, device: { id: 'x' } }, 'data.token'],
    ];
    for (const [i, [data, path]] of wrong.entries()) {
      client.sendRaw(`${JSON.stringify({ id: `w${i}`, type: 'auth.login', data })}\n`);
      const reply = await client.waitForReply(`w${i}`);
      t.match(reply, { type: 'error', error: { code: 'BAD_REQUEST', issues: [{ path }] } }, path);
    }
    t.match(await client.login({ token }, { id: 'x' }), { user: { id: 1 } });
  });

  t.test('AUTH_FAILED: a bad token, an unknown or a disabled user; the connection is closed', async (t) => {
    const server = shared.within(t);
    await server.sql('UPDATE chat_user SET disabled_at = UTC_TIMESTAMP(3) WHERE id = ?', [userIdOf('duri')]);
    const expired = Math.floor(Date.now() / 1000) - 1;
    const otherKey = new TextEncoder().encode('another secret of 32 characters!!');
    // Of jun: mina's own payload may come out the same to the letter, and then the signature is good.
    const [header = '', payload = '', signature = ''] = (await tokenFor(userIdOf('jun'))).split('.');
    const asMina = Buffer.from(JSON.stringify({ sub: '1', exp: HOUR })).toString('base64url');
    const bad: Record<string, string> = {
      'alg none': new UnsecuredJWT({}).setSubject('1').setExpirationTime(HOUR).encode(),
      'alg none with a signature': `${Buffer.from('{"alg":"none"}').toString('base64url')}.${payload}.${signature}`,
      'HS256 with another key': await new SignJWT({ sub: '1', exp: HOUR })
        .setProtectedHeader({ alg: 'HS256' })
        .sign(otherKey),
      'HS512, which is not offered': await new SignJWT({ sub: '1', exp: HOUR })
        .setProtectedHeader({ alg: 'HS512' })
        .sign(key),
      'another payload under the signature': `${header}.${asMina}.${signature}`,
      'signature cut off': `${header}.${payload}.`,
      expired: await hs256({ sub: '1', exp: expired }),
      'not yet valid': await hs256({ sub: '1', exp: HOUR, nbf: HOUR - 1800 }),
      'missing exp': await hs256({ sub: '1' }),
      'exp that is no number': await hs256({ sub: '1', exp: String(HOUR) }),
      'missing sub': await hs256({ exp: HOUR }),
      'sub that is no id': await hs256({ sub: 'mina', exp: HOUR }),
      'sub 0': await hs256({ sub: '0', exp: HOUR }),
      'sub -1': await hs256({ sub: '-1', exp: HOUR }),
      'sub 1.5': await hs256({ sub: '1.5', exp: HOUR }),
      'sub with a space': await hs256({ sub: ' 1', exp: HOUR }),
      'sub 2^53': await hs256({ sub: '9007199254740992', exp: HOUR }),
      'sub 1 OR 1=1': await hs256({ sub: '1 OR 1=1', exp: HOUR }),
      'unknown user': await hs256({ sub: '4711', exp: HOUR }),
      'disabled user': await hs256({ sub: String(userIdOf('duri')), exp: HOUR }),
      'not a token': 'abc',
      dots: '...',
    };
    for (const [what, token] of Object.entries(bad)) {
      const client = await server.connect();
      client.sendRaw(
        `${JSON.stringify({ id: 1, type: 'auth.login', data: { token, device: { id: 'x' } } })}\n` +
          '{"id":2,"type":"room.create","data":{"name":"as nobody"}}\n',
      );
      const reply = await client.waitForReply(1);
      t.match(reply, { type: 'error', error: { code: 'AUTH_FAILED', retryable: false } }, what);
      t.notOk(JSON.stringify(reply).includes(signature), 'the token is not in the answer');
      t.equal(await endOf({ client }), undefined, 'the reply has said why');
      t.same(client.unmatched, [], 'what came behind it is not executed');
    }
    t.same(await server.sql("SELECT id FROM chat_room WHERE name = 'as nobody'"), []);
  });

  t.test('auth.login: one user on many devices, each gets what is said', async (t) => {
    const server = shared.within(t);
    const devices: Phone[] = [];
    for (const device of ['phone', 'tablet', 'laptop']) devices.push(await server.phone('hyun', device));
    const [phone, tablet, laptop] = devices;
    if (phone === undefined || tablet === undefined || laptop === undefined) throw new Error();
    t.equal(new Set(devices.map(({ login }) => login.sessionId)).size, 3);
    const { room } = await phone.client.request('room.create', { name: 'mine' });
    const { seq } = await say(tablet, room.id, 'from the tablet');
    await caughtUp(...devices);
    const seqs = (device: Phone) => pushedTo(device, room.id).map((message) => message.seq);
    t.same(seqs(phone), [seq]);
    t.same(seqs(laptop), [seq]);
    t.same(seqs(tablet), [], 'the sender got its ok instead');
  });

  t.test(
    'auth.login: the same device.id again closes the older connection with SESSION_REVOKED',
    async (t) => {
      const server = shared.within(t);
      const old = await server.phone('bora', 'the phone');
      const other = await server.phone('bora', 'The phone');
      const neighbour = await server.phone('mina', 'the phone');
      const { room } = await old.client.request('room.create', { name: 'over the change' });
      const fresh = await server.phone('bora', 'the phone');
      t.equal(await endOf(old), 'SESSION_REVOKED');
      t.not(fresh.login.sessionId, old.login.sessionId);
      await caughtUp(fresh, other, neighbour);
      await say(other, room.id, 'here');
      await fresh.client.waitFor('message', (message) => message.text === 'here');
      t.pass('the newer connection, another device and the same device of another user go on');
    },
  );

  t.test('auth.login: of many logins of one device at once, one connection stays', async (t) => {
    const server = shared.within(t);
    const token = await tokenFor(userIdOf('bora'));
    for (let round = 0; round < 5; round++) {
      const clients = await Promise.all(Array.from({ length: 8 }, () => server.connect()));
      const outcomes = await Promise.allSettled(
        clients.map((client) => client.login({ token }, { id: 'x' })),
      );
      for (const outcome of outcomes) {
        if (outcome.status === 'rejected') t.equal(outcome.reason.last?.code, 'SESSION_REVOKED');
      }
      while (clients.filter((client) => !client.isClosed).length > 1) await turn();
      const alive = clients.filter((client) => !client.isClosed);
      t.equal(alive.length, 1);
      await alive[0]?.request('ping');
      const rows = await server.sql('SELECT id FROM chat_session WHERE user_id = ? AND device_id = ?', [
        5,
        'x',
      ]);
      const stayed = outcomes[clients.indexOf(alive[0] ?? clients[0] ?? (await server.connect()))];
      t.equal(rows.length, 1);
      t.equal(stayed?.status === 'fulfilled' && stayed.value.sessionId, String(rows[0]?.id));
    }
  });

  t.test('auth.logout: ok, then the server closes, and the user is offline at once', async (t) => {
    const server = shared.within(t);
    const watcher = await server.phone('mina');
    const leaver = await server.phone('jun');
    // Their other devices of earlier parts are gone without a logout, and would count as online for a minute.
    await server.sql('DELETE FROM chat_session WHERE user_id = ? AND id <> ?', [2, leaver.login.sessionId]);
    const { presences } = await watcher.client.request('presence.subscribe', { userIds: [leaver.userId] });
    t.match(presences, [{ userId: leaver.userId, state: 'online' }]);
    t.same(await leaver.client.request('auth.logout'), {});
    t.equal(await endOf(leaver), undefined);
    await watcher.client.waitFor('presence', ({ state }) => state === 'offline');
    t.equal(eventsOf(watcher, 'presence').length, 1);
  });

  t.test('auth.logout: what was sent behind it in the same packet is not executed', async (t) => {
    const server = shared.within(t);
    const phone = await server.phone('jun');
    phone.client.sendRaw(
      '{"id":"bye","type":"auth.logout"}\n{"id":"late","type":"room.create","data":{"name":"after logout"}}\n',
    );
    t.match(await phone.client.waitForReply('bye'), { type: 'ok' });
    await phone.client.closed;
    t.same(phone.client.unmatched, []);
    t.same(await server.sql("SELECT id FROM chat_room WHERE name = 'after logout'"), []);
  });

  t.test('auth.logout: other devices of the user stay', async (t) => {
    const server = shared.within(t);
    const phone = await server.phone('sora', 'phone');
    const tablet = await server.phone('sora', 'tablet');
    await phone.client.request('auth.logout');
    await phone.client.closed;
    await caughtUp(tablet);
    t.notOk(tablet.client.isClosed);
  });
});

t.test('LOGIN_TIMEOUT: who has not logged in within loginTimeoutMs is told and closed', async (t) => {
  const server = await startServer(t, { CHAT_LOGIN_TIMEOUT_MS: '400' });
  const silent = await server.connect();
  t.equal(silent.hello.loginTimeoutMs, 400);
  const refused = await server.connect();
  const pinging = await server.connect();
  const flooding = await server.connect();
  const phone = await server.phone('mina');
  t.equal(await codeOf(refused.request('room.list', { scope: 'mine' })), 'NOT_AUTHENTICATED');
  const ping = async () => {
    while (!pinging.isClosed) await pinging.request('ping').catch(() => undefined);
  };
  const flood = async () => {
    while (!flooding.isClosed) {
      flooding.sendRaw('{"id":1,"type":"ping"}\n'.repeat(50));
      await turn();
    }
  };
  await Promise.all([ping(), flood()]);
  for (const client of [silent, refused, pinging, flooding]) {
    t.equal(await endOf({ client }), 'LOGIN_TIMEOUT');
    t.equal(client.lastError?.retryable, true, 'reconnecting makes sense');
  }
  await caughtUp(phone);
  t.notOk(phone.client.isClosed, 'who has logged in stays');
});

t.test('TOO_MANY_CONNECTIONS: more from one address than it may have are told and closed', async (t) => {
  const server = await startServer(t, { CHAT_CONNECTIONS_PER_ADDRESS: '3' });
  const clients = [await server.connect(), await server.connect(), await server.connect()];
  for (let i = 0; i < 3; i++) {
    const error = await server.connect().catch((error: unknown) => error);
    t.ok(error instanceof ProtocolError);
    t.match(error, { code: 'TOO_MANY_CONNECTIONS', retryable: true });
  }
  const elsewhere = await ChatClient.connect({
    host: '127.0.0.1',
    port: server.port,
    localAddress: '127.0.0.2',
  });
  t.teardown(() => elsewhere.destroy());
  await elsewhere.request('ping');
  t.pass('another address is another count');
  for (const client of clients) await client.request('ping');
  await clients[0]?.close();
  while (server.server.connections > 3) await turn();
  await server.connect();
  t.pass('one that goes makes room for one');
});

t.test('TOO_MANY_CONNECTIONS: over the limit of the process', async (t) => {
  const server = await startServer(t, { CHAT_MAX_CONNECTIONS: '2' });
  await server.connect();
  const second = await server.connect();
  t.equal(await codeOf(server.connect()), 'TOO_MANY_CONNECTIONS');
  second.reset();
  while (server.server.connections > 1) await turn();
  const phone = await server.phone('mina');
  await caughtUp(phone);
  // What is refused is told in one line, without a hello.
  await server.connect().catch(() => undefined);
  const socket = connect(server.port, '127.0.0.1');
  let received = '';
  for await (const chunk of socket.setEncoding('utf8')) received += chunk;
  t.equal(received.split('\n').length, 2);
  t.match(JSON.parse(received), { type: 'error', id: null, error: { code: 'TOO_MANY_CONNECTIONS' } });
});
