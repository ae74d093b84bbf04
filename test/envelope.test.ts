import t, { type Test } from 'tap';
import type { ChatClient } from '../src/cli/client.js';
import { say, startServer, tokenFor } from './support/server.js';

/** PROTOCOL 2: ids, unknown fields, one reply per request, and the order in which requests take effect. */
const server = await startServer(t);

const frame = (id: unknown, type: string, data?: unknown) => `${JSON.stringify({ id, type, data })}\n`;

/** Nothing came beside what was waited for. */
async function isQuiet(t: Pick<Test, 'strictSame'>, client: ChatClient) {
  await client.request('ping');
  t.strictSame(client.unmatched, []);
}

t.test('id: a string of 1–64 characters or an integer, echoed as it was, with its type', async (t) => {
  const { client } = await server.within(t).phone('mina');
  const ids = [
    'a',
    '1',
    '01',
    ' ',
    'x'.repeat(64),
    '한'.repeat(64),
    '👍'.repeat(64),
    '\u0000',
    '"\\\n',
    '\u2028',
    'e\u0301',
    '__proto__',
    'null',
    'true',
    100_001,
    2 ** 31,
    2 ** 53 - 1,
  ];
  for (const [i, id] of ids.entries()) {
    client.sendRaw(frame(id, 'ping'));
    t.strictSame((await client.waitForReply(id)).id, id, `id number ${i}`);
    client.sendRaw(frame(id, 'room.get', { roomId: 999_999 }));
    t.match(await client.waitForReply(id), { id, type: 'error', error: { code: 'NOT_FOUND' } });
    client.sendRaw(frame(id, 'no.such.type'));
    t.match(await client.waitForReply(id), { id, type: 'error', error: { code: 'UNKNOWN_TYPE' } });
  }
  await isQuiet(t, client);
});

t.test('id: 0, and numbers that JSON can write in several ways', async (t) => {
  const client = await server.within(t).connect();
  for (const [written, id] of [
    ['0', 0],
    ['-0', 0],
    ['1e3', 1000],
    ['12.0', 12],
    ['9007199254740991', 2 ** 53 - 1],
  ] as const) {
    client.sendRaw(`{"id":${written},"type":"ping"}\n`);
    t.strictSame((await client.waitForReply(id)).id, id, written);
  }
});

t.test('id: anything else is BAD_REQUEST with id null', async (t) => {
  const { client } = await server.within(t).phone('mina');
  const wrong = [
    '""',
    `"${'x'.repeat(65)}"`,
    `"${'👍'.repeat(65)}"`,
    '"\\ud800"',
    '-1',
    '1.5',
    '9007199254740992',
    '1e999',
    '-1e999',
    'null',
    'true',
    '[]',
    '[1]',
    '{}',
    '{"id":1}',
  ];
  for (const id of wrong) {
    client.sendRaw(`{"id":${id},"type":"ping"}\n`);
    const reply = await client.waitForReply(null);
    t.match(
      reply,
      { id: null, type: 'error', error: { code: 'BAD_REQUEST', issues: [{ path: 'id' }] } },
      id.slice(0, 40),
    );
  }
  client.sendRaw('{"type":"ping"}\n{}\n');
  for (const what of ['no id', 'nothing at all']) {
    t.match(
      await client.waitForReply(null),
      { error: { code: 'BAD_REQUEST', issues: [{ path: 'id' }] } },
      what,
    );
  }
  await isQuiet(t, client);
});

t.test('id: the client may use one again, and gets a reply for each', async (t) => {
  const { client } = await server.within(t).phone('mina');
  client.sendRaw(frame('same', 'ping').repeat(5) + frame('same', 'nope'));
  const types: string[] = [];
  for (let i = 0; i < 6; i++) types.push((await client.waitForReply('same')).type);
  t.strictSame(types, ['ok', 'ok', 'ok', 'ok', 'ok', 'error']);
  await isQuiet(t, client);
});

t.test('data: may be left out where nothing is needed, and is an object otherwise', async (t) => {
  const { client } = await server.within(t).phone('mina');
  client.sendRaw('{"id":"a","type":"ping"}\n{"id":"b","type":"ping","data":{}}\n');
  t.match(await client.waitForReply('a'), { type: 'ok' });
  t.match(await client.waitForReply('b'), { type: 'ok' });
  for (const data of ['null', '[]', '1', '"x"', 'true', '[{}]']) {
    client.sendRaw(`{"id":"c","type":"ping","data":${data}}\n`);
    t.match(
      await client.waitForReply('c'),
      { error: { code: 'BAD_REQUEST', issues: [{ path: 'data' }] } },
      data,
    );
  }
  client.sendRaw('{"id":"d","type":"room.get"}\n');
  t.match(await client.waitForReply('d'), {
    error: { code: 'BAD_REQUEST', issues: [{ path: 'data.roomId' }] },
  });
});

t.test('type: must be a string that is a request type', async (t) => {
  const { client } = await server.within(t).phone('mina');
  for (const type of ['null', '1', '[]', '{}', '["ping"]', 'true']) {
    client.sendRaw(`{"id":"a","type":${type}}\n`);
    t.match(
      await client.waitForReply('a'),
      { error: { code: 'BAD_REQUEST', issues: [{ path: 'type' }] } },
      type,
    );
  }
  client.sendRaw('{"id":"a"}\n');
  t.match(
    await client.waitForReply('a'),
    { error: { code: 'BAD_REQUEST', issues: [{ path: 'type' }] } },
    'missing',
  );
  const unknown = [
    '',
    'Ping',
    'ping ',
    'message',
    'message.',
    'ok',
    'error',
    'hello',
    '__proto__',
    'constructor',
    'toString',
    'hasOwnProperty',
    'message.edit',
    'session.open',
    'presence.read',
    'typing.refuse',
    '\ud800',
    'x'.repeat(10_000),
  ];
  for (const type of unknown) {
    client.sendRaw(frame('a', type));
    t.match(
      await client.waitForReply('a'),
      { error: { code: 'UNKNOWN_TYPE' } },
      JSON.stringify(type.slice(0, 40)),
    );
  }
});

t.test('unknown fields: refused with their path, at the top, in the data and below', async (t) => {
  const here = server.within(t);
  const mina = await here.phone('mina');
  const { client } = mina;
  const { id: roomId } = await here.room(mina);
  const send = { roomId, clientMessageId: 'k', kind: 'image' };
  const wrong: [object, string[]][] = [
    [{ type: 'ping', Data: {} }, ['Data']],
    [{ type: 'ping', typ: 'ping', ID: 1 }, ['typ', 'ID']],
    [{ type: 'ping', data: { a: 1, b: 2 } }, ['data.a', 'data.b']],
    [{ type: 'room.get', data: { roomId, roomid: 1 } }, ['data.roomid']],
    [{ type: 'message.send', data: { ...send, image: { path: '/images/a', Path: 1 } } }, ['data.image.Path']],
    [{ type: 'message.send', data: { ...send, image: { path: '/images/a' }, replyTo: 1 } }, ['data.replyTo']],
    [
      {
        type: 'sync',
        data: {
          cursors: [
            { roomId, afterSeq: 0 },
            { roomId, afterSeq: 0, seq: 1 },
          ],
        },
      },
      ['data.cursors.1.seq'],
    ],
    [{ type: 'room.create', data: { nam: 'x' } }, ['data.name', 'data.nam']],
  ];
  for (const [request, paths] of wrong) {
    client.sendRaw(`${JSON.stringify({ id: 'a', ...request })}\n`);
    const expected = { error: { code: 'BAD_REQUEST', issues: paths.map((path) => ({ path })) } };
    t.match(await client.waitForReply('a'), expected, paths.join(', '));
  }
  client.sendRaw(`{"id":"a","type":"ping","${'x'.repeat(99)}😀":1}\n`);
  t.match(
    await client.waitForReply('a'),
    { error: { code: 'BAD_REQUEST' } },
    'a name that is cut inside a pair',
  );
  t.equal((await say(mina, roomId, 'nothing was sent before')).seq, 2);
});

t.test('order: requests of one connection take effect in the order they were sent', async (t) => {
  const here = server.within(t);
  const [mina, jun] = await here.phones('mina', 'jun');
  const { id: roomId } = await here.room(mina, [jun]);
  const send = (key: string) => ({ roomId, clientMessageId: key, kind: 'text', text: key });
  const ok = (data: object) => ({ type: 'ok', data });
  const error = (code: string) => ({ type: 'error', error: { code } });
  const script: [string, object, object][] = [
    ['message.send', send('one'), ok({ seq: 2 })],
    ['message.read', { roomId, seq: 2 }, ok({ readSeq: 2, unread: 0 })],
    ['message.read', { roomId, seq: 3 }, error('BAD_REQUEST')],
    ['message.history', { roomId, limit: 1 }, ok({ messages: [{ seq: 2, text: 'one' }] })],
    ['message.send', send('two'), ok({ seq: 3 })],
    ['message.send', send('three'), ok({ seq: 4 })],
    ['room.get', { roomId }, ok({ room: { lastSeq: 4, lastMessage: { text: 'three' } } })],
    ['room.leave', { roomId }, ok({})],
    ['message.send', send('four'), error('NOT_A_MEMBER')],
    ['typing', { roomId, typing: true }, error('NOT_A_MEMBER')],
    ['message.history', { roomId }, error('NOT_A_MEMBER')],
    ['room.join', { roomId }, ok({ room: { lastSeq: 6 } })],
    ['typing', { roomId, typing: true }, ok({})],
    ['message.send', send('four'), ok({ seq: 7, duplicate: false })],
    ['message.send', send('four'), ok({ seq: 7, duplicate: true })],
    ['message.delivered', { roomId, seq: 7 }, ok({ deliveredSeq: 7 })],
    [
      'presence.subscribe',
      { userIds: [mina.userId] },
      ok({ presences: [{ userId: mina.userId, state: 'online' }] }),
    ],
    [
      'sync',
      { cursors: [{ roomId, afterSeq: 6 }] },
      ok({ rooms: [{ events: [{ data: { text: 'four' } }] }] }),
    ],
    ['room.leave', { roomId }, ok({})],
    ['room.get', { roomId }, ok({ room: { role: null, lastSeq: 8 } })],
  ];
  jun.client.sendRaw(script.map(([type, data], i) => frame(`step ${i}`, type, data)).join(''));
  for (const [i, [type, , expected]] of script.entries()) {
    t.match(await jun.client.waitForReply(`step ${i}`), expected, `step ${i}: ${type}`);
  }
  await isQuiet(t, jun.client);
});

t.test('order: what is pipelined behind the login is executed after it', async (t) => {
  const here = server.within(t);
  const before = await here.phone('sora');
  const { id: roomId } = await here.room(before);
  await before.client.close();
  const client = await here.connect();
  const send = { roomId, clientMessageId: 'k', kind: 'text', text: 'first words' };
  client.sendRaw(
    frame('early', 'room.get', { roomId }) +
      frame('login', 'auth.login', { token: await tokenFor(before.userId), device: { id: 'x' } }) +
      frame('send', 'message.send', send) +
      frame('get', 'room.get', { roomId }) +
      frame('again', 'auth.login', { token: await tokenFor(before.userId), device: { id: 'x' } }) +
      frame('ping', 'ping'),
  );
  t.match(await client.waitForReply('early'), { error: { code: 'NOT_AUTHENTICATED' } });
  t.match(await client.waitForReply('login'), { type: 'ok', data: { user: { username: 'sora' } } });
  t.match(await client.waitForReply('send'), { type: 'ok', data: { seq: 2 } });
  t.match(await client.waitForReply('get'), { type: 'ok', data: { room: { lastSeq: 2 } } });
  t.match(await client.waitForReply('again'), { error: { code: 'CONFLICT' } });
  t.match(await client.waitForReply('ping'), { type: 'ok' });
});

t.test('order: nothing behind a logout is executed', async (t) => {
  const here = server.within(t);
  const [mina, jun] = await here.phones('mina', 'jun');
  const { id: roomId } = await here.room(mina, [jun]);
  const send = (key: string) =>
    frame(key, 'message.send', { roomId, clientMessageId: key, kind: 'text', text: key });
  jun.client.sendRaw(send('before') + frame('bye', 'auth.logout') + send('after'));
  t.match(await jun.client.waitForReply('bye'), { type: 'ok' });
  await jun.client.closed;
  const { messages } = await mina.client.request('message.history', { roomId });
  t.strictSame(
    messages.flatMap(({ text }) => text ?? []),
    ['before'],
  );
});

t.test('reply: a request with a reply of its own for each of a thousand in one packet', async (t) => {
  const { client } = await server.within(t).phone('mina');
  const ids = Array.from({ length: 1000 }, (_, i) => `n${i}`);
  client.sendRaw(ids.map((id, i) => frame(id, i % 3 === 0 ? 'nope' : 'ping')).join(''));
  for (const [i, id] of ids.entries()) {
    const { type } = await client.waitForReply(id);
    if (type !== (i % 3 === 0 ? 'error' : 'ok')) t.fail(`${id} was answered with ${type}`);
  }
  await isQuiet(t, client);
});
