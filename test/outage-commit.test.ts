import t from 'tap';
import type { Message } from '../src/shared/protocol/objects.js';
import { again, type CommitFault, startOnFaultyLink } from './support/faulty-link.js';
import { codeOf, eventsOf, type Phone, say } from './support/server.js';

/** Each says something that the other one gets. */
async function talk(roomId: number, one: Phone, other: Phone): Promise<void> {
  for (const [from, to] of [
    [other, one],
    [one, other],
  ] as const) {
    const { seq } = await again(() => say(from, roomId, 'can you hear me?'));
    await to.client.waitFor('message', (message) => message.roomId === roomId && message.seq === seq, 3000);
  }
}

const COMMITTED: readonly CommitFault[] = ['answer lost', 'late'];

for (const fault of COMMITTED) {
  t.test(`COMMIT: ${fault}`, async (t) => {
    const { server, link } = await startOnFaultyLink(t);
    const [mina, jun, sora] = await server.phones('mina', 'jun', 'sora');
    if (!mina || !jun || !sora) throw new Error();

    await t.test('of a message: everybody gets it all the same, and the retry finds it', async (t) => {
      const tablet = await again(() => server.phone('mina', 'tablet'));
      const room = await again(() => server.room(mina, [jun]));
      const hits = link.hits;
      link.hitCommitOf('the one message', fault);
      t.equal(await codeOf(say(mina, room.id, 'the one message', 'key')), 'UNAVAILABLE');
      t.equal(link.hits, hits + 1);
      if (fault === 'late') {
        // Give the server the time to look too early.
        await again(() => mina.client.request('room.members', { roomId: room.id }));
        link.release();
      }
      const isIt = ({ roomId, seq }: Message) => roomId === room.id && seq === 2;
      for (const phone of [jun, tablet, mina]) {
        const message = await phone.client.waitFor('message', isIt, 3000);
        t.match(message, { text: 'the one message', clientMessageId: 'key', senderId: mina.userId });
      }
      const ok = await again(() => say(mina, room.id, 'the one message', 'key'));
      t.match(ok, { seq: 2, duplicate: true });
      t.match(await again(() => say(jun, room.id, 'next')), { seq: 3 });
      for (const phone of [mina, tablet]) {
        await phone.client.waitFor('message', ({ roomId, seq }) => roomId === room.id && seq === 3);
        const seqs = eventsOf(phone, 'message').filter(({ roomId }) => roomId === room.id);
        t.same(
          seqs.map(({ seq }) => seq),
          [2, 3],
          'each entry once',
        );
      }
    });

    await t.test('of a new room: its members are in it at once', async (t) => {
      const create = () =>
        mina.client.request('room.create', { name: 'a new one', memberIds: [2], clientRoomId: 'key' });
      link.hitCommitOf('a new one', fault);
      t.equal(await codeOf(create()), 'UNAVAILABLE');
      link.release();
      const { room } = await again(create);
      await jun.client.waitFor('room.added', (event) => event.room.id === room.id, 3000);
      await talk(room.id, mina, jun);
    });

    await t.test('of a direct room: both are in it at once', async (t) => {
      const open = () => mina.client.request('room.direct', { userId: 2 });
      link.hitCommitOf("'direct'", fault);
      t.equal(await codeOf(open()), 'UNAVAILABLE');
      link.release();
      const { room } = await again(open);
      await jun.client.waitFor('room.added', (event) => event.room.id === room.id, 3000);
      await talk(room.id, mina, jun);
    });

    await t.test('of a join: the retry answers, and messages come', async (t) => {
      const hyun = await again(() => server.phone('hyun'));
      const room = await again(() => server.room(hyun));
      // Nobody of the room is here to notice anything.
      await hyun.client.close();
      const join = () => jun.client.request('room.join', { roomId: room.id });
      link.hitCommitOf('joined', fault);
      t.equal(await codeOf(join()), 'UNAVAILABLE');
      link.release();
      t.match(await again(join), { room: { memberCount: 2, role: 'member' } });
      await talk(room.id, await again(() => server.phone('hyun')), jun);
    });

    await t.test('of a kick: the kicked one is told and gets no more', async (t) => {
      const room = await again(() => server.room(mina, [jun, sora]));
      const kick = () => mina.client.request('room.kick', { roomId: room.id, userId: 2 });
      link.hitCommitOf('kicked', fault);
      t.equal(await codeOf(kick()), 'UNAVAILABLE');
      link.release();
      t.equal(await codeOf(again(kick)), 'NOT_FOUND', 'it is done');
      await jun.client.waitFor('room.removed', (event) => event.roomId === room.id, 3000);
      await again(() => say(mina, room.id, 'not for jun'));
      await sora.client.waitFor('message', (message) => message.text === 'not for jun');
      t.equal(await codeOf(again(() => say(jun, room.id, 'not from jun'))), 'NOT_A_MEMBER');
      t.notOk(eventsOf(jun, 'message').some((message) => message.text === 'not for jun'));
    });

    await t.test('of a room that goes away: its members are told', async (t) => {
      const room = await again(() => server.room(mina, [jun]));
      link.hitCommitOf('deleted_at = ', fault);
      t.equal(await codeOf(mina.client.request('room.delete', { roomId: room.id })), 'UNAVAILABLE');
      link.release();
      const removed = await jun.client.waitFor('room.removed', ({ roomId }) => roomId === room.id, 3000);
      t.match(removed, { reason: 'deleted', actorId: mina.userId });
    });

    await t.test('of a new name: the members see it', async (t) => {
      const room = await again(() => server.room(mina, [jun]));
      link.hitCommitOf('another name', fault);
      const rename = mina.client.request('room.update', { roomId: room.id, name: 'another name' });
      t.equal(await codeOf(rename), 'UNAVAILABLE');
      link.release();
      const updated = await jun.client.waitFor('room.updated', (event) => event.room.id === room.id, 3000);
      t.equal(updated.room.name, 'another name');
      const message = await jun.client.waitFor('message', ({ roomId }) => roomId === room.id);
      t.match(message, { system: { event: 'renamed', name: 'another name' } });
    });
  });
}

t.test('COMMIT of a message that never arrives: it is stored by the retry, once', async (t) => {
  const { server, link } = await startOnFaultyLink(t);
  const [mina, jun] = await server.phones('mina', 'jun');
  if (!mina || !jun) throw new Error();
  const room = await again(() => server.room(mina, [jun]));
  link.hitCommitOf('the one message', 'never arrives');
  t.equal(await codeOf(say(mina, room.id, 'the one message', 'key')), 'UNAVAILABLE');
  t.match(await again(() => say(mina, room.id, 'the one message', 'key')), { seq: 2, duplicate: false });
  await jun.client.waitFor('message', (message) => message.text === 'the one message');
  t.equal(eventsOf(jun, 'message').filter(({ seq }) => seq === 2).length, 1);
});
