import t from 'tap';
import type { RequestData } from '../src/shared/protocol/requests.js';
import { codeOf, type Phone, say, startServer } from './support/server.js';

/** PROTOCOL 7: `message.history`. The output limit is small, so that a page of long texts is one that ends early. */
const server = await startServer(t, { CHAT_OUTPUT_LIMIT_BYTES: '4000000' });

type Query = Omit<RequestData<'message.history'>, 'roomId'>;

async function page(phone: Phone, roomId: number, query: Query = {}) {
  const { messages, hasMore } = await phone.client.request('message.history', { roomId, ...query });
  return { seqs: messages.map(({ seq }) => seq), hasMore };
}

/** first, first + 1 … last */
function range(first: number, last: number): number[] {
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => first + i);
}

/** A room whose entries are 1 to `count`, the first of them the system message of its creation. */
async function roomOf(phone: Phone, count: number, ...members: Phone[]): Promise<number> {
  const { room } = await phone.client.request('room.create', {
    name: 'a room',
    memberIds: members.map(({ userId }) => userId),
  });
  const oks = await Promise.all(range(2, count).map((seq) => say(phone, room.id, `message ${seq}`)));
  const last = oks.at(-1)?.seq ?? room.lastSeq;
  if (last !== count) throw new Error(`the room has ${last} entries and not ${count}`);
  return room.id;
}

t.test('message.history: neither bound is the latest page, 100 unless the client wants less', async (t) => {
  const mina = await server.within(t).phone('mina');
  const roomId = await roomOf(mina, 150);
  t.strictSame(await page(mina, roomId), { seqs: range(51, 150), hasMore: true });
  t.strictSame(await page(mina, roomId, { limit: 100 }), { seqs: range(51, 150), hasMore: true });
  t.strictSame(await page(mina, roomId, { limit: 1 }), { seqs: [150], hasMore: true });
  t.strictSame(await page(mina, roomId, { limit: 7 }), { seqs: range(144, 150), hasMore: true });
});

t.test('message.history: beforeSeq looks back, the bound is not in the page', async (t) => {
  const mina = await server.within(t).phone('mina');
  const roomId = await roomOf(mina, 120);
  t.strictSame(await page(mina, roomId, { beforeSeq: 51 }), { seqs: range(1, 50), hasMore: false });
  t.strictSame(await page(mina, roomId, { beforeSeq: 51, limit: 50 }), {
    seqs: range(1, 50),
    hasMore: false,
  });
  t.strictSame(await page(mina, roomId, { beforeSeq: 51, limit: 49 }), { seqs: range(2, 50), hasMore: true });
  t.strictSame(await page(mina, roomId, { beforeSeq: 2 }), { seqs: [1], hasMore: false });
  t.strictSame(await page(mina, roomId, { beforeSeq: 1 }), { seqs: [], hasMore: false });
  t.strictSame(await page(mina, roomId, { beforeSeq: 0 }), { seqs: [], hasMore: false });
  const beyond = { beforeSeq: Number.MAX_SAFE_INTEGER, limit: 2 };
  t.strictSame(await page(mina, roomId, beyond), { seqs: [119, 120], hasMore: true });
});

t.test('message.history: afterSeq goes forward from there, the bound is not in the page', async (t) => {
  const mina = await server.within(t).phone('mina');
  const roomId = await roomOf(mina, 120);
  t.strictSame(await page(mina, roomId, { afterSeq: 0 }), { seqs: range(1, 100), hasMore: true });
  t.strictSame(await page(mina, roomId, { afterSeq: 20 }), { seqs: range(21, 120), hasMore: false });
  t.strictSame(await page(mina, roomId, { afterSeq: 20, limit: 99 }), {
    seqs: range(21, 119),
    hasMore: true,
  });
  t.strictSame(await page(mina, roomId, { afterSeq: 119 }), { seqs: [120], hasMore: false });
  t.strictSame(await page(mina, roomId, { afterSeq: 120 }), { seqs: [], hasMore: false });
  t.strictSame(await page(mina, roomId, { afterSeq: Number.MAX_SAFE_INTEGER }), { seqs: [], hasMore: false });
});

t.test('message.history: both bounds cut out a piece, read forward', async (t) => {
  const mina = await server.within(t).phone('mina');
  const roomId = await roomOf(mina, 30);
  t.strictSame(await page(mina, roomId, { afterSeq: 10, beforeSeq: 15 }), {
    seqs: range(11, 14),
    hasMore: false,
  });
  const short = { afterSeq: 10, beforeSeq: 15, limit: 2 };
  t.strictSame(await page(mina, roomId, short), { seqs: [11, 12], hasMore: true });
  t.strictSame(await page(mina, roomId, { afterSeq: 10, beforeSeq: 11 }), { seqs: [], hasMore: false });
  t.strictSame(await page(mina, roomId, { afterSeq: 15, beforeSeq: 10 }), { seqs: [], hasMore: false });
});

t.test('message.history: paging back from the end to the beginning shows each entry once', async (t) => {
  const mina = await server.within(t).phone('mina');
  const roomId = await roomOf(mina, 101);
  const seen: number[] = [];
  for (let beforeSeq: number | undefined, more = true; more; ) {
    const { seqs, hasMore } = await page(mina, roomId, { limit: 25, ...(beforeSeq && { beforeSeq }) });
    seen.unshift(...seqs);
    beforeSeq = seqs[0];
    more = hasMore;
  }
  t.strictSame(seen, range(1, 101));
});

t.test('message.history: paging forward while others write ends at the last entry', async (t) => {
  const here = server.within(t);
  const [mina, jun] = await here.phones('mina', 'jun');
  const roomId = await roomOf(mina, 20, jun);
  const writing = Promise.all(range(21, 120).map((seq) => say(mina, roomId, `message ${seq}`)));
  const seen: number[] = [];
  for (let more = true; more || seen.length < 120; ) {
    const { seqs, hasMore } = await page(jun, roomId, { limit: 13, afterSeq: seen.at(-1) ?? 0 });
    seen.push(...seqs);
    more = hasMore;
  }
  await writing;
  t.strictSame(seen, range(1, 120));
});

t.test(
  'message.history: system entries stand in it, and a member reads what was before they joined',
  async (t) => {
    const here = server.within(t);
    const [mina, jun] = await here.phones('mina', 'jun');
    const roomId = await roomOf(mina, 2);
    await jun.client.request('room.join', { roomId });
    const { messages } = await jun.client.request('message.history', { roomId });
    t.match(messages, [
      { seq: 1, kind: 'system', senderId: null, system: { event: 'created', actorId: mina.userId } },
      { seq: 2, kind: 'text', senderId: mina.userId, text: 'message 2' },
      { seq: 3, kind: 'system', senderId: null, system: { event: 'joined', actorId: jun.userId } },
    ]);
  },
);

t.test('message.history: a new direct room has none', async (t) => {
  const [hyun, bora] = await server.within(t).phones('hyun', 'bora');
  const { room } = await hyun.client.request('room.direct', { userId: bora.userId });
  t.strictSame(await page(bora, room.id), { seqs: [], hasMore: false });
});

t.test(
  'message.history: a page of very long texts ends early and says so, and paging reaches all of it',
  async (t) => {
    const mina = await server.within(t).phone('mina');
    const { room } = await mina.client.request('room.create', { name: 'long' });
    const long = '한'.repeat(100_000);
    for (let i = 0; i < 20; i++) await say(mina, room.id, long);
    const latest = await page(mina, room.id);
    t.ok(latest.seqs.length > 0 && latest.seqs.length < 21, `${latest.seqs.length} of 21`);
    t.equal(latest.hasMore, true);
    t.equal(latest.seqs.at(-1), 21, 'the latest page ends with the latest');
    const back: number[] = [];
    for (let beforeSeq: number | undefined, more = true; more; ) {
      const { seqs, hasMore } = await page(mina, room.id, beforeSeq === undefined ? {} : { beforeSeq });
      back.unshift(...seqs);
      beforeSeq = seqs[0];
      more = hasMore;
    }
    t.strictSame(back, range(1, 21), 'backwards');
    const forward: number[] = [];
    for (let more = true; more; ) {
      const { seqs, hasMore } = await page(mina, room.id, { afterSeq: forward.at(-1) ?? 0 });
      forward.push(...seqs);
      more = hasMore;
    }
    t.strictSame(forward, range(1, 21), 'forwards');
  },
);

t.test('message.history: who is not a member does not read', async (t) => {
  const here = server.within(t);
  const [mina, jun, sora] = await here.phones('mina', 'jun', 'sora');
  const read = (phone: Phone, roomId: number) => codeOf(phone.client.request('message.history', { roomId }));
  const open = await here.room(mina, [jun]);
  const secret = await here.room(mina, [jun], { visibility: 'private' });
  const { room: direct } = await mina.client.request('room.direct', { userId: jun.userId });
  t.equal(await read(sora, open.id), 'NOT_A_MEMBER');
  t.equal(await read(sora, secret.id), 'NOT_FOUND');
  t.equal(await read(sora, direct.id), 'NOT_FOUND');
  t.equal(await read(sora, 999_999), 'NOT_FOUND');
  await jun.client.request('room.leave', { roomId: open.id });
  t.equal(await read(jun, open.id), 'NOT_A_MEMBER', 'who has left');
  await mina.client.request('room.kick', { roomId: secret.id, userId: jun.userId });
  t.equal(await read(jun, secret.id), 'NOT_FOUND', 'who was removed from a private room');
  await mina.client.request('room.kick', { roomId: open.id, userId: sora.userId, ban: true });
  t.equal(await read(sora, open.id), 'FORBIDDEN', 'who is banned');
  await mina.client.request('room.delete', { roomId: open.id });
  t.equal(await read(mina, open.id), 'NOT_FOUND', 'a room that is gone');
});

t.test('message.history: bounds and limits out of range are BAD_REQUEST', async (t) => {
  const mina = await server.within(t).phone('mina');
  const roomId = await roomOf(mina, 1);
  const wrong: Query[] = [
    { limit: 0 },
    { limit: 101 },
    { limit: -1 },
    { limit: 1.5 },
    { beforeSeq: -1 },
    { afterSeq: -1 },
    { afterSeq: 0.5 },
    { beforeSeq: 2 ** 53 },
    { afterSeq: 1e300 },
  ];
  for (const query of wrong) {
    t.equal(
      await codeOf(mina.client.request('message.history', { roomId, ...query })),
      'BAD_REQUEST',
      JSON.stringify(query),
    );
  }
});
