import { connect, type Socket } from 'node:net';
import t, { type Test } from 'tap';
import type { ChatClient } from '../src/cli/client.js';
import type { RequestType } from '../src/shared/protocol/requests.js';
import { say, startServer, tokenFor } from './support/server.js';

/** What no client should send: always the coded answer of PROTOCOL 3, and everything goes on after it. */
const server = await startServer(t);
const MAX_FRAME = server.config.CHAT_MAX_FRAME_BYTES;

const frame = (id: unknown, type: string, data?: unknown) => `${JSON.stringify({ id, type, data })}\n`;

/** The connection still answers, and has sent nothing beside what was waited for. */
async function works(t: Pick<Test, 'strictSame'>, client: ChatClient, after: string) {
  await client.request('ping');
  t.strictSame(client.unmatched, [], `${after}: one answer, and the connection works`);
}

/** As many pieces as there are bytes, each in a packet of its own as far as the kernel lets us. */
async function dribble(socket: Socket, bytes: Buffer, size = 1): Promise<void> {
  for (let at = 0; at < bytes.length; at += size) {
    socket.write(bytes.subarray(at, at + size));
    await new Promise(setImmediate);
  }
}

const bytes = (...parts: (string | number[])[]) =>
  Buffer.concat(parts.map((part) => (typeof part === 'string' ? Buffer.from(part) : Buffer.from(part))));
const ping = (inside: number[]) => bytes('{"id":"', inside, '","type":"ping"}\n');

const NOT_JSON: Record<string, Buffer | string> = {
  'a bare word': 'hello\n',
  'an HTTP request': 'GET / HTTP/1.1\r\n',
  'an open brace': '{\n',
  'a closing brace': '}\n',
  'spaces only': '   \n',
  'a carriage return in the middle': '{"id":1,\r"type":}\n',
  'single quotes': "{'id':1,'type':'ping'}\n",
  'names without quotes': '{id:1,type:"ping"}\n',
  'a trailing comma': '{"id":1,"type":"ping",}\n',
  'two objects on a line': '{"id":1,"type":"ping"}{"id":2,"type":"ping"}\n',
  'garbage behind the object': '{"id":1,"type":"ping"} x\n',
  'a comment': '{"id":1,"type":"ping"/* x */}\n',
  NaN: '{"id":NaN,"type":"ping"}\n',
  Infinity: '{"id":1,"type":"ping","data":Infinity}\n',
  'a leading zero': '{"id":01,"type":"ping"}\n',
  'a plus sign': '{"id":+1,"type":"ping"}\n',
  hexadecimal: '{"id":0x1,"type":"ping"}\n',
  'a raw tab in a string': '{"id":"a\tb","type":"ping"}\n',
  'a raw NUL in a string': '{"id":"a\u0000b","type":"ping"}\n',
  'NUL bytes only': '\u0000\u0000\u0000\n',
  'a wrong escape': '{"id":"\\x41","type":"ping"}\n',
  'half an escape': '{"id":"\\u00","type":"ping"}\n',
  'a string cut off': '{"id":"abc\n',
  'a byte order mark': '\ufeff{"id":1,"type":"ping"}\n',
  'UTF-16': Buffer.from('{"id":1}\n', 'utf16le').subarray(0, -1),
  'an array': '[{"id":1,"type":"ping"}]\n',
  'an empty array': '[]\n',
  'a number': '42\n',
  '1e999': '1e999\n',
  'a string': '"ping"\n',
  null: 'null\n',
  true: 'true\n',
  'a lone continuation byte': ping([0x80]),
  'a sequence cut off': ping([0xe2, 0x82]),
  'a sequence cut off at the end of the line': bytes('{"id":1,"type":"ping"}', [0xf0, 0x9f, 0x98], '\n'),
  'an overlong slash': ping([0xc0, 0xaf]),
  'an overlong NUL': ping([0xc0, 0x80]),
  'a surrogate in UTF-8': ping([0xed, 0xa0, 0x80]),
  'a pair of surrogates in UTF-8 (CESU-8)': ping([0xed, 0xa0, 0xbd, 0xed, 0xb8, 0x80]),
  'beyond U+10FFFF': ping([0xf4, 0x90, 0x80, 0x80]),
  'five bytes': ping([0xf8, 0x88, 0x80, 0x80, 0x80]),
  'FE and FF': ping([0xfe, 0xff]),
  'Latin-1': ping([0x63, 0x61, 0x66, 0xe9]),
  'EUC-KR': ping([0xb0, 0xa1, 0xb3, 0xaa]),
};

t.test(
  'BAD_JSON: what is not a JSON object in UTF-8 is answered with id null, and the connection stays',
  async (t) => {
    const here = server.within(t);
    const { client } = await here.phone('mina');
    const stranger = await here.connect();
    for (const [what, line] of Object.entries(NOT_JSON)) {
      for (const one of [client, stranger]) {
        one.sendRaw(line);
        t.match(
          await one.waitForReply(null),
          { type: 'error', id: null, error: { code: 'BAD_JSON', retryable: false } },
          what,
        );
        await works(t, one, what);
      }
    }
  },
);

t.test('deep nesting: a frame of nothing but brackets is refused, not recursed into', async (t) => {
  const here = server.within(t);
  const mina = await here.phone('mina');
  const { client } = mina;
  const { id: roomId } = await here.room(mina);
  const room = MAX_FRAME - 200;
  const deep = (open: string, close: string, size = room) => {
    const depth = Math.floor(size / (open.length + close.length));
    return open.repeat(depth) + (close === '}' ? '1' : '') + close.repeat(depth);
  };
  const unread: Record<string, string> = {
    '[': '['.repeat(room),
    '{"a":': '{"a":'.repeat(room / 5),
    '[{"a":': '[{"a":'.repeat(room / 6),
    '[[…]]': deep('[', ']'),
    '"[': `{"id":1,"type":"ping","data":${'['.repeat(room)}`,
  };
  for (const [what, line] of Object.entries(unread)) {
    client.sendRaw(`${line}\n`);
    t.match(await client.waitForReply(null), { error: { code: 'BAD_JSON' } }, what);
    await works(t, client, what);
  }
  // Fifty thousand levels are as deep as half a million, and the tests get on.
  const nested = deep('[', ']', 100_000);
  const objects = deep('{"a":', '}', 300_000);
  const read: [string, string][] = [
    [`{"id":"deep","type":"ping","data":${nested}}`, 'data'],
    [`{"id":"deep","type":"ping","data":${objects}}`, 'data.a'],
    [`{"id":"deep","type":"ping","x":${nested}}`, 'x'],
    [`{"id":"deep","type":${nested}}`, 'type'],
    [`{"id":"deep","type":"user.get","data":{"userIds":${nested}}}`, 'data.userIds.0'],
    [`{"id":"deep","type":"room.get","data":{"roomId":${objects}}}`, 'data.roomId'],
    [
      `{"id":"deep","type":"message.send","data":{"roomId":${roomId},"clientMessageId":"k","kind":"text","text":${nested}}}`,
      'data.text',
    ],
    [
      `{"id":"deep","type":"message.send","data":{"roomId":${roomId},"clientMessageId":"k","kind":${objects}}}`,
      'data.kind',
    ],
    [
      `{"id":"deep","type":"message.send","data":{"roomId":${roomId},"clientMessageId":"k","kind":"image","image":${objects}}}`,
      'data.image.path',
    ],
    [`{"id":"deep","type":"sync","data":{"cursors":[${objects}]}}`, 'data.cursors.0.roomId'],
  ];
  for (const [line, path] of read) {
    client.sendRaw(`${line}\n`);
    t.match(
      await client.waitForReply('deep'),
      { error: { code: 'BAD_REQUEST', issues: [{ path }] } },
      `${path} nested`,
    );
    await works(t, client, path);
  }
  client.sendRaw(`{"id":${nested},"type":"ping"}\n`);
  t.match(
    await client.waitForReply(null),
    { error: { code: 'BAD_REQUEST', issues: [{ path: 'id' }] } },
    'id nested',
  );
  t.equal((await say(mina, roomId, 'still here')).seq, 2);
});

t.test('wide frames: a megabyte of fields or items is refused with a short answer', async (t) => {
  const here = server.within(t);
  const { client } = await here.phone('mina');
  const fill = (piece: (i: number) => string) => {
    const pieces: string[] = [];
    for (let i = 0, size = 0; size < MAX_FRAME - 300; i++) {
      const one = piece(i);
      pieces.push(one);
      size += one.length + 1;
    }
    return pieces.join(',');
  };
  const wide: Record<string, string> = {
    'fields at the top': `{"id":"w","type":"ping",${fill((i) => `"f${i}":${i}`)}}`,
    'fields in the data': `{"id":"w","type":"ping","data":{${fill((i) => `"f${i}":${i}`)}}}`,
    'one field many times': `{"id":"w","type":"room.get","data":{${fill(() => '"roomId":"x"')}}}`,
    'ids that are none': `{"id":"w","type":"user.get","data":{"userIds":[${fill(() => '"x"')}]}}`,
    'ids that are zero': `{"id":"w","type":"presence.subscribe","data":{"userIds":[${fill(() => '0')}]}}`,
    'good ids': `{"id":"w","type":"room.invite","data":{"roomId":1,"userIds":[${fill((i) => `${i + 1}`)}]}}`,
    'empty cursors': `{"id":"w","type":"sync","data":{"cursors":[${fill(() => '{}')}]}}`,
    'a very long name of a field': `{"id":"w","type":"ping","data":{"${'x'.repeat(MAX_FRAME - 100)}":1}}`,
  };
  for (const [what, line] of Object.entries(wide)) {
    client.sendRaw(`${line}\n`);
    const reply = await client.waitForReply('w');
    t.match(reply, { type: 'error', error: { code: 'BAD_REQUEST' } }, what);
    t.ok(JSON.stringify(reply).length < 4000, 'the answer is short');
    await works(t, client, what);
  }
  client.sendRaw(`{"id":"w","type":"${'x'.repeat(MAX_FRAME - 100)}"}\n`);
  const reply = await client.waitForReply('w');
  t.match(reply, { error: { code: 'UNKNOWN_TYPE' } }, 'a very long type');
  t.ok(JSON.stringify(reply).length < 1000);
});

t.test('numbers: out of range, with fractions, or beyond what a double holds', async (t) => {
  const here = server.within(t);
  const mina = await here.phone('mina');
  const { client } = mina;
  const { id: roomId } = await here.room(mina);
  const never = [
    '1e999',
    '-1e999',
    '9007199254740992',
    '18446744073709551616',
    '1e308',
    '-1',
    '0.5',
    '1e-400',
    '-0.1',
    '"1"',
    'true',
    'null',
    '[1]',
    '{}',
    '9'.repeat(5000),
  ];
  const fields: [string, (n: string) => string, string][] = [
    ['room.get', (n) => `{"roomId":${n}}`, 'data.roomId'],
    ['room.direct', (n) => `{"userId":${n}}`, 'data.userId'],
    ['room.create', (n) => `{"name":"x","memberLimit":${n}}`, 'data.memberLimit'],
    ['message.history', (n) => `{"roomId":${roomId},"limit":${n}}`, 'data.limit'],
    ['user.get', (n) => `{"userIds":[${n}]}`, 'data.userIds.0'],
    [
      'message.send',
      (n) => `{"roomId":${roomId},"clientMessageId":"k","kind":"text","text":"x","replyTo":${n}}`,
      'data.replyTo',
    ],
    [
      'message.send',
      (n) =>
        `{"roomId":${roomId},"clientMessageId":"k","kind":"image","image":{"path":"/images/a","width":${n}}}`,
      'data.image.width',
    ],
  ];
  for (const [type, data, path] of fields) {
    for (const n of ['0', '-0', ...never]) {
      // A positive number that is too small for a double is 0.
      client.sendRaw(`{"id":"n","type":"${type}","data":${data(n)}}\n`);
      const reply = await client.waitForReply('n');
      t.match(reply, { error: { code: 'BAD_REQUEST', issues: [{ path }] } }, `${path} ${n.slice(0, 30)}`);
    }
  }
  const marks: [string, string][] = [
    ['message.read', 'seq'],
    ['message.delivered', 'seq'],
    ['message.history', 'beforeSeq'],
    ['message.history', 'afterSeq'],
  ];
  for (const [type, field] of marks) {
    for (const n of never) {
      client.sendRaw(`{"id":"n","type":"${type}","data":{"roomId":${roomId},"${field}":${n}}}\n`);
      // Without a sign of its own, what is too small for a double is the valid 0.
      const expected =
        n === '1e-400'
          ? { type: 'ok' }
          : { error: { code: 'BAD_REQUEST', issues: [{ path: `data.${field}` }] } };
      t.match(await client.waitForReply('n'), expected, `${type} ${field} ${n.slice(0, 30)}`);
    }
    client.sendRaw(`{"id":"n","type":"${type}","data":{"roomId":${roomId},"${field}":-0}}\n`);
    t.match(await client.waitForReply('n'), { type: 'ok' }, `${type} ${field} -0 is 0`);
  }
  client.sendRaw(`{"id":"n","type":"room.get","data":{"roomId":9007199254740991}}\n`);
  t.match(await client.waitForReply('n'), { error: { code: 'NOT_FOUND' } }, 'the largest id is just unknown');
  await works(t, client, 'numbers');
});

t.test('__proto__ and constructor are fields like any other: unknown ones', async (t) => {
  const here = server.within(t);
  const mina = await here.phone('mina');
  const { client } = mina;
  const { id: roomId } = await here.room(mina);
  for (const name of [
    '__proto__',
    'constructor',
    'prototype',
    'toString',
    'hasOwnProperty',
    'toJSON',
    'then',
  ]) {
    const cases: [string, string][] = [
      [`{"id":"p","type":"ping","${name}":{"x":1}}`, name],
      [`{"id":"p","type":"ping","data":{"${name}":{"x":1}}}`, `data.${name}`],
      [`{"id":"p","type":"room.get","data":{"roomId":${roomId},"${name}":{"roomId":1}}}`, `data.${name}`],
      [
        `{"id":"p","type":"message.send","data":{"roomId":${roomId},"clientMessageId":"k","kind":"image","image":{"path":"/images/a","${name}":1}}}`,
        `data.image.${name}`,
      ],
      [
        `{"id":"p","type":"sync","data":{"cursors":[{"roomId":1,"afterSeq":0,"${name}":null}]}}`,
        `data.cursors.0.${name}`,
      ],
    ];
    for (const [line, path] of cases) {
      client.sendRaw(`${line}\n`);
      t.match(await client.waitForReply('p'), { error: { code: 'BAD_REQUEST', issues: [{ path }] } }, path);
    }
  }
  const smuggled: [string, string][] = [
    [`{"__proto__":{"id":"p"},"type":"ping"}`, 'id'],
    [`{"id":"p","__proto__":{"type":"ping"}}`, '__proto__'],
    [`{"id":"p","type":"room.get","data":{"__proto__":{"roomId":${roomId}}}}`, 'data.roomId'],
    [`{"id":"p","type":"room.get","__proto__":{"data":{"roomId":${roomId}}}}`, '__proto__'],
  ];
  for (const [line, path] of smuggled) {
    client.sendRaw(`${line}\n`);
    const reply = await client.waitForReply(path === 'id' ? null : 'p');
    t.match(reply, { error: { code: 'BAD_REQUEST', issues: [{ path }] } }, `smuggled in: ${path}`);
  }
  t.equal(Object.hasOwn(Object.prototype, 'x'), false);
  t.equal((await say(mina, roomId, 'still here')).seq, 2, 'nothing was sent');
});

t.test('duplicate names: the last one counts, as JSON.parse has it', async (t) => {
  const here = server.within(t);
  const mina = await here.phone('mina');
  const { client } = mina;
  const { id: roomId } = await here.room(mina);
  client.sendRaw('{"id":"a","id":"b","type":"nope","type":"ping"}\n');
  t.match(await client.waitForReply('b'), { type: 'ok' });
  client.sendRaw(`{"id":"c","type":"room.get","data":{"roomId":999999,"roomId":${roomId}}}\n`);
  t.match(await client.waitForReply('c'), { type: 'ok', data: { room: { id: roomId } } });
  await works(t, client, 'duplicates');
});

/** Every request that takes a string, and where: the fields are filled one after the other. */
function stringFields(roomId: number): [RequestType, object, string[]][] {
  const text = { roomId, clientMessageId: 'k', kind: 'text', text: 'x' };
  const image = { roomId, clientMessageId: 'k', kind: 'image', image: { path: '/images/a' } };
  return [
    ['room.create', { name: 'x' }, ['name', 'clientRoomId', 'visibility']],
    ['room.update', { roomId }, ['name', 'visibility']],
    ['room.list', { scope: 'mine' }, ['query', 'cursor', 'scope']],
    ['room.list', { scope: 'public' }, ['query', 'cursor']],
    ['room.members', { roomId }, ['cursor']],
    ['message.send', text, ['clientMessageId', 'text', 'kind']],
    ['message.send', image, ['image.path', 'image.thumbnailPath', 'image.mimeType', 'image.caption']],
    ['user.list', {}, ['query', 'cursor']],
  ];
}

/** The data with one field set; `image.path` reaches into the image. */
function filled(data: object, field: string, value: unknown): object {
  const [first = '', second] = field.split('.');
  if (second === undefined) return { ...data, [first]: value };
  const inner = Object.entries(data).find(([name]) => name === first)?.[1];
  return { ...data, [first]: { ...inner, [second]: value } };
}

t.test('lone surrogates are BAD_REQUEST wherever a string is taken', async (t) => {
  const here = server.within(t);
  const mina = await here.phone('mina');
  const { client } = mina;
  const { id: roomId } = await here.room(mina);
  const broken = ['\ud83d', '\ude00', 'a\ud800b', '\ude00\ud83d', '\ud83d\ud83d\ude00', '/images/\udfff'];
  for (const [type, data, fields] of stringFields(roomId)) {
    for (const field of fields) {
      for (const value of broken) {
        client.sendRaw(frame('s', type, filled(data, field, value)));
        const expected = { error: { code: 'BAD_REQUEST', issues: [{ path: `data.${field}` }] } };
        t.match(await client.waitForReply('s'), expected, `${type} ${field}`);
      }
    }
  }
  const token = await tokenFor(1);
  for (const device of [{ id: '\ud800' }, { id: 'x', name: '\ud800' }, { id: 'x', platform: 'a\udc00' }]) {
    const stranger = await here.connect();
    stranger.sendRaw(frame('l', 'auth.login', { token, device }));
    const path = `data.device.${Object.keys(device).at(-1)}`;
    t.match(await stranger.waitForReply('l'), { error: { code: 'BAD_REQUEST', issues: [{ path }] } }, path);
    await works(t, stranger, path);
  }
  client.sendRaw('{"id":"s","type":"ping","\\ud800":1}\n{"id":"s","type":"ping","data":{"\\udfff":1}}\n');
  for (const what of ['top', 'data']) {
    t.match(
      await client.waitForReply('s'),
      { error: { code: 'BAD_REQUEST' } },
      `as the name of a field, ${what}`,
    );
  }
  await works(t, client, 'surrogates');
  t.equal((await say(mina, roomId, '\ud83d\ude00')).seq, 2, 'a whole pair is welcome');
});

t.test('SQL, quotes, NUL and the like in any field are data and nothing else', async (t) => {
  const here = server.within(t);
  const mina = await here.phone('mina');
  const { client } = mina;
  const { id: roomId } = await here.room(mina);
  const evil = [
    "'; DROP TABLE chat_entry; -- ",
    "' OR '1'='1",
    "\\'; DELETE FROM chat_user; -- ",
    "x' UNION SELECT 1,2,3,4,5,6,7,8 -- ",
    '"; DROP TABLE chat_room; #',
    '`chat_user`',
    '\\',
    "\\\\'",
    "\u00bf'",
    '\u0000',
    "a\u0000' OR 1=1",
    '\u001a\n\r\b\t',
    '?',
    '?? ? :id @x',
    '%s %d %n',
    '$' + '{process.exit(1)}',
    '1.1; SELECT SLEEP(5)',
    '/*!50000 DROP TABLE chat_user */',
    '\ufeff',
    '\u202e',
    '<script>alert(1)</script>',
    '😀',
    '1',
    '0.0',
    '9007199254740991.9007199254740991',
    '8640000000000001.1',
    '253402300800000.1',
    'x'.repeat(200),
  ];
  const codes = new Set<string>();
  for (const [type, data, fields] of stringFields(roomId)) {
    if (type === 'room.update') continue;
    for (const field of fields) {
      for (const [i, value] of evil.entries()) {
        const sent = filled(data, field, value);
        const unique =
          type === 'message.send' && field !== 'clientMessageId'
            ? { ...sent, clientMessageId: `${field} ${i}` }
            : sent;
        client.sendRaw(frame('q', type, unique));
        const reply = await client.waitForReply('q');
        const code = reply.type === 'ok' ? 'ok' : reply.error.code;
        codes.add(code);
        if (code !== 'ok' && code !== 'BAD_REQUEST' && code !== 'CONFLICT')
          t.fail(`${type} ${field}: ${code}`, { value });
      }
    }
  }
  t.ok(codes.has('ok') && codes.has('BAD_REQUEST'));
  for (const name of evil.filter((value) => [...value].length <= 100)) {
    const { room } = await client.request('room.update', { roomId, name });
    t.equal(room.name, name, 'a name comes back as it was');
  }
  const tables = await here.sql(
    'SELECT (SELECT COUNT(*) FROM chat_user) AS users, (SELECT COUNT(*) FROM chat_room) > 0 AS rooms',
  );
  t.match(tables, [{ users: 6, rooms: 1 }]);
  await works(t, client, 'SQL');
});

t.test('devices and tokens that are none do not break the login', async (t) => {
  const here = server.within(t);
  const odd = ["'; DROP TABLE chat_session; -- ", '\u0000', '\\', '😀'.repeat(128), ' ', '%', 'a\nb'];
  for (const id of odd) {
    const client = await here.connect();
    const device = { id, name: [...id].slice(0, 100).join(''), platform: [...id].slice(0, 100).join('') };
    const login = await client.login({ token: await tokenFor(1) }, device);
    t.strictSame(login.device, device);
    await client.request('auth.logout');
  }
  const tokens = [
    'x',
    '.',
    '..',
    '...',
    'a.b.c',
    "' OR 1=1 -- ",
    '\u0000',
    '😀',
    'e30.e30.e30',
    `${'e30'.repeat(5000)}.x`,
    'bnVsbA.bnVsbA.',
    'IjEi.e30.',
  ];
  for (const token of tokens) {
    const client = await here.connect();
    client.sendRaw(frame('l', 'auth.login', { token, device: { id: 'x' } }));
    t.match(
      await client.waitForReply('l'),
      { error: { code: 'AUTH_FAILED' } },
      JSON.stringify(token.slice(0, 30)),
    );
    await client.closed;
  }
});

t.test('frames split at every byte, and at every pair of bytes', async (t) => {
  const here = server.within(t);
  const mina = await here.phone('mina');
  const jun = await here.phone('jun');
  const { id: roomId } = await here.room(mina, [jun]);
  const words = '한글 😀 \u0000 "\\';
  const send = (key: string) =>
    Buffer.from(frame(key, 'message.send', { roomId, clientMessageId: key, kind: 'text', text: words }));
  for (const size of [1, 2, 3]) {
    await dribble(mina.client.socket, send(`size ${size}`), size);
    t.match(await mina.client.waitForReply(`size ${size}`), { type: 'ok' });
  }
  const one = send('position');
  for (let at = 1; at < one.length; at += 3) {
    const whole = send(`at ${at}`);
    mina.client.sendRaw(whole.subarray(0, at));
    await jun.client.request('ping');
    mina.client.sendRaw(whole.subarray(at));
    t.match(await mina.client.waitForReply(`at ${at}`), { type: 'ok' }, `cut at ${at}`);
  }
  const { messages } = await jun.client.request('message.history', { roomId });
  t.ok(
    messages.every(({ kind, text }) => kind === 'system' || text === words),
    'all arrived unchanged',
  );
});

t.test('frames glued by the thousand, good and bad ones, with empty lines and CRLF between', async (t) => {
  const here = server.within(t);
  const { client } = await here.phone('mina');
  const count = 4000;
  let glued = '';
  for (let i = 0; i < count; i++) {
    if (i % 4 === 0) glued += `\n\r\n{"id":${1_000_000 + i},"type":"ping"}\r\n`;
    else if (i % 4 === 1) glued += frame(1_000_000 + i, 'nope');
    else if (i % 4 === 2) glued += frame(1_000_000 + i, 'room.get', { roomId: -1 });
    else glued += '}{\n';
  }
  client.sendRaw(glued);
  const expected = ['ok', 'UNKNOWN_TYPE', 'BAD_REQUEST', 'BAD_JSON'];
  for (let i = 0; i < count; i++) {
    const reply = await client.waitForReply(i % 4 === 3 ? null : 1_000_000 + i);
    const code = reply.type === 'ok' ? 'ok' : reply.error.code;
    if (code !== expected[i % 4]) t.fail(`frame ${i}: ${code}`);
  }
  await works(t, client, 'glued');
});

t.test(
  'TOO_LARGE: a line over the limit is answered, then the connection is closed; one at the limit is fine',
  async (t) => {
    const here = server.within(t);
    const mina = await here.phone('mina');
    const padded = (size: number) => {
      const empty = '{"id":"big","type":"ping"}';
      return `${empty.slice(0, -1)}${' '.repeat(size - empty.length - 1)}}\n`;
    };
    mina.client.sendRaw(padded(MAX_FRAME));
    t.match(await mina.client.waitForReply('big'), { type: 'ok' }, 'exactly at the limit');
    const over: Record<string, string> = {
      'one byte over': padded(MAX_FRAME + 1),
      'without an end': 'x'.repeat(MAX_FRAME),
      'twice as long': `${'['.repeat(2 * MAX_FRAME)}\n`,
    };
    for (const [what, line] of Object.entries(over)) {
      const client = await here.connect();
      client.sendRaw(frame('before', 'ping') + line);
      t.match(await client.waitForReply('before'), { type: 'ok' }, 'what came before is answered');
      t.match(
        await client.waitForReply(null),
        { id: null, error: { code: 'TOO_LARGE', retryable: false } },
        what,
      );
      await client.closed;
    }
    await works(t, mina.client, 'others go on');
  },
);

t.test('connections that break off in the middle of anything leave the server alone', async (t) => {
  const here = server.within(t);
  const mina = await here.phone('mina');
  const halves = [
    '',
    '{',
    '{"id":1,"type":"auth.login","data":{"to',
    frame(1, 'ping').slice(0, -1),
    '\u0000'.repeat(1000),
    'x'.repeat(100_000),
  ];
  await Promise.all(
    halves.flatMap((half) =>
      [true, false].map(
        (reset) =>
          new Promise<void>((resolve) => {
            const socket = connect(here.port, '127.0.0.1', () => {
              socket.write(half, () => (reset ? socket.resetAndDestroy() : socket.end()));
            });
            socket
              .on('error', () => undefined)
              .on('close', () => resolve())
              .resume();
          }),
      ),
    ),
  );
  await works(t, mina.client, 'half frames');
});
