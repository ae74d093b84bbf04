import t from 'tap';
import { caughtUp, codeOf, eventsOf, type Phone, say, startServer } from './support/server.js';

/** PROTOCOL 7: `message.delivered`, `message.read`, receipts and `unread`. */
const server = await startServer(t);

const read = (phone: Phone, roomId: number, seq: number) =>
  phone.client.request('message.read', { roomId, seq });
const delivered = (phone: Phone, roomId: number, seq: number) =>
  phone.client.request('message.delivered', { roomId, seq });

const MARKS: readonly ((phone: Phone, roomId: number, seq: number) => Promise<object>)[] = [read, delivered];

/** The marks as `room.get` tells them to the user. */
async function marksOf(phone: Phone, roomId: number) {
  const { room } = await phone.client.request('room.get', { roomId });
  return { readSeq: room.readSeq, deliveredSeq: room.deliveredSeq, unread: room.unread };
}

function receiptsOf(phone: Phone, roomId: number) {
  return eventsOf(phone, 'receipt').filter((receipt) => receipt.roomId === roomId);
}

/** Sends so many texts; returns the number of the last. */
async function talk(phone: Phone, roomId: number, count: number): Promise<number> {
  const oks = await Promise.all(Array.from({ length: count }, (_, i) => say(phone, roomId, `text ${i}`)));
  return Math.max(...oks.map(({ seq }) => seq));
}

t.test('message.read: moves the mark, implies delivered and answers what is unread', async (t) => {
  const here = server.within(t);
  const [mina, jun] = await here.phones('mina', 'jun');
  const room = await here.room(mina, [jun]);
  await talk(mina, room.id, 5);
  t.strictSame(await marksOf(jun, room.id), { readSeq: 1, deliveredSeq: 1, unread: 5 });
  t.strictSame(await read(jun, room.id, 4), { readSeq: 4, unread: 2 });
  t.strictSame(await marksOf(jun, room.id), { readSeq: 4, deliveredSeq: 4, unread: 2 });
  t.strictSame(await read(jun, room.id, 6), { readSeq: 6, unread: 0 });
});

t.test('message.delivered: moves its mark and leaves what is read', async (t) => {
  const here = server.within(t);
  const [mina, jun] = await here.phones('mina', 'jun');
  const room = await here.room(mina, [jun]);
  await talk(mina, room.id, 5);
  t.strictSame(await delivered(jun, room.id, 5), { deliveredSeq: 5 });
  t.strictSame(await marksOf(jun, room.id), { readSeq: 1, deliveredSeq: 5, unread: 5 });
});

t.test('message.read and message.delivered: marks never go back', async (t) => {
  const here = server.within(t);
  const [mina, jun] = await here.phones('mina', 'jun');
  const room = await here.room(mina, [jun]);
  await talk(mina, room.id, 6);
  await read(jun, room.id, 5);
  await delivered(jun, room.id, 7);
  t.strictSame(await read(jun, room.id, 3), { readSeq: 5, unread: 2 }, 'the answer is the mark as it stands');
  t.strictSame(await read(jun, room.id, 0), { readSeq: 5, unread: 2 });
  t.strictSame(await delivered(jun, room.id, 2), { deliveredSeq: 7 });
  t.strictSame(await read(jun, room.id, 6), { readSeq: 6, unread: 1 });
  t.strictSame(await marksOf(jun, room.id), { readSeq: 6, deliveredSeq: 7, unread: 1 });
});

t.test('message.read: marks from two devices at once end at the highest', async (t) => {
  const here = server.within(t);
  const mina = await here.phone('mina');
  const phone = await here.phone('jun', 'phone');
  const tablet = await here.phone('jun', 'tablet');
  const room = await here.room(mina, [phone]);
  const last = await talk(mina, room.id, 40);
  const seqs = Array.from({ length: last }, (_, i) => i + 1);
  await Promise.all([
    ...seqs.map((seq) => read(phone, room.id, seq)),
    ...seqs.toReversed().map((seq) => read(tablet, room.id, seq)),
    ...seqs.map((seq) => delivered(tablet, room.id, seq)),
  ]);
  t.strictSame(await marksOf(phone, room.id), { readSeq: last, deliveredSeq: last, unread: 0 });
  const receipts = receiptsOf(mina, room.id).map(({ readSeq }) => readSeq);
  t.equal(Math.max(...receipts), last, 'the others were told of the highest');
});

t.test('message.read and message.delivered: beyond lastSeq is BAD_REQUEST', async (t) => {
  const here = server.within(t);
  const [mina, jun] = await here.phones('mina', 'jun');
  const room = await here.room(mina, [jun]);
  const last = await talk(mina, room.id, 2);
  for (const seq of [last + 1, last + 1000, Number.MAX_SAFE_INTEGER, -1, 1.5, 2 ** 53]) {
    for (const mark of MARKS) {
      await t.rejects(
        mark(jun, room.id, seq),
        { code: 'BAD_REQUEST', issues: [{ path: 'data.seq' }] },
        `${seq}`,
      );
    }
  }
  t.strictSame(await marksOf(jun, room.id), { readSeq: 1, deliveredSeq: 1, unread: 2 });
  t.strictSame(await read(jun, room.id, last), { readSeq: last, unread: 0 });
});

t.test('message.read: unread counts text and image messages, not system entries', async (t) => {
  const here = server.within(t);
  const [mina, jun, sora] = await here.phones('mina', 'jun', 'sora');
  const room = await here.room(mina, [jun]);
  const roomId = room.id;
  await say(mina, roomId, 'text');
  await sora.client.request('room.join', { roomId });
  await mina.client.request('message.send', {
    roomId,
    clientMessageId: 'image',
    kind: 'image',
    image: { path: '/images/a' },
  });
  await mina.client.request('room.update', { roomId, name: 'renamed' });
  await sora.client.request('room.leave', { roomId });
  const last = await say(mina, roomId, 'last');
  // 1 created, 2 text, 3 joined, 4 image, 5 renamed, 6 left, 7 text
  t.equal(last.seq, 7);
  t.strictSame(await marksOf(jun, roomId), { readSeq: 1, deliveredSeq: 1, unread: 3 });
  for (const [seq, unread] of [
    [1, 3],
    [2, 2],
    [3, 2],
    [4, 1],
    [5, 1],
    [6, 1],
    [7, 0],
  ] as const) {
    t.strictSame(await read(jun, roomId, seq), { readSeq: seq, unread }, `after reading ${seq}`);
  }
  await sora.client.request('room.join', { roomId });
  t.strictSame(await marksOf(jun, roomId), { readSeq: 7, deliveredSeq: 7, unread: 0 }, 'only a join came');
  const { rooms } = await jun.client.request('room.list', { scope: 'mine' });
  t.equal(rooms.find(({ id }) => id === roomId)?.unread, 0, 'and the list says the same');
});

t.test('message.read: a member who joins has nothing unread, and what is said later is', async (t) => {
  const here = server.within(t);
  const [mina, jun, sora] = await here.phones('mina', 'jun', 'sora');
  const { id: roomId } = await here.room(mina);
  await talk(mina, roomId, 3);
  const { room } = await jun.client.request('room.join', { roomId });
  t.match(room, { lastSeq: 5, readSeq: 5, deliveredSeq: 5, unread: 0 });
  await mina.client.request('room.invite', { roomId, userIds: [sora.userId] });
  const { room: added } = await sora.client.waitFor('room.added', (data) => data.room.id === roomId);
  t.match(added, { lastSeq: 6, readSeq: 6, deliveredSeq: 6, unread: 0 });
  await talk(mina, roomId, 2);
  t.strictSame(await marksOf(jun, roomId), { readSeq: 5, deliveredSeq: 5, unread: 2 });
  t.strictSame(await marksOf(sora, roomId), { readSeq: 6, deliveredSeq: 6, unread: 2 });
});

t.test('message.send: sending counts as reading and getting, without a receipt', async (t) => {
  const here = server.within(t);
  const mina = await here.phone('mina');
  const phone = await here.phone('jun', 'phone');
  const tablet = await here.phone('jun', 'tablet');
  const room = await here.room(mina, [phone]);
  await talk(mina, room.id, 4);
  const ok = await say(phone, room.id, 'I have read it all');
  t.strictSame(await marksOf(phone, room.id), { readSeq: ok.seq, deliveredSeq: ok.seq, unread: 0 });
  const { members } = await mina.client.request('room.members', { roomId: room.id });
  t.match(
    members.find(({ user }) => user.id === phone.userId),
    { readSeq: ok.seq, deliveredSeq: ok.seq },
  );
  t.strictSame(await read(phone, room.id, ok.seq), { readSeq: ok.seq, unread: 0 });
  await caughtUp(mina, phone, tablet);
  for (const device of [mina, phone, tablet]) t.strictSame(receiptsOf(device, room.id), []);
});

t.test('message.send: a repeated send does not take the marks back or forward', async (t) => {
  const here = server.within(t);
  const [mina, jun] = await here.phones('mina', 'jun');
  const room = await here.room(mina, [jun]);
  await say(jun, room.id, 'mine', 'k');
  const last = await talk(mina, room.id, 2);
  await say(jun, room.id, 'mine', 'k');
  t.equal((await marksOf(jun, room.id)).unread, 2);
  await read(jun, room.id, last);
  await say(jun, room.id, 'mine', 'k');
  t.equal((await marksOf(jun, room.id)).readSeq, last);
});

t.test(
  'receipt: goes to the other members and to the own other devices, not to the device itself',
  async (t) => {
    const here = server.within(t);
    const [mina, sora, hyun] = await here.phones('mina', 'sora', 'hyun');
    const phone = await here.phone('jun', 'phone');
    const tablet = await here.phone('jun', 'tablet');
    const room = await here.room(mina, [phone, sora]);
    const last = await talk(mina, room.id, 3);
    await delivered(phone, room.id, last);
    await read(phone, room.id, last - 1);
    const receipt = { roomId: room.id, userId: phone.userId };
    const expected = [
      { ...receipt, deliveredSeq: last, readSeq: 1 },
      { ...receipt, deliveredSeq: last, readSeq: last - 1 },
    ];
    for (const device of [mina, sora, tablet]) {
      await device.client.waitFor('receipt', ({ readSeq }) => readSeq === last - 1);
      t.strictSame(receiptsOf(device, room.id), expected);
    }
    await caughtUp(phone, hyun);
    t.strictSame(receiptsOf(phone, room.id), [], 'not to the device that sent the mark');
    t.strictSame(receiptsOf(hyun, room.id), [], 'not to who is not in the room');
  },
);

t.test('receipt: none when the mark did not move', async (t) => {
  const here = server.within(t);
  const [mina, jun] = await here.phones('mina', 'jun');
  const room = await here.room(mina, [jun]);
  const last = await talk(mina, room.id, 3);
  await read(jun, room.id, last);
  await mina.client.waitFor('receipt', ({ readSeq }) => readSeq === last);
  await read(jun, room.id, last);
  await read(jun, room.id, 2);
  await delivered(jun, room.id, last);
  await caughtUp(mina);
  t.equal(receiptsOf(mina, room.id).length, 1);
});

t.test('message.read: pipelined behind the send it refers to', async (t) => {
  const here = server.within(t);
  const mina = await here.phone('mina');
  const room = await here.room(mina);
  const frames = Array.from({ length: 5 }, (_, i) => {
    const seq = room.lastSeq + 1 + i;
    const send = { roomId: room.id, clientMessageId: `${i}`, kind: 'text', text: 'x' };
    return (
      `${JSON.stringify({ id: `send ${i}`, type: 'message.send', data: send })}\n` +
      `${JSON.stringify({ id: `read ${i}`, type: 'message.read', data: { roomId: room.id, seq } })}\n` +
      `${JSON.stringify({ id: `beyond ${i}`, type: 'message.delivered', data: { roomId: room.id, seq: seq + 1 } })}\n`
    );
  });
  mina.client.sendRaw(frames.join(''));
  for (let i = 0; i < 5; i++) {
    const seq = room.lastSeq + 1 + i;
    t.match(await mina.client.waitForReply(`read ${i}`), { type: 'ok', data: { readSeq: seq, unread: 0 } });
    t.match(await mina.client.waitForReply(`beyond ${i}`), { type: 'error', error: { code: 'BAD_REQUEST' } });
  }
});

t.test('message.read and message.delivered: who is not a member has no marks', async (t) => {
  const here = server.within(t);
  const [mina, jun, sora] = await here.phones('mina', 'jun', 'sora');
  const open = await here.room(mina, [jun]);
  const secret = await here.room(mina, [jun], { visibility: 'private' });
  const { room: direct } = await mina.client.request('room.direct', { userId: jun.userId });
  for (const mark of MARKS) {
    t.equal(await codeOf(mark(sora, open.id, 1)), 'NOT_A_MEMBER');
    t.equal(await codeOf(mark(sora, secret.id, 1)), 'NOT_FOUND');
    t.equal(await codeOf(mark(sora, direct.id, 0)), 'NOT_FOUND');
    t.equal(await codeOf(mark(sora, 999_999, 1)), 'NOT_FOUND');
  }
  await jun.client.request('room.leave', { roomId: open.id });
  t.equal(await codeOf(read(jun, open.id, 1)), 'NOT_A_MEMBER');
  const { members } = await mina.client.request('room.members', { roomId: open.id });
  t.strictSame(
    members.map(({ user }) => user.id),
    [mina.userId],
    'the mark of who has left brings nobody back',
  );
  await mina.client.request('room.kick', { roomId: open.id, userId: sora.userId, ban: true });
  t.equal(await codeOf(read(sora, open.id, 1)), 'FORBIDDEN');
});

t.test('message.read: sent, delivered and read, as the sender follows them', async (t) => {
  const here = server.within(t);
  const [mina, jun, sora] = await here.phones('mina', 'jun', 'sora');
  const room = await here.room(mina, [jun, sora]);
  const { seq } = await say(mina, room.id, 'who has got this?');
  const others = async () => {
    const { members } = await mina.client.request('room.members', { roomId: room.id });
    const rest = members.filter(({ user }) => user.id !== mina.userId);
    return {
      delivered: rest.filter((member) => member.deliveredSeq >= seq).map(({ user }) => user.username),
      read: rest.filter((member) => member.readSeq >= seq).map(({ user }) => user.username),
    };
  };
  t.strictSame(await others(), { delivered: [], read: [] });
  await delivered(jun, room.id, seq);
  t.strictSame(await others(), { delivered: ['jun'], read: [] });
  await read(sora, room.id, seq);
  t.strictSame(await others(), { delivered: ['jun', 'sora'], read: ['sora'] });
});

t.test(
  'unread: what login, room.get, room.list and message.read say is the same, in a busy room',
  async (t) => {
    const here = server.within(t);
    const [mina, jun] = await here.phones('mina', 'jun');
    const room = await here.room(mina, [jun]);
    for (let round = 0; round < 4; round++) {
      const writing = Promise.all([talk(mina, room.id, 15), talk(jun, room.id, 1)]);
      const { readSeq, unread } = await read(jun, room.id, room.lastSeq + round);
      t.ok(readSeq >= room.lastSeq + round && unread >= 0, `unread ${unread} is no negative number`);
      await writing;
    }
    const { messages } = await jun.client.request('message.history', { roomId: room.id });
    const { readSeq, unread } = await marksOf(jun, room.id);
    const after = messages.filter((message) => message.seq > readSeq && message.kind !== 'system');
    t.equal(unread, after.length, 'as many as there are after readSeq');
    const { login } = await here.phone('jun', 'tablet');
    t.equal(login.rooms.find(({ id }) => id === room.id)?.unread, unread);
  },
);
