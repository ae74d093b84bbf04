import t from 'tap';
import type { OkData, RequestData } from '../src/shared/protocol/requests.js';
import { codeOf, type Phone, pushedTo, say, startServer } from './support/server.js';

/** PROTOCOL 7: `sync`. The output limit is small, so that an answer of long texts is one that ends early. */
const server = await startServer(t, { CHAT_OUTPUT_LIMIT_BYTES: '8000000' });

type Cursors = RequestData<'sync'>['cursors'];

function sync(phone: Phone, cursors: Cursors, limit?: number): Promise<OkData<'sync'>> {
  return phone.client.request('sync', { cursors, ...(limit !== undefined && { limit }) });
}

/** The rooms of one answer in short: `{roomId: [seqs, hasMore]}`. */
function seqsOf(answer: OkData<'sync'>) {
  return Object.fromEntries(
    answer.rooms.map(({ room, events, hasMore }) => [room.id, [events.map(({ data }) => data.seq), hasMore]]),
  );
}

const idsOf = (rooms: readonly { id: number }[]) => rooms.map(({ id }) => id);

/** Rooms that earlier tests left behind for the user stand in `added` too: these are the ones that count here. */
function among(ids: readonly number[], mine: readonly number[]): number[] {
  return ids.filter((id) => mine.includes(id)).sort((a, b) => a - b);
}

t.test('sync: what was missed comes as the very events that were pushed to the others', async (t) => {
  const here = server.within(t);
  const [mina, jun, sora] = await here.phones('mina', 'jun', 'sora');
  const room = await here.room(mina, [jun, sora]);
  await jun.client.close();
  await say(mina, room.id, 'one');
  await mina.client.request('message.send', {
    roomId: room.id,
    clientMessageId: 'image',
    kind: 'image',
    image: { path: '/images/a', caption: 'two' },
  });
  await mina.client.request('room.update', { roomId: room.id, name: 'three' });
  const reply = {
    roomId: room.id,
    clientMessageId: 'reply',
    kind: 'text' as const,
    text: 'four',
    replyTo: 2,
  };
  await mina.client.request('message.send', reply);
  await sora.client.waitFor('message', ({ text }) => text === 'four');
  const back = await here.phone('jun');
  const answer = await sync(back, [{ roomId: room.id, afterSeq: room.lastSeq }]);
  t.strictSame(
    answer.rooms[0]?.events,
    pushedTo(sora, room.id).map((data) => ({ type: 'message', data })),
  );
  t.match(answer.rooms[0], { hasMore: false, room: { id: room.id, name: 'three', lastSeq: 5, unread: 3 } });
  t.match(answer.rooms[0]?.room.lastMessage, { seq: 5, text: 'four' });
});

t.test('sync: an up-to-date cursor brings nothing, one beyond the end neither', async (t) => {
  const here = server.within(t);
  const mina = await here.phone('mina');
  const room = await here.room(mina);
  const { seq } = await say(mina, room.id, 'x');
  t.strictSame(seqsOf(await sync(mina, [{ roomId: room.id, afterSeq: seq }])), { [room.id]: [[], false] });
  t.strictSame(seqsOf(await sync(mina, [{ roomId: room.id, afterSeq: seq + 100 }])), {
    [room.id]: [[], false],
  });
  const most = [{ roomId: room.id, afterSeq: Number.MAX_SAFE_INTEGER }];
  t.strictSame(seqsOf(await sync(mina, most)), { [room.id]: [[], false] });
});

t.test('sync: afterSeq 0 is from the beginning, own messages included', async (t) => {
  const here = server.within(t);
  const [mina, jun] = await here.phones('mina', 'jun');
  const room = await here.room(mina, [jun]);
  await say(mina, room.id, 'a');
  await say(jun, room.id, 'b');
  t.strictSame(seqsOf(await sync(mina, [{ roomId: room.id, afterSeq: 0 }])), {
    [room.id]: [[1, 2, 3], false],
  });
});

t.test('sync: limit is per room, hasMore says that there is more, and paging gets all of it', async (t) => {
  const here = server.within(t);
  const mina = await here.phone('mina');
  const [one, two] = [await here.room(mina), await here.room(mina)];
  for (let i = 0; i < 5; i++) await say(mina, one.id, `${i}`);
  for (let i = 0; i < 2; i++) await say(mina, two.id, `${i}`);
  const cursors = [
    { roomId: one.id, afterSeq: 1 },
    { roomId: two.id, afterSeq: 1 },
  ];
  t.strictSame(seqsOf(await sync(mina, cursors, 2)), {
    [one.id]: [[2, 3], true],
    [two.id]: [[2, 3], false],
  });
  t.strictSame(seqsOf(await sync(mina, [{ roomId: one.id, afterSeq: 3 }], 2)), { [one.id]: [[4, 5], true] });
  t.strictSame(seqsOf(await sync(mina, [{ roomId: one.id, afterSeq: 5 }], 2)), { [one.id]: [[6], false] });
  t.strictSame(seqsOf(await sync(mina, cursors, 1)), { [one.id]: [[2], true], [two.id]: [[2], true] });
});

t.test('sync: up to a thousand entries of a room in one answer', async (t) => {
  const here = server.within(t);
  const mina = await here.phone('mina');
  const { id: roomId } = await here.room(mina);
  await Promise.all(Array.from({ length: 1004 }, (_, i) => say(mina, roomId, `${i}`)));
  const first = await sync(mina, [{ roomId, afterSeq: 0 }]);
  const seqs = first.rooms[0]?.events.map(({ data }) => data.seq) ?? [];
  t.strictSame(
    seqs,
    Array.from({ length: 1000 }, (_, i) => i + 1),
    '1000 by default, in order',
  );
  t.equal(first.rooms[0]?.hasMore, true);
  t.strictSame(seqsOf(await sync(mina, [{ roomId, afterSeq: 1000 }])), {
    [roomId]: [[1001, 1002, 1003, 1004, 1005], false],
  });
  const whole = await sync(mina, [{ roomId, afterSeq: 5 }], 1000);
  t.equal(whole.rooms[0]?.events.length, 1000);
  t.equal(whole.rooms[0]?.hasMore, false, 'exactly the limit is not more');
});

t.test('sync: removed are the named rooms that the user is no longer in', async (t) => {
  const here = server.within(t);
  const [mina, jun] = await here.phones('mina', 'jun');
  const left = await here.room(mina, [jun]);
  const kicked = await here.room(mina, [jun]);
  const deleted = await here.room(mina, [jun]);
  const kept = await here.room(mina, [jun]);
  const strange = await here.room(mina);
  await jun.client.request('room.leave', { roomId: left.id });
  await jun.client.close();
  await mina.client.request('room.kick', { roomId: kicked.id, userId: jun.userId });
  await mina.client.request('room.delete', { roomId: deleted.id });
  const back = await here.phone('jun');
  const named = [left.id, kicked.id, deleted.id, kept.id, strange.id, 999_999];
  const answer = await sync(
    back,
    named.map((roomId) => ({ roomId, afterSeq: 0 })),
  );
  t.strictSame(answer.removed, [left.id, kicked.id, deleted.id, strange.id, 999_999]);
  t.strictSame(idsOf(answer.rooms.map(({ room }) => room)), [kept.id]);
});

t.test('sync: added are the rooms that the client did not name', async (t) => {
  const here = server.within(t);
  const [mina, jun] = await here.phones('mina', 'jun');
  const known = await here.room(mina, [jun]);
  await jun.client.close();
  const invited = await here.room(mina);
  await say(mina, invited.id, 'before');
  await mina.client.request('room.invite', { roomId: invited.id, userIds: [jun.userId] });
  await say(mina, invited.id, 'after');
  const created = (await mina.client.request('room.create', { name: 'new', memberIds: [jun.userId] })).room;
  const direct = (await mina.client.request('room.direct', { userId: jun.userId })).room;
  const foreign = await here.room(mina);
  const back = await here.phone('jun');
  const all = [known.id, invited.id, created.id, direct.id, foreign.id];
  const answer = await sync(back, [{ roomId: known.id, afterSeq: known.lastSeq }]);
  t.strictSame(among(idsOf(answer.added), all), [invited.id, created.id, direct.id]);
  t.match(
    answer.added.find(({ id }) => id === invited.id),
    { lastSeq: 4, readSeq: 3, unread: 1, role: 'member', lastMessage: { text: 'after' } },
  );
  t.match(
    answer.added.find(({ id }) => id === direct.id),
    { kind: 'direct', peer: { id: mina.userId } },
  );
  const everything = await sync(back, []);
  t.strictSame(among(idsOf(everything.added), all), [known.id, invited.id, created.id, direct.id]);
  t.strictSame({ rooms: everything.rooms, removed: everything.removed }, { rooms: [], removed: [] });
});

t.test('sync: a room that was left and joined again is a room like any other', async (t) => {
  const here = server.within(t);
  const [mina, jun] = await here.phones('mina', 'jun');
  const { id: roomId } = await here.room(mina, [jun]);
  await jun.client.request('room.leave', { roomId });
  await say(mina, roomId, 'in between');
  await jun.client.request('room.join', { roomId });
  const answer = await sync(jun, [{ roomId, afterSeq: 1 }]);
  t.strictSame(seqsOf(answer), { [roomId]: [[2, 3, 4], false] });
  t.strictSame(answer.removed, []);
});

t.test('sync: after a break each entry is had once, by push or by sync', async (t) => {
  const here = server.within(t);
  const [mina, jun] = await here.phones('mina', 'jun');
  const { id: roomId } = await here.room(mina, [jun]);
  const total = 120;
  let isDone = false;
  const writing = (async () => {
    for (let i = 0; i < total; i++) await say(mina, roomId, `${i}`);
    isDone = true;
  })();
  // Keeps (roomId, seq) as PROTOCOL 7 says, and loses its connection over and over.
  const got = new Map<number, string>();
  let last = 1;
  const take = (message: { seq: number; text?: string | undefined }, how: string) => {
    t.equal(got.has(message.seq) && how === 'sync', false, `${message.seq} by sync is new`);
    got.set(message.seq, message.text ?? '');
    while (got.has(last + 1)) last++;
  };
  let phone = jun;
  while (!isDone || last < total + 1) {
    phone.client.destroy();
    phone = await here.phone('jun');
    phone.client.on('message', (message) => take(message, 'push'));
    const upto = phone.login.rooms.find(({ id }) => id === roomId)?.lastSeq ?? 0;
    for (let more = last < upto; more; ) {
      const { rooms } = await sync(phone, [{ roomId, afterSeq: last }], 10);
      for (const { data } of rooms[0]?.events ?? []) if (!got.has(data.seq)) take(data, 'sync');
      more = rooms[0]?.hasMore ?? false;
    }
    await Promise.race([phone.client.waitFor('message').catch(() => undefined), writing]);
  }
  await writing;
  t.strictSame(
    Array.from({ length: total }, (_, i) => got.get(i + 2)),
    Array.from({ length: total }, (_, i) => `${i}`),
  );
});

t.test('sync: many long texts come in several answers, and all of them come', async (t) => {
  const here = server.within(t);
  const mina = await here.phone('mina');
  const rooms = [await here.room(mina), await here.room(mina)];
  const long = '한'.repeat(100_000);
  for (const room of rooms) for (let i = 0; i < 12; i++) await say(mina, room.id, long);
  const cursors = new Map(rooms.map((room) => [room.id, 0]));
  let answers = 0;
  for (let more = true; more; answers++) {
    const answer = await sync(
      mina,
      [...cursors].map(([roomId, afterSeq]) => ({ roomId, afterSeq })),
    );
    more = false;
    for (const { room, events, hasMore } of answer.rooms) {
      const before = cursors.get(room.id) ?? 0;
      t.strictSame(
        events.map(({ data }) => data.seq),
        events.map((_, i) => before + 1 + i),
      );
      cursors.set(room.id, before + events.length);
      more ||= hasMore;
    }
    if (answers > 50) throw new Error('no end');
  }
  t.ok(answers > 1, `${answers} answers`);
  t.strictSame([...cursors.values()], [13, 13]);
});

t.test('sync: the last cursor of a room that is named twice counts', async (t) => {
  const here = server.within(t);
  const mina = await here.phone('mina');
  const { id: roomId } = await here.room(mina);
  await say(mina, roomId, 'x');
  const twice = [
    { roomId, afterSeq: 0 },
    { roomId, afterSeq: 1 },
  ];
  t.strictSame(seqsOf(await sync(mina, twice)), { [roomId]: [[2], false] });
});

t.test('sync: cursors and limits out of range are BAD_REQUEST', async (t) => {
  const mina = await server.within(t).phone('mina');
  t.equal(await codeOf(sync(mina, [], 0)), 'BAD_REQUEST');
  t.equal(await codeOf(sync(mina, [], 1001)), 'BAD_REQUEST');
  t.equal(await codeOf(sync(mina, [{ roomId: 0, afterSeq: 0 }])), 'BAD_REQUEST');
  t.equal(await codeOf(sync(mina, [{ roomId: 1, afterSeq: -1 }])), 'BAD_REQUEST');
  t.equal(await codeOf(sync(mina, [{ roomId: 1, afterSeq: 0.5 }])), 'BAD_REQUEST');
  await t.rejects(
    sync(mina, [
      { roomId: 1, afterSeq: 0 },
      { roomId: 1, afterSeq: 2 ** 53 },
    ]),
    {
      code: 'BAD_REQUEST',
      issues: [{ path: 'data.cursors.1.afterSeq' }],
    },
  );
});
