import t from 'tap';
import { caughtUp, codeOf, eventsOf, type Phone, pushedTo, say, startServer } from './support/server.js';

const seqsOf = (phone: Phone, roomId: number) => pushedTo(phone, roomId).map(({ seq }) => seq);
const updatesOf = (phone: Phone, roomId: number) =>
  eventsOf(phone, 'room.updated').flatMap(({ room }) => (room.id === roomId ? [room] : []));

t.test('what the owner of a room may do', async (t) => {
  const shared = await startServer(t);

  t.test(
    'room.update: a new name is an entry, and every member is told the room as they see it',
    async (t) => {
      const server = shared.within(t);
      const [mina, jun, sora] = await server.phones('mina', 'jun', 'sora');
      const tablet = await server.phone('mina', 'tablet');
      const { id: roomId } = await server.room(mina, [jun], { name: 'old' });
      const { seq } = await say(mina, roomId, 'unread by jun');
      const seen: number[] = [];
      const { room } = await mina.client.request(
        'room.update',
        { roomId, name: 'new' },
        { onOk: () => seen.push(...seqsOf(mina, roomId)) },
      );
      const system = { event: 'renamed', actorId: mina.userId, name: 'new' };
      t.match(room, { name: 'new', role: 'owner', lastSeq: seq + 1, lastMessage: { system } });
      t.same(seen, [seq + 1], 'the owner has got the entry before its ok');
      await caughtUp(mina, jun, sora, tablet);
      t.match(pushedTo(jun, roomId).at(-1), { seq: seq + 1, kind: 'system', system });
      t.match(updatesOf(jun, roomId), [{ ...room, role: 'member', readSeq: 1, deliveredSeq: 1, unread: 1 }]);
      t.same(updatesOf(tablet, roomId), [room], "the owner's other device is told");
      t.same(updatesOf(mina, roomId), [], 'the ok says it to the connection that asked');
      t.same(updatesOf(sora, roomId), []);
      t.same(
        (await jun.client.request('room.list', { scope: 'mine', query: 'new' })).rooms.at(-1)?.id,
        roomId,
      );
    },
  );

  t.test('room.update: visibility and limit are told without an entry', async (t) => {
    const server = shared.within(t);
    const [mina, jun, sora] = await server.phones('mina', 'jun', 'sora');
    const { id: roomId } = await server.room(mina, [jun], { name: 'same' });
    const update = (more: { name?: string; visibility?: 'public' | 'private'; memberLimit?: number }) =>
      mina.client.request('room.update', { roomId, ...more });
    t.match(await update({ visibility: 'private' }), { room: { visibility: 'private', lastSeq: 1 } });
    t.equal(await codeOf(sora.client.request('room.get', { roomId })), 'NOT_FOUND');
    t.equal(await codeOf(sora.client.request('room.join', { roomId })), 'NOT_FOUND');
    t.match(await update({ memberLimit: 2, name: 'same' }), { room: { memberLimit: 2, lastSeq: 1 } });
    t.match(await update({ visibility: 'public' }), { room: { visibility: 'public', memberLimit: 2 } });
    t.equal(await codeOf(sora.client.request('room.join', { roomId })), 'ROOM_FULL');
    t.match(await update({ memberLimit: 3 }), { room: { memberLimit: 3 } });
    t.equal(await codeOf(sora.client.request('room.join', { roomId })), 'ok');
    t.equal(await codeOf(update({ memberLimit: 2 })), 'CONFLICT', 'it has three members');
    await caughtUp(jun);
    t.match(updatesOf(jun, roomId), [
      { visibility: 'private', memberLimit: 100 },
      { visibility: 'private', memberLimit: 2 },
      { visibility: 'public', memberLimit: 2 },
      { visibility: 'public', memberLimit: 3 },
    ]);
    t.same(seqsOf(jun, roomId), [2], 'only the join is an entry');
  });

  t.test('room.update: several things at once, nothing at all, and what is out of range', async (t) => {
    const server = shared.within(t);
    const [mina, jun] = await server.phones('mina', 'jun');
    const { id: roomId } = await server.room(mina, [jun]);
    const all = { name: '이름 🏠', visibility: 'private', memberLimit: 7 } as const;
    const { room } = await mina.client.request('room.update', { roomId, ...all });
    t.match(room, { ...all, lastSeq: 2 });
    t.same((await mina.client.request('room.update', { roomId })).room, room);
    const wrong = [{ name: '' }, { name: 'x'.repeat(101) }, { memberLimit: 0 }, { memberLimit: 101 }];
    for (const more of wrong) {
      t.equal(await codeOf(mina.client.request('room.update', { roomId, ...more })), 'BAD_REQUEST');
    }
    t.same((await mina.client.request('room.get', { roomId })).room, room);
  });

  t.test('FORBIDDEN: a member who is not the owner', async (t) => {
    const [mina, jun] = await shared.within(t).phones('mina', 'jun');
    const { id: roomId } = await shared.within(t).room(mina, [jun]);
    const { client } = jun;
    const requests = {
      'room.update': client.request('room.update', { roomId, name: 'mine' }),
      'room.kick': client.request('room.kick', { roomId, userId: mina.userId }),
      'room.unban': client.request('room.unban', { roomId, userId: 3 }),
      'room.transfer': client.request('room.transfer', { roomId, userId: jun.userId }),
      'room.delete': client.request('room.delete', { roomId }),
    };
    for (const [what, request] of Object.entries(requests)) t.equal(await codeOf(request), 'FORBIDDEN', what);
    t.match(await client.request('room.get', { roomId }), { room: { ownerId: mina.userId, lastSeq: 1 } });
  });

  t.test('room.transfer: to a member, who is the owner from then on', async (t) => {
    const server = shared.within(t);
    const [mina, jun, sora] = await server.phones('mina', 'jun', 'sora');
    const { id: roomId } = await server.room(mina, [jun, sora]);
    const seen: number[] = [];
    const onOk = () => seen.push(...seqsOf(mina, roomId));
    const { room } = await mina.client.request('room.transfer', { roomId, userId: jun.userId }, { onOk });
    t.match(room, { ownerId: jun.userId, role: 'member', lastSeq: 2 });
    t.same(seen, [2], 'the old owner has got the entry before its ok');
    await caughtUp(jun, sora);
    for (const phone of [jun, sora]) {
      t.match(pushedTo(phone, roomId), [
        { seq: 2, system: { event: 'owner_changed', actorId: mina.userId, subjectIds: [jun.userId] } },
      ]);
      t.match(updatesOf(phone, roomId), [{ ownerId: jun.userId, role: phone === jun ? 'owner' : 'member' }]);
    }
    t.equal(await codeOf(mina.client.request('room.update', { roomId, name: 'x' })), 'FORBIDDEN');
    t.equal(await codeOf(mina.client.request('room.kick', { roomId, userId: jun.userId })), 'FORBIDDEN');
    t.equal(await codeOf(jun.client.request('room.kick', { roomId, userId: mina.userId })), 'ok');
  });

  t.test('room.transfer: to oneself is harmless, to who is not in the room NOT_FOUND', async (t) => {
    const server = shared.within(t);
    const [mina, jun] = await server.phones('mina', 'jun');
    const room = await server.room(mina, [jun]);
    const transfer = (userId: number) => mina.client.request('room.transfer', { roomId: room.id, userId });
    t.same((await transfer(mina.userId)).room, room);
    t.equal(await codeOf(transfer(3)), 'NOT_FOUND');
    t.equal(await codeOf(transfer(4711)), 'NOT_FOUND');
    await jun.client.request('room.leave', { roomId: room.id });
    t.equal(await codeOf(transfer(jun.userId)), 'NOT_FOUND');
    t.match(await mina.client.request('room.get', { roomId: room.id }), { room: { ownerId: mina.userId } });
  });

  t.test('room.delete: the room is gone for everyone, and its history stays stored', async (t) => {
    const server = shared.within(t);
    const [mina, jun, sora] = await server.phones('mina', 'jun', 'sora');
    const tablet = await server.phone('mina', 'tablet');
    const { id: roomId } = await server.room(mina, [jun], { name: 'to be deleted' });
    await say(jun, roomId, 'remember me');
    t.same(await mina.client.request('room.delete', { roomId }), {});
    for (const phone of [jun, tablet]) {
      const removed = await phone.client.waitFor('room.removed');
      t.same(removed, { roomId, reason: 'deleted', actorId: mina.userId });
      t.equal(phone.client.events.at(-1)?.type, 'room.removed', 'after everything of the room');
    }
    await caughtUp(mina, sora);
    t.same(eventsOf(mina, 'room.removed'), [], 'the ok says it to the connection that asked');
    t.same(eventsOf(sora, 'room.removed'), []);
    for (const phone of [mina, jun, sora]) {
      const { client } = phone;
      const requests = {
        'room.get': client.request('room.get', { roomId }),
        'room.join': client.request('room.join', { roomId }),
        'room.leave': client.request('room.leave', { roomId }),
        'room.invite': client.request('room.invite', { roomId, userIds: [3] }),
        'room.members': client.request('room.members', { roomId }),
        'room.update': client.request('room.update', { roomId, name: 'x' }),
        'room.kick': client.request('room.kick', { roomId, userId: 2 }),
        'room.unban': client.request('room.unban', { roomId, userId: 2 }),
        'room.transfer': client.request('room.transfer', { roomId, userId: 2 }),
        'room.delete': client.request('room.delete', { roomId }),
        'message.send': say(phone, roomId, 'x'),
        'message.history': client.request('message.history', { roomId }),
        'message.read': client.request('message.read', { roomId, seq: 1 }),
        typing: client.request('typing', { roomId, typing: true }),
      };
      for (const [what, request] of Object.entries(requests))
        t.equal(await codeOf(request), 'NOT_FOUND', what);
      const sync = await client.request('sync', { cursors: [{ roomId, afterSeq: 0 }] });
      t.same(sync.removed, [roomId]);
      for (const scope of ['mine', 'public'] as const) {
        t.same((await client.request('room.list', { scope, query: 'to be deleted' })).rooms, []);
      }
    }
    const again = await server.phone('jun', 'another device');
    t.notOk(again.login.rooms.some(({ id }) => id === roomId));
    const stored = await server.sql('SELECT body FROM chat_entry WHERE room_id = ? ORDER BY seq', [roomId]);
    t.equal(stored[1]?.body, 'remember me');
  });
});
