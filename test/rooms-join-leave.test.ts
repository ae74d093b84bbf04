import t from 'tap';
import { caughtUp, codeOf, eventsOf, type Phone, pushedTo, say, startServer } from './support/server.js';

const seqsOf = (phone: Phone, roomId: number) => pushedTo(phone, roomId).map(({ seq }) => seq);
const systemOf = (phone: Phone, roomId: number) => pushedTo(phone, roomId).map(({ system }) => system);

t.test('room.join and room.leave', async (t) => {
  const shared = await startServer(t);

  t.test('room.join: answers with the room and the latest messages; the members are told', async (t) => {
    const server = shared.within(t);
    const [mina, jun] = await server.phones('mina', 'jun');
    const tablet = await server.phone('jun', 'tablet');
    const room = await server.room(mina);
    await say(mina, room.id, 'before');
    const { room: joined, messages } = await jun.client.request('room.join', { roomId: room.id });
    t.match(joined, {
      id: room.id,
      memberCount: 2,
      role: 'member',
      lastSeq: 3,
      readSeq: 3,
      deliveredSeq: 3,
      unread: 0,
    });
    t.match(messages, [
      { seq: 1, kind: 'system', system: { event: 'created' } },
      { seq: 2, kind: 'text', senderId: mina.userId, text: 'before' },
      { seq: 3, kind: 'system', senderId: null, system: { event: 'joined', actorId: jun.userId } },
    ]);
    t.same(joined.lastMessage, messages.at(-1));
    await mina.client.waitFor('message', ({ seq, roomId }) => roomId === room.id && seq === 3);
    const added = await tablet.client.waitFor('room.added', (data) => data.room.id === room.id);
    t.same(added.room, joined, "the user's other device is told");

    await say(mina, room.id, 'after');
    await caughtUp(mina, jun, tablet);
    t.same(seqsOf(jun, room.id), [4], 'only entries after lastSeq are pushed');
    t.same(seqsOf(tablet, room.id), [4]);
    t.same(seqsOf(mina, room.id), [3]);
    t.notOk(eventsOf(jun, 'room.added').some((data) => data.room.id === room.id));
    await say(jun, room.id, 'hello');
    await mina.client.waitFor('message', ({ text }) => text === 'hello');
  });

  t.test('room.join: of a long history the latest 100, and the rest can be read', async (t) => {
    const server = shared.within(t);
    const [mina, jun] = await server.phones('mina', 'jun');
    const room = await server.room(mina);
    await Promise.all(Array.from({ length: 150 }, (_, i) => say(mina, room.id, `text ${i}`)));
    const { messages } = await jun.client.request('room.join', { roomId: room.id });
    t.same(
      messages.map(({ seq }) => seq),
      Array.from({ length: 100 }, (_, i) => 53 + i),
    );
    const history = await jun.client.request('message.history', { roomId: room.id, beforeSeq: 53 });
    t.equal(history.messages.length, 52);
  });

  t.test('room.join: again is harmless, also for owner and for who was invited', async (t) => {
    const server = shared.within(t);
    const [mina, jun] = await server.phones('mina', 'jun');
    const room = await server.room(mina, [jun], { visibility: 'private' });
    for (const phone of [mina, jun, jun]) {
      const again = await phone.client.request('room.join', { roomId: room.id });
      t.match(again, { room: { id: room.id, memberCount: 2, lastSeq: 1 }, messages: [{ seq: 1 }] });
    }
    t.equal((await mina.client.request('room.join', { roomId: room.id })).room.role, 'owner');
    await caughtUp(mina, jun);
    t.same(seqsOf(mina, room.id), [], 'it leaves no entry');
    t.same(seqsOf(jun, room.id), []);
  });

  t.test('room.join: NOT_FOUND for a private room or none, ROOM_FULL at the limit', async (t) => {
    const server = shared.within(t);
    const [mina, jun, sora] = await server.phones('mina', 'jun', 'sora');
    const hidden = await server.room(mina, [], { visibility: 'private' });
    const join = (phone: Phone, roomId: number) => codeOf(phone.client.request('room.join', { roomId }));
    t.equal(await join(jun, hidden.id), 'NOT_FOUND');
    t.equal(await join(jun, 987_654), 'NOT_FOUND');
    t.equal(await join(jun, Number.MAX_SAFE_INTEGER), 'NOT_FOUND');
    t.equal(await join(jun, 0), 'BAD_REQUEST');
    const small = await server.room(mina, [], { memberLimit: 2 });
    t.equal(await join(jun, small.id), 'ok');
    t.equal(await join(sora, small.id), 'ROOM_FULL');
    t.equal(await join(jun, small.id), 'ok', 'who is in it is in it');
    await jun.client.request('room.leave', { roomId: small.id });
    t.equal(await join(sora, small.id), 'ok', 'a place that is left is free');
  });

  t.test('NOT_A_MEMBER: what the members of a public room may do, before joining', async (t) => {
    const server = shared.within(t);
    const [mina, jun] = await server.phones('mina', 'jun');
    const { id: roomId } = await server.room(mina);
    const { client } = jun;
    const requests = {
      'room.invite': client.request('room.invite', { roomId, userIds: [3] }),
      'room.leave': client.request('room.leave', { roomId }),
      'room.members': client.request('room.members', { roomId }),
      'room.update': client.request('room.update', { roomId, name: 'x' }),
      'room.kick': client.request('room.kick', { roomId, userId: 1 }),
      'room.unban': client.request('room.unban', { roomId, userId: 1 }),
      'room.transfer': client.request('room.transfer', { roomId, userId: 2 }),
      'room.delete': client.request('room.delete', { roomId }),
      'message.send': say(jun, roomId, 'x'),
      'message.history': client.request('message.history', { roomId }),
      'message.read': client.request('message.read', { roomId, seq: 1 }),
      'message.delivered': client.request('message.delivered', { roomId, seq: 1 }),
      typing: client.request('typing', { roomId, typing: true }),
    };
    for (const [what, request] of Object.entries(requests))
      t.equal(await codeOf(request), 'NOT_A_MEMBER', what);
  });

  t.test('room.leave: ok; the others are told, and nothing more comes to who left', async (t) => {
    const server = shared.within(t);
    const [mina, jun] = await server.phones('mina', 'jun');
    const tablet = await server.phone('jun', 'tablet');
    const room = await server.room(mina, [jun, tablet]);
    t.same(await jun.client.request('room.leave', { roomId: room.id }), {});
    const removed = await tablet.client.waitFor('room.removed');
    t.same(removed, { roomId: room.id, reason: 'left', actorId: jun.userId });
    const left = await mina.client.waitFor('message', ({ roomId }) => roomId === room.id);
    t.match(left, { seq: 2, kind: 'system', system: { event: 'left', actorId: jun.userId } });
    await say(mina, room.id, 'who is still here?');
    await caughtUp(jun, tablet);
    for (const phone of [jun, tablet]) t.same(seqsOf(phone, room.id), []);
    t.same(eventsOf(jun, 'room.removed'), [], 'the ok says it to the connection that asked');
    t.equal(await codeOf(say(jun, room.id, 'me')), 'NOT_A_MEMBER');
    t.equal(await codeOf(say(tablet, room.id, 'me')), 'NOT_A_MEMBER');
    t.equal(await codeOf(jun.client.request('room.leave', { roomId: room.id })), 'NOT_A_MEMBER');
    t.match(await mina.client.request('room.get', { roomId: room.id }), { room: { memberCount: 1 } });
    const { rooms } = await jun.client.request('room.list', { scope: 'mine' });
    t.notOk(rooms.some(({ id }) => id === room.id));
    const sync = await jun.client.request('sync', { cursors: [{ roomId: room.id, afterSeq: 1 }] });
    t.same(sync.removed, [room.id]);
  });

  t.test('room.leave: and joining again begins where the room is now', async (t) => {
    const server = shared.within(t);
    const [mina, jun] = await server.phones('mina', 'jun');
    const room = await server.room(mina, [jun]);
    await jun.client.request('room.leave', { roomId: room.id });
    await say(mina, room.id, 'missed');
    const { room: again, messages } = await jun.client.request('room.join', { roomId: room.id });
    t.match(again, { lastSeq: 4, readSeq: 4, unread: 0, role: 'member' });
    t.same(
      messages.map(({ seq }) => seq),
      [1, 2, 3, 4],
      'the history is there for members',
    );
    await say(mina, room.id, 'back?');
    await caughtUp(jun);
    t.same(seqsOf(jun, room.id), [5]);
  });

  t.test('room.leave: a private room that was left is NOT_FOUND', async (t) => {
    const server = shared.within(t);
    const [mina, jun] = await server.phones('mina', 'jun');
    const { id: roomId } = await server.room(mina, [jun], { visibility: 'private' });
    await jun.client.request('room.leave', { roomId });
    t.equal(await codeOf(jun.client.request('room.join', { roomId })), 'NOT_FOUND');
    t.equal(await codeOf(jun.client.request('room.get', { roomId })), 'NOT_FOUND');
    t.equal(await codeOf(say(jun, roomId, 'x')), 'NOT_FOUND');
  });

  t.test('room.leave: the owner leaves, and the longest-standing member becomes owner', async (t) => {
    const server = shared.within(t);
    const [mina, jun, sora, hyun] = await server.phones('mina', 'jun', 'sora', 'hyun');
    const room = await server.room(mina);
    const roomId = room.id;
    for (const phone of [hyun, jun, sora]) await phone.client.request('room.join', { roomId });
    // hyun was there first, but came back after the others.
    await hyun.client.request('room.leave', { roomId });
    await hyun.client.request('room.join', { roomId });
    const { lastSeq } = (await mina.client.request('room.get', { roomId })).room;
    await mina.client.request('room.leave', { roomId });
    for (const phone of [jun, sora, hyun]) {
      const { room: updated } = await phone.client.waitFor('room.updated', (data) => data.room.id === roomId);
      t.match(updated, {
        ownerId: jun.userId,
        memberCount: 3,
        role: phone === jun ? 'owner' : 'member',
        lastSeq: lastSeq + 2,
      });
      t.same(systemOf(phone, roomId).slice(-2), [
        { event: 'left', actorId: mina.userId },
        { event: 'owner_changed', actorId: mina.userId, subjectIds: [jun.userId] },
      ]);
    }
    await caughtUp(mina);
    t.notOk(eventsOf(mina, 'room.updated').some((data) => data.room.id === roomId));
    t.equal(await codeOf(sora.client.request('room.update', { roomId, name: 'mine' })), 'FORBIDDEN');
    t.equal(await codeOf(jun.client.request('room.update', { roomId, name: 'mine' })), 'ok');
    t.match(await mina.client.request('room.join', { roomId }), {
      room: { role: 'member', ownerId: jun.userId },
    });
  });

  t.test('room.leave: the last one leaves, and the room is deleted; its history stays stored', async (t) => {
    const server = shared.within(t);
    const [mina, jun] = await server.phones('mina', 'jun');
    const { id: roomId } = await server.room(mina, [jun], { name: 'the last one' });
    await say(mina, roomId, 'remember');
    await mina.client.request('room.leave', { roomId });
    await jun.client.waitFor('room.updated', ({ room }) => room.id === roomId && room.role === 'owner');
    t.same(await jun.client.request('room.leave', { roomId }), {});
    for (const phone of [mina, jun]) {
      t.equal(await codeOf(phone.client.request('room.get', { roomId })), 'NOT_FOUND');
      t.equal(await codeOf(phone.client.request('room.join', { roomId })), 'NOT_FOUND');
      t.equal(await codeOf(say(phone, roomId, 'x')), 'NOT_FOUND');
    }
    const { rooms } = await mina.client.request('room.list', { scope: 'public', query: 'the last one' });
    t.same(rooms, []);
    const stored = await server.sql('SELECT seq, kind FROM chat_entry WHERE room_id = ? ORDER BY seq', [
      roomId,
    ]);
    t.same(
      stored.map(({ kind }) => kind),
      ['system', 'text', 'system', 'system', 'system'],
    );
  });

  t.test('room.leave and room.join of one connection take effect in the order they were sent', async (t) => {
    const server = shared.within(t);
    const [mina, jun] = await server.phones('mina', 'jun');
    const { id: roomId } = await server.room(mina, [jun]);
    const codes = await Promise.all([
      codeOf(say(jun, roomId, 'one')),
      codeOf(jun.client.request('room.leave', { roomId })),
      codeOf(say(jun, roomId, 'two')),
      codeOf(jun.client.request('room.join', { roomId })),
      codeOf(say(jun, roomId, 'three')),
      codeOf(jun.client.request('room.leave', { roomId })),
      codeOf(jun.client.request('room.get', { roomId })),
    ]);
    t.same(codes, ['ok', 'ok', 'NOT_A_MEMBER', 'ok', 'ok', 'ok', 'ok']);
    await caughtUp(mina, jun);
    t.same(seqsOf(mina, roomId), [2, 3, 4, 5, 6]);
    t.same(seqsOf(jun, roomId), []);
  });
});
