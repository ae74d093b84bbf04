import t from 'tap';
import type { Message } from '../src/shared/protocol/objects.js';
import { caughtUp, type Phone, say, startServer, USERS } from './support/server.js';

/**
 * PROTOCOL 5, the room stream. That no connection ever sees a jump or a repetition is checked on every connection of
 * every test (`support/conformance.ts`); here it is made hard, and what the connections saw is compared.
 */
const server = await startServer(t, { CHAT_WORKER_THREADS: '3' });

/** Notes what a connection gets of a room: each entry, and its own `ok`s in their places. */
function follow(phone: Phone, roomId: number) {
  const seqs: number[] = [];
  phone.client.on('message', (message) => {
    if (message.roomId === roomId) seqs.push(message.seq);
  });
  const send = (text: string) =>
    phone.client.request(
      'message.send',
      { roomId, clientMessageId: crypto.randomUUID(), kind: 'text', text },
      { onOk: ({ seq }) => void seqs.push(seq) },
    );
  return { phone, seqs, send };
}

async function wholeHistory(phone: Phone, roomId: number): Promise<Message[]> {
  const all: Message[] = [];
  for (let more = true; more; ) {
    const afterSeq = all.at(-1)?.seq ?? 0;
    const { messages, hasMore } = await phone.client.request('message.history', { roomId, afterSeq });
    all.push(...messages);
    more = hasMore;
  }
  return all;
}

function range(first: number, last: number): number[] {
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => first + i);
}

t.test(
  'room stream: twelve connections that send at once all see the same order without a hole',
  async (t) => {
    const here = server.within(t);
    const phones = await here.phones(...USERS);
    const tablets = await Promise.all(USERS.map((name) => here.phone(name, `${name}'s tablet`)));
    const [mina] = phones;
    const room = await here.room(mina, phones.slice(1));
    const all = [...phones, ...tablets].map((phone) => follow(phone, room.id));
    await Promise.all(
      tablets.map((tablet) => tablet.client.waitFor('room.added', (data) => data.room.id === room.id)),
    );
    const each = 40;
    await Promise.all(
      all.flatMap(({ send }, i) => Array.from({ length: each }, (_, n) => send(`${i} ${n}`))),
    );
    const last = room.lastSeq + all.length * each;
    await caughtUp(...all.map(({ phone }) => phone));
    for (const { phone, seqs } of all) {
      t.strictSame(seqs, range(room.lastSeq + 1, last), `${phone.name}, own oks in their places`);
    }
    const history = await wholeHistory(mina, room.id);
    t.strictSame(
      history.map(({ seq }) => seq),
      range(1, last),
      'the history has no hole',
    );
    for (const i of all.keys()) {
      const own = history.flatMap(({ text }) => (text?.startsWith(`${i} `) ? [text] : []));
      t.strictSame(
        own,
        Array.from({ length: each }, (_, n) => `${i} ${n}`),
        'what one connection sent keeps its order',
      );
    }
  },
);

t.test('room stream: what is sent without waiting keeps its order, over several rooms', async (t) => {
  const here = server.within(t);
  const [mina, jun] = await here.phones('mina', 'jun');
  const rooms = await Promise.all([1, 2, 3].map(() => here.room(mina, [jun])));
  const frames = Array.from({ length: 300 }, (_, i) => {
    const roomId = rooms[i % 3]?.id;
    const data = { roomId, clientMessageId: `${i}`, kind: 'text', text: `${i}` };
    return `${JSON.stringify({ id: `${i}`, type: 'message.send', data })}\n`;
  });
  mina.client.sendRaw(frames.join(''));
  const oks = await Promise.all(frames.map((_, i) => mina.client.waitForReply(`${i}`)));
  for (const [i, ok] of oks.entries()) {
    t.match(
      ok,
      { type: 'ok', data: { roomId: rooms[i % 3]?.id, seq: 2 + Math.floor(i / 3) } },
      `message ${i}`,
    );
  }
});

t.test('room stream: members who come and go while others write', async (t) => {
  const here = server.within(t);
  const [mina, jun, sora, hyun] = await here.phones('mina', 'jun', 'sora', 'hyun');
  const { id: roomId } = await here.room(mina, [jun]);
  const writers = [follow(mina, roomId), follow(jun, roomId)];
  let isOver = false;
  const writing = Promise.all(
    writers.map(async ({ send }) => {
      for (let n = 0; !isOver; n++) await Promise.all([send(`${n}`), send(`${n}`), send(`${n}`)]);
    }),
  );
  const comeAndGo = async (phone: Phone) => {
    for (let round = 0; round < 12; round++) {
      const { room, messages } = await phone.client.request('room.join', { roomId });
      t.equal(messages.at(-1)?.seq, room.lastSeq, 'the latest messages end where the pushed ones begin');
      const { seq } = await say(phone, roomId, 'hello');
      t.ok(seq > room.lastSeq);
      await phone.client.waitFor('message', (message) => message.roomId === roomId && message.seq > seq);
      await phone.client.request('room.leave', { roomId });
    }
  };
  await Promise.all([comeAndGo(sora), comeAndGo(hyun)]);
  isOver = true;
  await writing;
  await caughtUp(mina, jun);
  const [first, second] = writers;
  const end = (await mina.client.request('room.get', { roomId })).room.lastSeq;
  t.strictSame(first?.seqs, range(2, end));
  t.strictSame(second?.seqs, range(2, end));
});

t.test('room stream: logins while others write miss nothing after lastSeq', async (t) => {
  const here = server.within(t);
  const [mina, jun] = await here.phones('mina', 'jun');
  const { id: roomId } = await here.room(mina, [jun]);
  let isOver = false;
  const writing = (async () => {
    for (let n = 0; !isOver; n++) await Promise.all(range(1, 8).map((i) => say(mina, roomId, `${n} ${i}`)));
  })();
  const devices: Phone[] = [];
  for (let i = 0; i < 15; i++) devices.push(await here.phone('jun', `device ${i}`));
  isOver = true;
  await writing;
  await caughtUp(...devices);
  const end = (await mina.client.request('room.get', { roomId })).room.lastSeq;
  for (const { login, client } of devices) {
    const { lastSeq = 0 } = login.rooms.find(({ id }) => id === roomId) ?? {};
    const got = client.events.flatMap(({ type, data }) =>
      type === 'message' && data.roomId === roomId ? [data.seq] : [],
    );
    t.strictSame(got, range(lastSeq + 1, end), `from ${lastSeq + 1} on`);
  }
});

t.test('room stream: system entries take their place in it', async (t) => {
  const here = server.within(t);
  const [mina, jun, sora] = await here.phones('mina', 'jun', 'sora');
  const { id: roomId } = await here.room(mina, [jun]);
  const watching = follow(jun, roomId);
  await Promise.all([
    ...range(1, 20).map((i) => mina.client.request('room.update', { roomId, name: `name ${i}` })),
    ...range(1, 20).map((i) => say(mina, roomId, `text ${i}`)),
    ...range(1, 20).map(() => say(jun, roomId, 'x').then(({ seq }) => watching.seqs.push(seq))),
    sora.client.request('room.join', { roomId }),
  ]);
  await caughtUp(jun);
  t.strictSame(
    watching.seqs.toSorted((a, b) => a - b),
    range(2, 62),
  );
  const history = await wholeHistory(mina, roomId);
  t.strictSame(
    history.map(({ seq }) => seq),
    range(1, 62),
  );
  t.equal(history.filter(({ kind }) => kind === 'system').length, 22);
});

t.test('room stream: a member of fifty busy rooms gets each of them in order', async (t) => {
  const here = server.within(t);
  const [mina, jun, sora] = await here.phones('mina', 'jun', 'sora');
  const rooms = await Promise.all(range(1, 50).map(() => here.room(mina, [jun, sora])));
  const watching = rooms.map((room) => follow(sora, room.id));
  await Promise.all(
    rooms.flatMap((room) => range(1, 10).map((i) => say(i % 2 ? mina : jun, room.id, `${i}`))),
  );
  await caughtUp(sora);
  for (const { seqs } of watching) t.strictSame(seqs, range(2, 11));
});
