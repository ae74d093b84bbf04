import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { until } from './support/courier.js';
import { createTestDatabase } from './support/database.js';
import { type CommitFault, FaultyLink } from './support/faulty-link.js';
import { codeOf, eventsOf, insertUsers, say, startServerOn, tokenFor } from './support/server.js';

/** A server whose wire to the database breaks on purpose. */
async function start(t: Test, settings: Record<string, string> = {}) {
  const { url } = await createTestDatabase(t);
  await insertUsers(url);
  const link = await FaultyLink.to(t, url);
  const server = await startServerOn(t, link.url, settings);
  return { server, link };
}

/** Asks again, as the error said one should, until the answer is another one than `UNAVAILABLE`. */
async function again<T>(request: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await request();
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'UNAVAILABLE')) throw error;
      await sleep(50);
    }
  }
}

const COMMITTED: readonly CommitFault[] = ['answer lost', 'late'];

for (const fault of COMMITTED) {
  t.test(
    `COMMIT of a message, ${fault}: everybody gets it all the same, and the retry finds it`,
    async (t) => {
      const { server, link } = await start(t);
      const [mina, jun] = await server.phones('mina', 'jun');
      if (!mina || !jun) throw new Error();
      const tablet = await server.phone('mina', 'tablet');
      const room = await server.room(mina, [jun]);

      link.hitCommitOf('the one message', fault);
      t.equal(await codeOf(say(mina, room.id, 'the one message', 'key')), 'UNAVAILABLE');
      t.equal(link.hits, 1);
      // Give the server the time to look too early.
      if (fault === 'late') {
        await again(() => mina.client.request('room.members', { roomId: room.id }));
        link.release();
      }
      for (const phone of [jun, tablet, mina]) {
        const message = await phone.client.waitFor('message', (message) => message.seq === 2, 3000);
        t.match(message, { text: 'the one message', clientMessageId: 'key', senderId: mina.userId });
      }
      const ok = await again(() => say(mina, room.id, 'the one message', 'key'));
      t.match(ok, { seq: 2, duplicate: true });
      t.match(await again(() => say(jun, room.id, 'next')), { seq: 3 });
      await mina.client.waitFor('message', (message) => message.seq === 3);
      for (const phone of [mina, tablet]) {
        t.same(
          eventsOf(phone, 'message').map(({ seq }) => seq),
          [2, 3],
          'each entry once',
        );
      }
    },
  );

  t.test(`COMMIT of a new room, ${fault}: its members are in it at once`, async (t) => {
    const { server, link } = await start(t);
    const [mina, jun] = await server.phones('mina', 'jun');
    if (!mina || !jun) throw new Error();
    const create = () =>
      mina.client.request('room.create', { name: 'a new one', memberIds: [2], clientRoomId: 'key' });
    link.hitCommitOf('a new one', fault);
    t.equal(await codeOf(create()), 'UNAVAILABLE');
    link.release();
    const { room } = await again(create);
    await jun.client.waitFor('room.added', (event) => event.room.id === room.id, 3000);
    await again(() => say(jun, room.id, 'hi'));
    await mina.client.waitFor('message', (message) => message.text === 'hi', 3000);
    await again(() => say(mina, room.id, 'ho'));
    await jun.client.waitFor('message', (message) => message.text === 'ho', 3000);
  });

  t.test(`COMMIT of a direct room, ${fault}: both are in it at once`, async (t) => {
    const { server, link } = await start(t);
    const [mina, jun] = await server.phones('mina', 'jun');
    if (!mina || !jun) throw new Error();
    const open = () => mina.client.request('room.direct', { userId: 2 });
    link.hitCommitOf("'direct'", fault);
    t.equal(await codeOf(open()), 'UNAVAILABLE');
    link.release();
    const { room } = await again(open);
    await jun.client.waitFor('room.added', (event) => event.room.id === room.id, 3000);
    await again(() => say(jun, room.id, 'hi'));
    await mina.client.waitFor('message', (message) => message.text === 'hi', 3000);
    await again(() => say(mina, room.id, 'ho'));
    await jun.client.waitFor('message', (message) => message.text === 'ho', 3000);
  });

  t.test(`COMMIT of a join, ${fault}: the retry answers, and messages come`, async (t) => {
    const { server, link } = await start(t);
    const [mina, jun] = await server.phones('mina', 'jun');
    if (!mina || !jun) throw new Error();
    const room = await server.room(mina);
    // Nobody of the room is here to notice anything.
    await mina.client.close();
    const join = () => jun.client.request('room.join', { roomId: room.id });
    link.hitCommitOf('joined', fault);
    t.equal(await codeOf(join()), 'UNAVAILABLE');
    link.release();
    t.match(await again(join), { room: { memberCount: 2, role: 'member' } });
    const back = await again(() => server.phone('mina'));
    await again(() => say(back, room.id, 'hi'));
    await jun.client.waitFor('message', (message) => message.text === 'hi', 3000);
  });

  t.test(`COMMIT of a kick, ${fault}: the kicked one is told and gets no more`, async (t) => {
    const { server, link } = await start(t);
    const [mina, jun, sora] = await server.phones('mina', 'jun', 'sora');
    if (!mina || !jun || !sora) throw new Error();
    const room = await server.room(mina, [jun, sora]);
    link.hitCommitOf('kicked', fault);
    const kick = () => mina.client.request('room.kick', { roomId: room.id, userId: 2 });
    t.equal(await codeOf(kick()), 'UNAVAILABLE');
    link.release();
    t.equal(await codeOf(again(kick)), 'NOT_FOUND', 'it is done');
    await jun.client.waitFor('room.removed', (event) => event.roomId === room.id, 3000);
    await again(() => say(mina, room.id, 'not for jun'));
    await sora.client.waitFor('message', (message) => message.text === 'not for jun');
    t.equal(await codeOf(again(() => say(jun, room.id, 'not from jun'))), 'NOT_A_MEMBER');
    t.notOk(eventsOf(jun, 'message').some((message) => message.text === 'not for jun'));
  });
}

t.test('COMMIT of a message that never arrives: it is stored by the retry, once', async (t) => {
  const { server, link } = await start(t);
  const [mina, jun] = await server.phones('mina', 'jun');
  if (!mina || !jun) throw new Error();
  const room = await server.room(mina, [jun]);
  link.hitCommitOf('the one message', 'never arrives');
  t.equal(await codeOf(say(mina, room.id, 'the one message', 'key')), 'UNAVAILABLE');
  t.match(await again(() => say(mina, room.id, 'the one message', 'key')), { seq: 2, duplicate: false });
  await jun.client.waitFor('message', (message) => message.text === 'the one message');
  t.equal(eventsOf(jun, 'message').filter(({ seq }) => seq === 2).length, 1);
});

t.test('COMMIT of a room that goes away, answer lost: its members are told', async (t) => {
  const { server, link } = await start(t);
  const [mina, jun] = await server.phones('mina', 'jun');
  if (!mina || !jun) throw new Error();
  const room = await server.room(mina, [jun]);
  link.hitCommitOf('deleted_at = ', 'answer lost');
  t.equal(await codeOf(mina.client.request('room.delete', { roomId: room.id })), 'UNAVAILABLE');
  const removed = await jun.client.waitFor('room.removed', () => true, 3000);
  t.match(removed, { roomId: room.id, reason: 'deleted', actorId: mina.userId });
});

t.test('COMMIT of a new name, answer lost: the members see it', async (t) => {
  const { server, link } = await start(t);
  const [mina, jun] = await server.phones('mina', 'jun');
  if (!mina || !jun) throw new Error();
  const room = await server.room(mina, [jun]);
  link.hitCommitOf('another name', 'answer lost');
  const rename = mina.client.request('room.update', { roomId: room.id, name: 'another name' });
  t.equal(await codeOf(rename), 'UNAVAILABLE');
  t.match(await jun.client.waitFor('room.updated', () => true, 3000), { room: { name: 'another name' } });
  t.match(await jun.client.waitFor('message'), { system: { event: 'renamed', name: 'another name' } });
});

t.test('COMMIT of a login, answer lost or late: nobody stays online who has no connection', async (t) => {
  const tries = COMMITTED.map(async (fault) => {
    const { server, link } = await start(t, { CHAT_MYSQL_TIMEOUT_MS: '500' });
    const mina = await server.phone('mina');
    link.hitCommitOf('the lost phone', fault);
    const lost = await server.connect();
    const login = lost.login({ token: await tokenFor(2) }, { id: 'jun', name: 'the lost phone' });
    t.equal(await codeOf(login), 'UNAVAILABLE');
    lost.destroy();
    link.release();
    const sessions = () => server.sql('SELECT id FROM chat_session WHERE user_id = 2');
    await until('the session is there', async () => (await sessions()).length === 1);
    await until('the session is gone', async () => (await sessions()).length === 0);
    const ask = () => mina.client.request('presence.subscribe', { userIds: [1, 2] });
    t.match(await again(ask), { presences: [{ state: 'online' }, { state: 'offline' }] });
  });
  await Promise.all(tries);
});
