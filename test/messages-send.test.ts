import t from 'tap';
import type { Image } from '../src/shared/protocol/objects.js';
import type { OkData, RequestData } from '../src/shared/protocol/requests.js';
import { caughtUp, codeOf, eventsOf, type Phone, pushedTo, say, startServer } from './support/server.js';

/** PROTOCOL 7: `message.send`. One server for all; each test has rooms and connections of its own. */
const server = await startServer(t);

type Send = RequestData<'message.send'>;

function send(phone: Phone, data: Send): Promise<OkData<'message.send'>> {
  return phone.client.request('message.send', data);
}

function line(id: number | string, data: Send): string {
  return `${JSON.stringify({ id, type: 'message.send', data })}\n`;
}

function text(roomId: number, words: string, clientMessageId: string = crypto.randomUUID()): Send {
  return { roomId, clientMessageId, kind: 'text', text: words };
}

function image(roomId: number, content: Image, clientMessageId: string = crypto.randomUUID()): Send {
  return { roomId, clientMessageId, kind: 'image', image: content };
}

async function history(phone: Phone, roomId: number) {
  return (await phone.client.request('message.history', { roomId })).messages;
}

t.test('message.send: ok has the number and the time, and the others get the same message', async (t) => {
  const here = server.within(t);
  const [mina, jun, sora] = await here.phones('mina', 'jun', 'sora');
  const room = await here.room(mina, [jun, sora]);
  const before = Date.now();
  const ok = await send(mina, text(room.id, '안녕하세요', 'key-1'));
  t.match(ok, { roomId: room.id, seq: room.lastSeq + 1, duplicate: false });
  t.ok(ok.sentAt >= before && ok.sentAt <= Date.now(), 'sentAt is the time of the server');
  const expected = {
    roomId: room.id,
    seq: ok.seq,
    kind: 'text' as const,
    senderId: mina.userId,
    sentAt: ok.sentAt,
    clientMessageId: 'key-1',
    text: '안녕하세요',
  };
  for (const phone of [jun, sora]) {
    t.strictSame(await phone.client.waitFor('message', ({ seq }) => seq === ok.seq), expected);
  }
  t.strictSame((await history(jun, room.id)).at(-1), expected, 'and the history has it the same');
  const { room: seen } = await sora.client.request('room.get', { roomId: room.id });
  t.strictSame(seen.lastMessage, expected, 'and so has the room');
  t.equal(seen.lastSeq, ok.seq);
});

t.test(
  'message.send: the sending connection gets ok only, the other devices of the sender the event',
  async (t) => {
    const here = server.within(t);
    const phone = await here.phone('mina', 'phone');
    const tablet = await here.phone('mina', 'tablet');
    const room = await here.room(phone);
    await tablet.client.waitFor('room.added', (data) => data.room.id === room.id);
    const ok = await say(phone, room.id, 'from the phone');
    t.match(await tablet.client.waitFor('message', ({ seq }) => seq === ok.seq), {
      senderId: phone.userId,
      text: 'from the phone',
    });
    await caughtUp(phone);
    t.strictSame(pushedTo(phone, room.id), []);
  },
);

t.test('message.send: an image with every field comes back with every field', async (t) => {
  const here = server.within(t);
  const [mina, jun] = await here.phones('mina', 'jun');
  const room = await here.room(mina, [jun]);
  const whole: Image = {
    path: '/images/2024/05/사진 1.jpg',
    thumbnailPath: '/images/2024/05/사진 1.thumb.jpg',
    width: 4000,
    height: 3000,
    bytes: 2_345_678,
    mimeType: 'image/jpeg',
    caption: '제주도 🌊\n둘째 줄',
  };
  const ok = await send(mina, image(room.id, whole));
  const pushed = await jun.client.waitFor('message', ({ seq }) => seq === ok.seq);
  t.match(pushed, { kind: 'image', senderId: mina.userId });
  t.strictSame(pushed.image, whole);
  t.notOk('text' in pushed, 'an image has no text');
  t.strictSame((await history(jun, room.id)).at(-1)?.image, whole);

  const bare = await send(mina, image(room.id, { path: '/images/x' }));
  const { image: only } = await jun.client.waitFor('message', ({ seq }) => seq === bare.seq);
  t.strictSame(only, { path: '/images/x' }, 'a path is enough, and nothing is made up beside it');
});

t.test('message.send: replyTo is kept, and what it refers to must exist', async (t) => {
  const here = server.within(t);
  const [mina, jun] = await here.phones('mina', 'jun');
  const room = await here.room(mina, [jun]);
  const question = await say(mina, room.id, 'when?');
  const answer = await send(jun, {
    ...text(room.id, 'now'),
    kind: 'text',
    text: 'now',
    replyTo: question.seq,
  });
  const pushed = await mina.client.waitFor('message', ({ seq }) => seq === answer.seq);
  t.equal(pushed.replyTo, question.seq);
  t.equal((await history(mina, room.id)).at(-1)?.replyTo, question.seq);
  const late = { roomId: room.id, clientMessageId: 'late', kind: 'text' as const, text: 'x' };
  t.equal(await codeOf(send(jun, { ...late, replyTo: answer.seq + 1 })), 'NOT_FOUND');
  t.equal(await codeOf(send(jun, { ...late, replyTo: Number.MAX_SAFE_INTEGER })), 'NOT_FOUND');
  const first = await send(jun, { ...late, replyTo: 1 });
  t.equal(first.seq, answer.seq + 1, 'the refused ones took no number');
  t.equal(await codeOf(send(jun, { ...late, replyTo: 2 })), 'CONFLICT', 'another replyTo is another content');
  t.equal(await codeOf(send(jun, late)), 'CONFLICT', 'and so is none');
});

t.test('message.send: a reply to a message sent just before in the same packet', async (t) => {
  const here = server.within(t);
  const mina = await here.phone('mina');
  const room = await here.room(mina);
  const reply: Send = { ...text(room.id, ''), kind: 'text', text: 'b', replyTo: room.lastSeq + 1 };
  mina.client.sendRaw(line('a', text(room.id, 'a')) + line('b', reply));
  t.match(await mina.client.waitForReply('b'), { type: 'ok', data: { seq: room.lastSeq + 2 } });
});

// --- idempotency ---

t.test('message.send: the same key again is answered with the original, and stored once', async (t) => {
  const here = server.within(t);
  const [mina, jun] = await here.phones('mina', 'jun');
  const room = await here.room(mina, [jun]);
  const first = await say(mina, room.id, 'once', 'k');
  const second = await say(mina, room.id, 'once', 'k');
  t.strictSame(second, { ...first, duplicate: true });
  const marker = await say(mina, room.id, 'marker');
  await jun.client.waitFor('message', ({ seq }) => seq === marker.seq);
  t.strictSame(
    pushedTo(jun, room.id).map((message) => message.text),
    ['once', 'marker'],
  );
  t.equal(marker.seq, first.seq + 1);
});

t.test('message.send: the same key twice in one TCP packet is stored once', async (t) => {
  const here = server.within(t);
  const [mina, jun] = await here.phones('mina', 'jun');
  const room = await here.room(mina, [jun]);
  const twice = text(room.id, 'twice', 'k');
  mina.client.sendRaw(line('a', twice) + line('b', twice) + line('c', text(room.id, 'else', 'k')));
  const seq = room.lastSeq + 1;
  t.match(await mina.client.waitForReply('a'), { type: 'ok', data: { seq, duplicate: false } });
  t.match(await mina.client.waitForReply('b'), { type: 'ok', data: { seq, duplicate: true } });
  t.match(await mina.client.waitForReply('c'), { type: 'error', error: { code: 'CONFLICT' } });
  const marker = await say(mina, room.id, 'marker');
  t.equal(marker.seq, seq + 1);
  await jun.client.waitFor('message', (message) => message.seq === marker.seq);
  t.strictSame(
    pushedTo(jun, room.id).map((message) => message.text),
    ['twice', 'marker'],
  );
});

t.test('message.send: the same keys from two devices at once are stored once', async (t) => {
  const here = server.within(t);
  const phone = await here.phone('mina', 'phone');
  const tablet = await here.phone('mina', 'tablet');
  const jun = await here.phone('jun');
  const room = await here.room(phone, [jun]);
  const keys = Array.from({ length: 40 }, (_, i) => `key ${i}`);
  const sendAll = (device: Phone) =>
    Promise.all(keys.map((key) => say(device, room.id, `text of ${key}`, key)));
  const [ofPhone, ofTablet] = await Promise.all([sendAll(phone), sendAll(tablet)]);
  for (const [i, key] of keys.entries()) {
    const [a, b] = [ofPhone[i], ofTablet[i]];
    t.equal(a?.seq, b?.seq, `${key} has one number`);
    t.equal(a?.sentAt, b?.sentAt);
    t.equal(Number(a?.duplicate) + Number(b?.duplicate), 1, `${key} is new for exactly one of the two`);
  }
  const marker = await say(phone, room.id, 'marker');
  t.equal(marker.seq, room.lastSeq + keys.length + 1, 'each was stored once');
  await jun.client.waitFor('message', ({ seq }) => seq === marker.seq);
  t.equal(pushedTo(jun, room.id).length, keys.length + 1);
});

t.test(
  'message.send: unanswered when the connection broke, it is found again with the same key',
  async (t) => {
    const here = server.within(t);
    const jun = await here.phone('jun');
    const before = await here.phone('mina');
    const room = await here.room(before, [jun]);
    const keys = Array.from({ length: 20 }, (_, i) => `key ${i}`);
    before.client.sendRaw(keys.map((key) => line(key, text(room.id, key, key))).join(''));
    await before.client.waitForReply('key 0');
    before.client.destroy();
    const after = await here.phone('mina');
    const oks = await Promise.all(keys.map((key) => say(after, room.id, key, key)));
    t.strictSame(new Set(oks.map(({ seq }) => seq)).size, keys.length);
    t.equal(oks[0]?.duplicate, true, 'the answered one was stored');
    t.strictSame(
      (await history(jun, room.id)).filter(({ kind }) => kind === 'text').map((message) => message.text),
      keys,
      'all are there once, in the order in which they were sent',
    );
  },
);

t.test('message.send: the same key with another text is CONFLICT', async (t) => {
  const here = server.within(t);
  const [mina, jun] = await here.phones('mina', 'jun');
  const room = await here.room(mina, [jun]);
  const original = await say(mina, room.id, 'a', 'k');
  for (const other of ['b', 'a ', 'A', 'á', 'a\u0000']) {
    t.equal(await codeOf(say(mina, room.id, other, 'k')), 'CONFLICT', JSON.stringify(other));
  }
  t.equal(await codeOf(send(mina, image(room.id, { path: '/images/a' }, 'k'))), 'CONFLICT', 'an image');
  t.strictSame(await say(mina, room.id, 'a', 'k'), { ...original, duplicate: true });
  const marker = await say(mina, room.id, 'marker');
  t.equal(marker.seq, original.seq + 1, 'a conflict takes no number');
});

t.test(
  'message.send: the same key with another image is CONFLICT, with the same in another field order not',
  async (t) => {
    const here = server.within(t);
    const mina = await here.phone('mina');
    const room = await here.room(mina);
    const original = await send(mina, image(room.id, { path: '/images/a', width: 1, caption: 'x' }, 'k'));
    const same = await send(mina, image(room.id, { caption: 'x', width: 1, path: '/images/a' }, 'k'));
    t.strictSame(same, { ...original, duplicate: true });
    const others: Image[] = [
      { path: '/images/b', width: 1, caption: 'x' },
      { path: '/images/a', width: 2, caption: 'x' },
      { path: '/images/a', width: 1 },
      { path: '/images/a', width: 1, caption: '' },
      { path: '/images/a', width: 1, caption: 'x', height: 1 },
    ];
    for (const other of others) {
      t.equal(await codeOf(send(mina, image(room.id, other, 'k'))), 'CONFLICT', JSON.stringify(other));
    }
    const marker = await say(mina, room.id, 'marker');
    t.equal(marker.seq, original.seq + 1);
  },
);

t.test('message.send: a key is unique per user and per room, not beyond', async (t) => {
  const here = server.within(t);
  const [mina, jun] = await here.phones('mina', 'jun');
  const one = await here.room(mina, [jun]);
  const two = await here.room(mina, [jun]);
  const oks = [
    await say(mina, one.id, 'mina, one', 'k'),
    await say(jun, one.id, 'jun, one', 'k'),
    await say(mina, two.id, 'mina, two', 'k'),
    await say(jun, two.id, 'jun, two', 'k'),
  ];
  t.strictSame(
    oks.map(({ duplicate }) => duplicate),
    [false, false, false, false],
  );
  t.strictSame((await history(jun, one.id)).map((message) => message.text).slice(-2), [
    'mina, one',
    'jun, one',
  ]);
});

t.test('message.send: keys are compared byte for byte', async (t) => {
  const here = server.within(t);
  const mina = await here.phone('mina');
  const room = await here.room(mina);
  const keys = [
    'k',
    'K',
    'k ',
    ' k',
    'ḱ',
    'k\u0301',
    'ｋ',
    'k\u0000',
    '1',
    '01',
    '\u0000',
    "'",
    '\\',
    '%',
    '가',
    '😀',
    '😎',
  ];
  const seqs = new Set<number>();
  for (const key of keys) seqs.add((await say(mina, room.id, 'same text', key)).seq);
  t.equal(seqs.size, keys.length, 'each is a key of its own');
  for (const key of keys)
    t.equal((await say(mina, room.id, 'same text', key)).duplicate, true, JSON.stringify(key));
  const messages = await history(mina, room.id);
  t.strictSame(
    messages.filter(({ kind }) => kind === 'text').map(({ clientMessageId }) => clientMessageId),
    keys,
    'and comes back unchanged',
  );
});

t.test('message.send: clientMessageId has 1–64 characters, whatever they are', async (t) => {
  const here = server.within(t);
  const mina = await here.phone('mina');
  const room = await here.room(mina);
  for (const key of ['k'.repeat(64), '한'.repeat(64), '👩'.repeat(64)]) {
    t.equal(await codeOf(say(mina, room.id, 'x', key)), 'ok');
    t.equal((await say(mina, room.id, 'x', key)).duplicate, true);
  }
  for (const key of ['', 'k'.repeat(65), '👩'.repeat(65)]) {
    t.equal(await codeOf(say(mina, room.id, 'x', key)), 'BAD_REQUEST', `${[...key].length} characters`);
  }
});

t.test('message.send: who has left finds what they sent before, and can send nothing new', async (t) => {
  const here = server.within(t);
  const [mina, jun] = await here.phones('mina', 'jun');
  const room = await here.room(mina, [jun]);
  const original = await say(jun, room.id, 'before', 'k');
  await jun.client.request('room.leave', { roomId: room.id });
  t.strictSame(await say(jun, room.id, 'before', 'k'), { ...original, duplicate: true });
  t.equal(await codeOf(say(jun, room.id, 'other', 'k')), 'CONFLICT');
  t.equal(await codeOf(say(jun, room.id, 'after', 'k2')), 'NOT_A_MEMBER');
});

t.test('message.send: rooms that the sender is not in', async (t) => {
  const here = server.within(t);
  const [mina, jun, sora] = await here.phones('mina', 'jun', 'sora');
  const open = await here.room(mina, [jun]);
  const secret = await here.room(mina, [jun], { visibility: 'private' });
  const { room: direct } = await mina.client.request('room.direct', { userId: jun.userId });
  t.equal(await codeOf(say(sora, open.id, 'x')), 'NOT_A_MEMBER');
  t.equal(await codeOf(say(sora, secret.id, 'x')), 'NOT_FOUND');
  t.equal(await codeOf(say(sora, direct.id, 'x')), 'NOT_FOUND');
  t.equal(await codeOf(say(sora, 999_999, 'x')), 'NOT_FOUND');
  await mina.client.request('room.kick', { roomId: open.id, userId: jun.userId, ban: true });
  t.equal(await codeOf(say(jun, open.id, 'x')), 'FORBIDDEN');
  await caughtUp(mina);
  t.strictSame(
    pushedTo(mina, open.id).filter(({ kind }) => kind === 'text'),
    [],
  );
});

t.test('message.send: one refused send does not hold back the others of its packet', async (t) => {
  const here = server.within(t);
  const mina = await here.phone('mina');
  const room = await here.room(mina);
  mina.client.sendRaw(
    line('a', text(room.id, 'first')) +
      line('b', text(999_999, 'nowhere')) +
      '{"id":"c","type":"message.send","data":{"roomId":1}}\n' +
      line('d', text(room.id, 'second')),
  );
  t.match(await mina.client.waitForReply('a'), { type: 'ok', data: { seq: room.lastSeq + 1 } });
  t.match(await mina.client.waitForReply('b'), { type: 'error', error: { code: 'NOT_FOUND' } });
  t.match(await mina.client.waitForReply('c'), { type: 'error', error: { code: 'BAD_REQUEST' } });
  t.match(await mina.client.waitForReply('d'), { type: 'ok', data: { seq: room.lastSeq + 2 } });
});

// --- content ---

const KEYCAP = '1\u{fe0f}\u{20e3}';
const TEXTS: Record<string, string> = {
  'one character': '.',
  'spaces only': '   ',
  'trailing spaces, tabs and line ends': ' a \t\r\n\n  ',
  'a NUL in the middle and at both ends': '\u0000a\u0000b\u0000',
  'every control character': `${Array.from({ length: 32 }, (_, i) => String.fromCharCode(i)).join('')}\u007f\u0085\u009f`,
  backslashes: "\\ \\\\ \\n \\u0041 \\' C:\\temp\\",
  quotes: `' '' " "" \` ‘ ’ “ ”`,
  'what looks like SQL': `'); DROP TABLE chat_entry; -- ? :name @var /*! */ \\' OR 1=1`,
  'what looks like JSON': '{"type":"ok","id":1}\n{"a":[1,2',
  'combining marks, not composed': 'e\u0301 한 a\u0300\u0316\u0334\u0321',
  'the same composed': '\u00e9 한 \u00e0',
  'jamo that are not composed': '\u1112\u1161\u11ab \u314e\u314f\u3134',
  'right to left with marks and overrides': '\u202eשלום עולם\u202c مرحبا \u200f\u200e\u2066x\u2069',
  'emoji with joiners, skin and flags': `👨‍👩‍👧‍👦 👍🏽 🇰🇷 ${KEYCAP} 🏴\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}`,
  'noncharacters and the last code point': '\ufffe\uffff\u{1fffe}\u{10ffff}\ufdd0',
  'a byte order mark': '\ufeffa\ufeff',
  'line separators': 'a\u2028b\u2029c\u0085d',
  'the replacement character': '\ufffd',
  'private use and plane 15': '\ue000\uf8ff\u{f0000}',
  'case that folds': 'ßẞſIıİΣςΐ',
};

t.test('message.send: text comes back code point for code point', async (t) => {
  const here = server.within(t);
  const [mina, jun] = await here.phones('mina', 'jun');
  const room = await here.room(mina, [jun]);
  for (const [what, words] of Object.entries(TEXTS)) {
    const ok = await say(mina, room.id, words, what);
    const pushed = await jun.client.waitFor('message', ({ seq }) => seq === ok.seq);
    t.equal(pushed.text, words, `${what}: pushed`);
    t.equal(
      (await say(mina, room.id, words, what)).duplicate,
      true,
      `${what}: and is the same when repeated`,
    );
  }
  const { messages } = await jun.client.request('message.history', { roomId: room.id });
  const { rooms } = await jun.client.request('sync', {
    cursors: [{ roomId: room.id, afterSeq: room.lastSeq }],
  });
  t.strictSame(
    messages.slice(-Object.keys(TEXTS).length).map(({ text }) => text),
    Object.values(TEXTS),
    'history',
  );
  t.strictSame(
    rooms[0]?.events.map(({ data }) => data.text),
    Object.values(TEXTS),
    'sync',
  );
});

t.test('message.send: 100,000 code points go through unchanged, whatever they are', async (t) => {
  const here = server.within(t);
  const [mina, jun] = await here.phones('mina', 'jun');
  const room = await here.room(mina, [jun]);
  const most: Record<string, string> = {
    'emoji, four bytes each': '😀'.repeat(100_000),
    'Korean, three bytes each': Array.from({ length: 100_000 }, (_, i) =>
      String.fromCodePoint(0xac00 + (i % 11_172)),
    ).join(''),
    'a mixture': 'a한😀\u0301'.repeat(25_000),
    'backslashes and quotes': '\\"'.repeat(50_000),
  };
  for (const [what, words] of Object.entries(most)) {
    const ok = await say(mina, room.id, words);
    const pushed = await jun.client.waitFor('message', ({ seq }) => seq === ok.seq);
    t.ok(pushed.text === words, `${what}: pushed`);
    t.ok((await history(jun, room.id)).at(-1)?.text === words, `${what}: in the history`);
  }
});

t.test('message.send: 100,001 code points are TOO_LARGE, and the connection stays', async (t) => {
  const here = server.within(t);
  const mina = await here.phone('mina');
  const room = await here.room(mina);
  for (const words of ['a'.repeat(100_001), '한'.repeat(100_001), '😀'.repeat(100_001)]) {
    t.equal(await codeOf(say(mina, room.id, words)), 'TOO_LARGE');
  }
  t.equal((await say(mina, room.id, 'short')).seq, room.lastSeq + 1);
});

t.test('message.send: text and image go by kind, and neither is empty', async (t) => {
  const here = server.within(t);
  const mina = await here.phone('mina');
  const room = await here.room(mina);
  const base = { roomId: room.id, clientMessageId: 'k' };
  const wrong: Record<string, { data: object; path: string }> = {
    'empty text': { data: { ...base, kind: 'text', text: '' }, path: 'data.text' },
    'no text': { data: { ...base, kind: 'text' }, path: 'data.text' },
    'text that is no string': { data: { ...base, kind: 'text', text: 1 }, path: 'data.text' },
    'a text with an image': {
      data: { ...base, kind: 'text', text: 'x', image: { path: '/images/x' } },
      path: 'data.image',
    },
    'an image with a text': {
      data: { ...base, kind: 'image', text: 'x', image: { path: '/images/x' } },
      path: 'data.text',
    },
    'an image without one': { data: { ...base, kind: 'image' }, path: 'data.image' },
    'an image without a path': { data: { ...base, kind: 'image', image: {} }, path: 'data.image.path' },
    'a kind of the server': { data: { ...base, kind: 'system', text: 'x' }, path: 'data.kind' },
    'no kind': { data: { ...base, text: 'x' }, path: 'data.kind' },
    'an unknown field of the image': {
      data: { ...base, kind: 'image', image: { path: '/images/x', url: 'x' } },
      path: 'data.image.url',
    },
    'an unknown field': { data: { ...base, kind: 'text', text: 'x', txet: 'x' }, path: 'data.txet' },
    'replyTo 0': { data: { ...base, kind: 'text', text: 'x', replyTo: 0 }, path: 'data.replyTo' },
    'a width of 0': {
      data: { ...base, kind: 'image', image: { path: '/images/x', width: 0 } },
      path: 'data.image.width',
    },
    'a height with a fraction': {
      data: { ...base, kind: 'image', image: { path: '/images/x', height: 1.5 } },
      path: 'data.image.height',
    },
    'negative bytes': {
      data: { ...base, kind: 'image', image: { path: '/images/x', bytes: -1 } },
      path: 'data.image.bytes',
    },
    'no key': { data: { roomId: room.id, kind: 'text', text: 'x' }, path: 'data.clientMessageId' },
  };
  for (const [what, { data, path }] of Object.entries(wrong)) {
    mina.client.sendRaw(`${JSON.stringify({ id: what, type: 'message.send', data })}\n`);
    const reply = await mina.client.waitForReply(what);
    t.match(reply, { type: 'error', error: { code: 'BAD_REQUEST', issues: [{ path }] } }, what);
  }
  t.equal((await say(mina, room.id, 'fine', 'k')).seq, room.lastSeq + 1);
});

t.test('message.send: an image path stays below its prefix', async (t) => {
  const here = server.within(t);
  const mina = await here.phone('mina');
  const room = await here.room(mina);
  const longest = `/images/${'a'.repeat(512 - '/images/'.length)}`;
  const good = [
    '/images/a.jpg',
    '/images/2024/05/사진.png',
    '/images/a b+c=d~e!(1).webp',
    longest,
    `/images/${'😀'.repeat(504)}`,
  ];
  for (const path of good)
    t.equal(await codeOf(send(mina, image(room.id, { path }))), 'ok', path.slice(0, 40));
  const bad = [
    '',
    '/images/',
    '/images',
    'images/a.jpg',
    '/Images/a.jpg',
    '/image/a.jpg',
    ' /images/a.jpg',
    '/',
    'http://evil.example/images/a.jpg',
    'https://evil.example/a.jpg',
    'javascript:alert(1)',
    'data:image/png;base64,AAAA',
    'file:///etc/passwd',
    '//evil.example/images/a.jpg',
    '/images//evil.example/a.jpg',
    '/images/http://evil.example/a.jpg',
    '/images/../etc/passwd',
    '/images/a/../../etc/passwd',
    '/images/..',
    '/images/a..b',
    '/images/..\\..\\etc',
    '/images/%2e%2e/etc/passwd',
    '/images/%2E%2E/etc/passwd',
    '/images/.%2e/etc/passwd',
    '/images/%2e./etc/passwd',
    '/images/..%2fetc',
    '/images/a%2fb',
    '/images/a%5cb',
    '/images/a%5Cb',
    '/images/a%00.jpg',
    '/images/a%0a.jpg',
    '/images/a%7f.jpg',
    '/images/a\\b.jpg',
    '\\images\\a.jpg',
    '/images/a\u0000.jpg',
    '/images/a\n.jpg',
    '/images/a\r.jpg',
    '/images/a\t.jpg',
    '/images/a\u001b.jpg',
    '/images/a\u007f.jpg',
    '/images/a\u0085.jpg',
    '/images/a\ud800.jpg',
    `${longest}a`,
  ];
  for (const path of bad) {
    t.equal(
      await codeOf(send(mina, image(room.id, { path }))),
      'BAD_REQUEST',
      JSON.stringify(path.slice(0, 60)),
    );
    const thumbnail = send(mina, image(room.id, { path: '/images/a.jpg', thumbnailPath: path }));
    t.equal(await codeOf(thumbnail), 'BAD_REQUEST', 'the same as a thumbnail');
  }
  const { messages } = await mina.client.request('message.history', { roomId: room.id });
  t.strictSame(
    messages.flatMap((message) => message.image?.path ?? []),
    good,
    'nothing but the good ones is stored',
  );
});

t.test('message.send: a room of two hundred messages has each number once', async (t) => {
  const here = server.within(t);
  const [mina, jun] = await here.phones('mina', 'jun');
  const room = await here.room(mina, [jun]);
  const oks = await Promise.all(
    Array.from({ length: 200 }, (_, i) => say(i % 2 ? mina : jun, room.id, `${i}`)),
  );
  const seqs = oks.map(({ seq }) => seq).sort((a, b) => a - b);
  t.strictSame(
    seqs,
    Array.from({ length: 200 }, (_, i) => room.lastSeq + 1 + i),
  );
  t.strictSame(eventsOf(mina, 'receipt'), [], 'and sending makes no receipts');
});
