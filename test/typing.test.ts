import t from 'tap';
import { caughtUp, codeOf, eventsOf, type Phone, say, startServer } from './support/server.js';

/** PROTOCOL 7: `typing`. */
const server = await startServer(t);

const type = (phone: Phone, roomId: number, typing: boolean) =>
  phone.client.request('typing', { roomId, typing });

t.test('typing: the other members are told, on every device, and nobody else', async (t) => {
  const here = server.within(t);
  const [mina, sora, hyun] = await here.phones('mina', 'sora', 'hyun');
  const minasTablet = await here.phone('mina', 'tablet');
  const phone = await here.phone('jun', 'phone');
  const tablet = await here.phone('jun', 'tablet');
  const room = await here.room(mina, [phone, sora]);
  t.strictSame(await type(mina, room.id, true), {});
  t.strictSame(await type(mina, room.id, false), {});
  for (const device of [sora, phone, tablet]) {
    await device.client.waitFor('typing', ({ typing }) => !typing);
    const events = eventsOf(device, 'typing');
    t.match(events, [
      { roomId: room.id, userId: mina.userId, typing: true },
      { roomId: room.id, userId: mina.userId, typing: false },
    ]);
    t.equal(events.length, 2);
    t.ok(events.every(({ expiresInMs }) => expiresInMs > 0));
  }
  await caughtUp(mina, minasTablet, hyun);
  t.strictSame(eventsOf(mina, 'typing'), [], 'not to oneself');
  t.strictSame(eventsOf(minasTablet, 'typing'), [], 'not to the own other devices');
  t.strictSame(eventsOf(hyun, 'typing'), [], 'not to who is not in the room');
});

t.test('typing: in a direct room', async (t) => {
  const [mina, jun] = await server.within(t).phones('mina', 'jun');
  const { room } = await mina.client.request('room.direct', { userId: jun.userId });
  await type(jun, room.id, true);
  t.match(await mina.client.waitFor('typing'), { roomId: room.id, userId: jun.userId, typing: true });
});

t.test('typing: is not stored', async (t) => {
  const here = server.within(t);
  const [mina, jun] = await here.phones('mina', 'jun');
  const room = await here.room(mina, [jun]);
  await type(mina, room.id, true);
  await jun.client.waitFor('typing');
  t.equal((await say(mina, room.id, 'typed')).seq, room.lastSeq + 1);
  const back = await here.phone('jun');
  const { messages } = await back.client.request('message.history', { roomId: room.id });
  t.strictSame(
    messages.map(({ kind }) => kind),
    ['system', 'text'],
  );
  t.strictSame(eventsOf(back, 'typing'), []);
});

t.test('typing: a new member types and is told right after joining', async (t) => {
  const here = server.within(t);
  const [mina, jun] = await here.phones('mina', 'jun');
  const { id: roomId } = await here.room(mina);
  const frames = [
    { id: 'join', type: 'room.join', data: { roomId } },
    { id: 'type', type: 'typing', data: { roomId, typing: true } },
  ];
  jun.client.sendRaw(frames.map((frame) => `${JSON.stringify(frame)}\n`).join(''));
  t.match(await jun.client.waitForReply('join'), { type: 'ok' });
  t.match(await jun.client.waitForReply('type'), { type: 'ok', data: {} });
  t.match(await mina.client.waitFor('typing'), { roomId, userId: jun.userId });
  await type(mina, roomId, true);
  t.match(await jun.client.waitFor('typing'), { roomId, userId: mina.userId });
});

t.test('typing: rooms that the user is not in', async (t) => {
  const here = server.within(t);
  const [mina, jun, sora] = await here.phones('mina', 'jun', 'sora');
  const open = await here.room(mina, [jun]);
  const secret = await here.room(mina, [jun], { visibility: 'private' });
  const { room: direct } = await mina.client.request('room.direct', { userId: jun.userId });
  t.equal(await codeOf(type(sora, open.id, true)), 'NOT_A_MEMBER');
  t.equal(await codeOf(type(sora, secret.id, true)), 'NOT_FOUND');
  t.equal(await codeOf(type(sora, direct.id, true)), 'NOT_FOUND');
  t.equal(await codeOf(type(sora, 999_999, true)), 'NOT_FOUND');
  await mina.client.request('room.kick', { roomId: open.id, userId: sora.userId, ban: true });
  t.equal(await codeOf(type(sora, open.id, true)), 'FORBIDDEN');
  await jun.client.request('room.leave', { roomId: open.id });
  t.equal(await codeOf(type(jun, open.id, true)), 'NOT_A_MEMBER', 'who has left');
  await mina.client.request('room.delete', { roomId: secret.id });
  t.equal(await codeOf(type(jun, secret.id, true)), 'NOT_FOUND', 'a room that is gone');
  await caughtUp(mina);
  t.strictSame(eventsOf(mina, 'typing'), [], 'and nobody was told');
});

t.test('typing: who has left is told no more', async (t) => {
  const here = server.within(t);
  const [mina, jun, sora] = await here.phones('mina', 'jun', 'sora');
  const room = await here.room(mina, [jun, sora]);
  await jun.client.request('room.leave', { roomId: room.id });
  await type(mina, room.id, true);
  await sora.client.waitFor('typing');
  await caughtUp(jun);
  t.strictSame(eventsOf(jun, 'typing'), []);
});

t.test('typing: comes before the message that was sent after it', async (t) => {
  const here = server.within(t);
  const [mina, jun] = await here.phones('mina', 'jun');
  const { id: roomId } = await here.room(mina, [jun]);
  const send = { roomId, clientMessageId: 'k', kind: 'text', text: 'typed' };
  const frames = [
    { id: 1000, type: 'typing', data: { roomId, typing: true } },
    { id: 1001, type: 'message.send', data: send },
    { id: 1002, type: 'typing', data: { roomId, typing: false } },
  ];
  mina.client.sendRaw(frames.map((frame) => `${JSON.stringify(frame)}\n`).join(''));
  await jun.client.waitFor('typing', ({ typing }) => !typing);
  const seen = jun.client.events.flatMap(({ type, data }): unknown[] =>
    type === 'typing' ? [data.typing] : type === 'message' && data.kind === 'text' ? [data.text] : [],
  );
  t.strictSame(seen, [true, 'typed', false]);
});
