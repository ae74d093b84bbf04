import t from 'tap';
import { caughtUp, codeOf, eventsOf, type Phone, pushedTo, say, startServer } from './support/server.js';

const seqsOf = (phone: Phone, roomId: number) => pushedTo(phone, roomId).map(({ seq }) => seq);

t.test('room.kick and room.unban', async (t) => {
  const shared = await startServer(t);

  t.test('room.kick: a kicked member is told on every device and gets nothing after it', async (t) => {
    const server = shared.within(t);
    const [mina, jun, sora] = await server.phones('mina', 'jun', 'sora');
    const tablet = await server.phone('jun', 'tablet');
    const { id: roomId } = await server.room(mina, [jun, sora, tablet]);
    await say(sora, roomId, 'before');
    const seen: number[] = [];
    const ok = await mina.client.request(
      'room.kick',
      { roomId, userId: jun.userId },
      { onOk: () => seen.push(...seqsOf(mina, roomId)) },
    );
    t.same(ok, {});
    t.same(seen, [2, 3], 'the owner has got the entry before its ok');
    for (const phone of [jun, tablet]) {
      const removed = await phone.client.waitFor('room.removed');
      t.same(removed, { roomId, reason: 'kicked', actorId: mina.userId });
    }
    await say(sora, roomId, 'after');
    await caughtUp(jun, sora, tablet);
    for (const phone of [jun, tablet]) t.same(seqsOf(phone, roomId), [2]);
    t.match(pushedTo(sora, roomId), [
      { seq: 3, system: { event: 'kicked', actorId: mina.userId, subjectIds: [jun.userId] } },
    ]);
    for (const phone of [jun, tablet]) {
      t.equal(await codeOf(say(phone, roomId, 'x')), 'NOT_A_MEMBER');
      t.equal(await codeOf(phone.client.request('message.history', { roomId })), 'NOT_A_MEMBER');
      t.equal(await codeOf(phone.client.request('typing', { roomId, typing: true })), 'NOT_A_MEMBER');
    }
    const sync = await jun.client.request('sync', { cursors: [{ roomId, afterSeq: 0 }] });
    t.same(sync.removed, [roomId]);
    t.match(await mina.client.request('room.get', { roomId }), { room: { memberCount: 2 } });
    t.match(await jun.client.request('room.join', { roomId }), { room: { lastSeq: 5, memberCount: 3 } });
  });

  t.test('room.kick: a message that was acknowledged before it can still be asked about', async (t) => {
    const server = shared.within(t);
    const [mina, jun] = await server.phones('mina', 'jun');
    const { id: roomId } = await server.room(mina, [jun]);
    const { seq, sentAt } = await say(jun, roomId, 'mine', 'the key');
    await mina.client.request('room.kick', { roomId, userId: jun.userId });
    t.same(await say(jun, roomId, 'mine', 'the key'), { roomId, seq, sentAt, duplicate: true });
    t.equal(await codeOf(say(jun, roomId, 'mine', 'another key')), 'NOT_A_MEMBER');
  });

  t.test('room.kick: only the owner, only a member, not oneself', async (t) => {
    const server = shared.within(t);
    const [mina, jun, sora] = await server.phones('mina', 'jun', 'sora');
    const { id: roomId } = await server.room(mina, [jun]);
    const kick = (phone: Phone, userId: number, ban = false) =>
      codeOf(phone.client.request('room.kick', { roomId, userId, ban }));
    for (const ban of [false, true]) {
      t.equal(await kick(jun, mina.userId, ban), 'FORBIDDEN');
      t.equal(await kick(jun, jun.userId, ban), 'FORBIDDEN');
      t.equal(await kick(mina, mina.userId, ban), 'FORBIDDEN', 'oneself');
      t.equal(await kick(sora, jun.userId, ban), 'NOT_A_MEMBER');
      t.equal(await kick(mina, 4711, ban), 'NOT_FOUND', 'an unknown user');
    }
    t.equal(await kick(mina, sora.userId), 'NOT_FOUND', 'not in the room');
    const hidden = await server.room(mina, [], { visibility: 'private' });
    t.equal(await codeOf(jun.client.request('room.kick', { roomId: hidden.id, userId: 1 })), 'NOT_FOUND');
    t.match(await mina.client.request('room.get', { roomId }), { room: { memberCount: 2, lastSeq: 1 } });
  });

  t.test('room.kick with ban: FORBIDDEN from then on, in a public room', async (t) => {
    const server = shared.within(t);
    const [mina, jun, sora] = await server.phones('mina', 'jun', 'sora');
    const { id: roomId } = await server.room(mina, [jun, sora]);
    await mina.client.request('room.kick', { roomId, userId: jun.userId, ban: true });
    const removed = await jun.client.waitFor('room.removed', (data) => data.roomId === roomId);
    t.same(removed, { roomId, reason: 'banned', actorId: mina.userId });
    await caughtUp(sora, jun);
    t.match(pushedTo(sora, roomId), [{ system: { event: 'banned', actorId: 1, subjectIds: [jun.userId] } }]);
    t.same(seqsOf(jun, roomId), []);
    const { client } = jun;
    const requests = {
      'room.join': client.request('room.join', { roomId }),
      'room.get': client.request('room.get', { roomId }),
      'room.members': client.request('room.members', { roomId }),
      'room.invite': client.request('room.invite', { roomId, userIds: [jun.userId] }),
      'room.leave': client.request('room.leave', { roomId }),
      'message.send': say(jun, roomId, 'x'),
      'message.history': client.request('message.history', { roomId }),
      typing: client.request('typing', { roomId, typing: true }),
    };
    for (const [what, request] of Object.entries(requests)) t.equal(await codeOf(request), 'FORBIDDEN', what);
    t.equal(
      await codeOf(sora.client.request('room.invite', { roomId, userIds: [jun.userId] })),
      'CONFLICT',
      'nobody can invite them',
    );
    // A new login changes nothing.
    const tablet = await server.phone('jun', 'tablet');
    t.notOk(tablet.login.rooms.some(({ id }) => id === roomId));
    t.equal(await codeOf(tablet.client.request('room.join', { roomId })), 'FORBIDDEN');
  });

  t.test('room.kick with ban: of who left, of who never was there, and again', async (t) => {
    const server = shared.within(t);
    const [mina, jun, sora] = await server.phones('mina', 'jun', 'sora');
    const { id: roomId } = await server.room(mina, [jun]);
    await jun.client.request('room.leave', { roomId });
    const ban = (userId: number) => codeOf(mina.client.request('room.kick', { roomId, userId, ban: true }));
    t.equal(await ban(jun.userId), 'ok');
    t.equal(await ban(sora.userId), 'ok');
    for (const phone of [jun, sora]) {
      t.equal(await codeOf(phone.client.request('room.join', { roomId })), 'FORBIDDEN');
    }
    t.equal(await ban(sora.userId), 'ok', 'again is harmless');
    await caughtUp(mina, sora);
    t.same(
      pushedTo(mina, roomId).map(({ system }) => system?.event),
      ['left', 'banned', 'banned'],
    );
    t.notOk(
      eventsOf(sora, 'room.removed').some((data) => data.roomId === roomId),
      'they were not in it',
    );
    t.match(await mina.client.request('room.get', { roomId }), { room: { memberCount: 1 } });
  });

  t.test('room.unban: who was banned can come back, and is not in by that alone', async (t) => {
    const server = shared.within(t);
    const [mina, jun, sora] = await server.phones('mina', 'jun', 'sora');
    const { id: roomId } = await server.room(mina, [jun, sora]);
    await mina.client.request('room.kick', { roomId, userId: jun.userId, ban: true });
    const unban = (phone: Phone, userId: number) =>
      codeOf(phone.client.request('room.unban', { roomId, userId }));
    t.equal(await unban(sora, jun.userId), 'FORBIDDEN', 'only the owner');
    t.equal(await unban(jun, jun.userId), 'FORBIDDEN', 'not oneself');
    const seen: number[] = [];
    const onOk = () => seen.push(...seqsOf(mina, roomId));
    t.same(await mina.client.request('room.unban', { roomId, userId: jun.userId }, { onOk }), {});
    t.same(seen, [2, 3], 'the owner has got the entry before its ok');
    await caughtUp(sora, jun);
    t.match(pushedTo(sora, roomId).at(-1), {
      seq: 3,
      system: { event: 'unbanned', actorId: mina.userId, subjectIds: [jun.userId] },
    });
    t.same(seqsOf(jun, roomId), []);
    t.equal(await codeOf(say(jun, roomId, 'x')), 'NOT_A_MEMBER');
    t.match(await jun.client.request('room.join', { roomId }), { room: { role: 'member', lastSeq: 4 } });
    t.equal(await unban(mina, jun.userId), 'ok', 'of who is not banned is harmless');
    t.equal(await unban(mina, 4711), 'ok');
    t.match(
      await mina.client.request('room.get', { roomId }),
      { room: { lastSeq: 4 } },
      'and leaves no entry',
    );
  });

  t.test('room.unban: into a private room one has to be invited all the same', async (t) => {
    const server = shared.within(t);
    const [mina, jun] = await server.phones('mina', 'jun');
    const { id: roomId } = await server.room(mina, [jun], { visibility: 'private' });
    await mina.client.request('room.kick', { roomId, userId: jun.userId, ban: true });
    t.equal(await codeOf(jun.client.request('room.get', { roomId })), 'FORBIDDEN');
    await mina.client.request('room.unban', { roomId, userId: jun.userId });
    t.equal(await codeOf(jun.client.request('room.join', { roomId })), 'NOT_FOUND');
    t.same(await mina.client.request('room.invite', { roomId, userIds: [jun.userId] }), {
      invited: [jun.userId],
    });
  });
});
