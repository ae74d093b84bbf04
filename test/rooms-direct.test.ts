import t from 'tap';
import { caughtUp, codeOf, eventsOf, type Phone, pushedTo, say, startServer } from './support/server.js';

t.test('room.direct', async (t) => {
  const shared = await startServer(t);

  t.test('room.direct: makes the room of the two once, and tells the other one', async (t) => {
    const server = shared.within(t);
    const [mina, jun, sora] = await server.phones('mina', 'jun', 'sora');
    const tablet = await server.phone('mina', 'tablet');
    const { room, created } = await mina.client.request('room.direct', { userId: jun.userId });
    t.equal(created, true);
    t.match(room, {
      kind: 'direct',
      name: null,
      visibility: 'private',
      ownerId: null,
      memberCount: 2,
      memberLimit: 2,
      lastSeq: 0,
      lastMessage: null,
      role: 'member',
      unread: 0,
      peer: jun.login.user,
    });
    const added = await jun.client.waitFor('room.added');
    t.same(added.room, { ...room, peer: mina.login.user });
    t.same((await tablet.client.waitFor('room.added')).room, room);

    const again = await mina.client.request('room.direct', { userId: jun.userId });
    t.same(again, { room, created: false });
    const other = await jun.client.request('room.direct', { userId: mina.userId });
    t.same(other, { room: { ...room, peer: mina.login.user }, created: false });

    const { seq } = await say(jun, room.id, 'hi');
    t.equal(seq, 1);
    for (const phone of [mina, tablet]) {
      t.match(await phone.client.waitFor('message'), {
        roomId: room.id,
        seq: 1,
        senderId: jun.userId,
        text: 'hi',
      });
    }
    await caughtUp(mina, jun, tablet, sora);
    t.same(eventsOf(mina, 'room.added'), []);
    t.equal(eventsOf(jun, 'room.added').length, 1);
    t.equal(eventsOf(tablet, 'room.added').length, 1);
    t.same(eventsOf(sora, 'room.added'), []);
    t.same(pushedTo(sora, room.id), []);
  });

  t.test('room.direct: both at once, again and again: one room, and one of them made it', async (t) => {
    const server = shared.within(t);
    // All pairs of four, from both sides and from two devices each.
    const phones = await server.phones('mina', 'sora', 'hyun', 'bora');
    const tablets = await Promise.all(phones.map(({ name }) => server.phone(name, 'tablet')));
    const asked = new Map<string, Promise<{ room: { id: number }; created: boolean }>[]>();
    for (const a of [...phones, ...tablets]) {
      for (const b of phones) {
        if (a.userId === b.userId) continue;
        const pair = [a.userId, b.userId].sort().join('+');
        const request = a.client.request('room.direct', { userId: b.userId });
        asked.set(pair, [...(asked.get(pair) ?? []), request]);
      }
    }
    const ids = new Set<number>();
    for (const [pair, requests] of asked) {
      const answers = await Promise.all(requests);
      t.equal(new Set(answers.map(({ room }) => room.id)).size, 1, `one room of ${pair}`);
      t.equal(answers.filter(({ created }) => created).length, 1, 'made once');
      ids.add(answers[0]?.room.id ?? 0);
    }
    t.equal(ids.size, 6);
    // Everybody hears in every room, whoever made it.
    for (const phone of phones) {
      for (const other of phones) {
        if (phone === other) continue;
        const { room } = await phone.client.request('room.direct', { userId: other.userId });
        const text = `from ${phone.name}`;
        await say(phone, room.id, text);
        const isIt = (message: { roomId: number; text?: string | undefined }) =>
          message.roomId === room.id && message.text === text;
        await other.client.waitFor('message', isIt);
      }
    }
    await caughtUp(...phones, ...tablets);
    for (const phone of [...phones, ...tablets]) {
      for (const roomId of ids) {
        const seqs = pushedTo(phone, roomId).map(({ seq }) => seq);
        t.same(seqs, [...new Set(seqs)], 'each entry once');
        t.ok(eventsOf(phone, 'room.added').filter(({ room }) => room.id === roomId).length <= 1);
      }
    }
  });

  t.test('room.direct: with oneself, an unknown or a disabled user', async (t) => {
    const { client } = await shared.within(t).phone('mina');
    await shared.sql('UPDATE chat_user SET disabled_at = UTC_TIMESTAMP(3) WHERE id = 6');
    t.equal(await codeOf(client.request('room.direct', { userId: 1 })), 'BAD_REQUEST');
    t.equal(await codeOf(client.request('room.direct', { userId: 4711 })), 'NOT_FOUND');
    t.equal(await codeOf(client.request('room.direct', { userId: 6 })), 'NOT_FOUND');
    t.equal(await codeOf(client.request('room.direct', { userId: 0 })), 'BAD_REQUEST');
  });

  t.test('a direct room can not be joined, invited to, left, kicked from, renamed or deleted', async (t) => {
    const [jun, hyun, sora] = await shared.within(t).phones('jun', 'hyun', 'sora');
    const { room } = await jun.client.request('room.direct', { userId: hyun.userId });
    const roomId = room.id;
    const refused = (phone: Phone): Record<string, Promise<unknown>> => ({
      'room.join': phone.client.request('room.join', { roomId }),
      'room.invite': phone.client.request('room.invite', { roomId, userIds: [sora.userId] }),
      'room.leave': phone.client.request('room.leave', { roomId }),
      'room.kick': phone.client.request('room.kick', { roomId, userId: hyun.userId }),
      'room.kick of oneself': phone.client.request('room.kick', { roomId, userId: phone.userId }),
      'room.kick with ban': phone.client.request('room.kick', { roomId, userId: hyun.userId, ban: true }),
      'room.unban': phone.client.request('room.unban', { roomId, userId: hyun.userId }),
      'room.update': phone.client.request('room.update', { roomId, name: 'us' }),
      'room.update to public': phone.client.request('room.update', { roomId, visibility: 'public' }),
      'room.transfer': phone.client.request('room.transfer', { roomId, userId: hyun.userId }),
      'room.delete': phone.client.request('room.delete', { roomId }),
    });
    for (const [what, request] of Object.entries(refused(jun)))
      t.equal(await codeOf(request), 'FORBIDDEN', what);
    const hidden = {
      ...refused(sora),
      'room.get': sora.client.request('room.get', { roomId }),
      'room.members': sora.client.request('room.members', { roomId }),
      'message.send': say(sora, roomId, 'let me in'),
      'message.history': sora.client.request('message.history', { roomId }),
      'message.read': sora.client.request('message.read', { roomId, seq: 0 }),
      typing: sora.client.request('typing', { roomId, typing: true }),
    };
    for (const [what, request] of Object.entries(hidden)) {
      t.equal(await codeOf(request), 'NOT_FOUND', `${what} of someone else's direct room`);
    }
    const { removed } = await sora.client.request('sync', { cursors: [{ roomId, afterSeq: 0 }] });
    t.same(removed, [roomId]);
    const all = await sora.client.request('room.list', { scope: 'public' });
    t.notOk(all.rooms.some(({ id }) => id === roomId));
    t.same((await jun.client.request('room.get', { roomId })).room, room, 'and nothing has changed');
    const { members } = await jun.client.request('room.members', { roomId });
    t.same(
      members.map((member) => [member.user.username, member.role]),
      [
        ['jun', 'member'],
        ['hyun', 'member'],
      ],
    );
  });
});
