import t from 'tap';
import { caughtUp, codeOf, eventsOf, type Phone, pushedTo, say, startServer } from './support/server.js';

const seqsOf = (phone: Phone, roomId: number) => pushedTo(phone, roomId).map(({ seq }) => seq);

t.test('room.invite', async (t) => {
  const shared = await startServer(t);

  t.test('room.invite: any member adds users, who are told and get what comes after', async (t) => {
    const server = shared.within(t);
    const [mina, jun, sora, hyun] = await server.phones('mina', 'jun', 'sora', 'hyun');
    const tablet = await server.phone('sora', 'tablet');
    const { id: roomId } = await server.room(mina, [jun], { visibility: 'private' });
    await say(mina, roomId, 'before');
    const seen: number[] = [];
    const { invited } = await jun.client.request(
      'room.invite',
      { roomId, userIds: [sora.userId, hyun.userId, sora.userId, mina.userId] },
      { onOk: () => seen.push(...seqsOf(jun, roomId)) },
    );
    t.same(invited, [sora.userId, hyun.userId], 'those who were not in it yet');
    t.same(seen, [2, 3], 'the caller has got the entry before its ok');
    for (const phone of [sora, hyun, tablet]) {
      const { room } = await phone.client.waitFor('room.added', (data) => data.room.id === roomId);
      t.match(room, {
        visibility: 'private',
        memberCount: 4,
        ownerId: mina.userId,
        role: 'member',
        lastSeq: 3,
        readSeq: 3,
        unread: 0,
        lastMessage: {
          seq: 3,
          kind: 'system',
          system: { event: 'invited', actorId: jun.userId, subjectIds: [sora.userId, hyun.userId] },
        },
      });
    }
    await say(hyun, roomId, 'after');
    await caughtUp(mina, jun, sora, hyun, tablet);
    t.same(seqsOf(mina, roomId), [3, 4]);
    t.same(seqsOf(sora, roomId), [4], 'only entries after lastSeq are pushed');
    t.same(seqsOf(tablet, roomId), [4]);
    t.same(seqsOf(hyun, roomId), []);
    const { messages } = await sora.client.request('message.history', { roomId });
    t.same(
      messages.map(({ seq }) => seq),
      [1, 2, 3, 4],
      'the whole history is open to members',
    );
  });

  t.test('room.invite: of members only is harmless and leaves no entry', async (t) => {
    const server = shared.within(t);
    const [mina, jun] = await server.phones('mina', 'jun');
    const { id: roomId } = await server.room(mina, [jun]);
    t.same(await jun.client.request('room.invite', { roomId, userIds: [1, 2] }), { invited: [] });
    await caughtUp(mina, jun);
    t.same(seqsOf(mina, roomId), []);
    t.match(await mina.client.request('room.get', { roomId }), { room: { memberCount: 2, lastSeq: 1 } });
  });

  t.test('room.invite: all or nothing', async (t) => {
    const server = shared.within(t);
    await server.sql('UPDATE chat_user SET disabled_at = UTC_TIMESTAMP(3) WHERE id = 6');
    const [mina, jun, sora, bora] = await server.phones('mina', 'jun', 'sora', 'bora');
    const { id: roomId } = await server.room(mina, [jun], { memberLimit: 3 });
    await mina.client.request('room.kick', { roomId, userId: bora.userId, ban: true });
    const invite = (phone: Phone, ...userIds: number[]) =>
      codeOf(phone.client.request('room.invite', { roomId, userIds }));
    t.equal(await invite(jun, 3, 4711), 'NOT_FOUND', 'an unknown user');
    t.equal(await invite(jun, 3, 6), 'NOT_FOUND', 'a disabled user');
    t.equal(await invite(jun, 3, bora.userId), 'CONFLICT', 'a banned user');
    t.equal(await invite(mina, bora.userId), 'CONFLICT', 'also for the owner');
    t.equal(await invite(jun, 3, 4), 'ROOM_FULL');
    t.equal(await invite(jun), 'BAD_REQUEST', 'nobody');
    t.equal(await invite(sora, 3), 'NOT_A_MEMBER', 'oneself into a public room');
    await caughtUp(sora, bora);
    t.same(seqsOf(sora, roomId), []);
    t.notOk(
      eventsOf(sora, 'room.added').some(({ room }) => room.id === roomId),
      'nobody was added',
    );
    t.equal(await invite(jun, 3), 'ok', 'the last place');
    t.equal(await invite(jun, 4), 'ROOM_FULL');
    t.equal(await invite(jun, 3, 2, 1), 'ok', 'who is in it needs no place');
  });

  t.test('room.invite: who left or was kicked can be invited again', async (t) => {
    const server = shared.within(t);
    const [mina, jun] = await server.phones('mina', 'jun');
    const { id: roomId } = await server.room(mina, [jun], { visibility: 'private' });
    for (const go of [
      () => jun.client.request('room.leave', { roomId }),
      () => mina.client.request('room.kick', { roomId, userId: jun.userId }),
    ]) {
      await go();
      t.equal(await codeOf(jun.client.request('room.join', { roomId })), 'NOT_FOUND');
      const { invited } = await mina.client.request('room.invite', { roomId, userIds: [jun.userId] });
      t.same(invited, [jun.userId]);
      const { room } = await jun.client.request('room.get', { roomId });
      await jun.client.waitFor(
        'room.added',
        (data) => data.room.id === roomId && data.room.lastSeq === room.lastSeq,
      );
      t.match(room, { role: 'member', memberCount: 2, unread: 0 });
    }
  });
});
