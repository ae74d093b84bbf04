import t from 'tap';
import { caughtUp, codeOf, eventsOf, pushedTo, say, startServer } from './support/server.js';

t.test('room.create', async (t) => {
  const shared = await startServer(t);

  t.test('room.create: answers with the room; the creator is its owner and only member', async (t) => {
    const [mina] = await shared.within(t).phones('mina');
    const before = Date.now();
    const { room } = await mina.client.request('room.create', { name: 'alone' });
    t.match(room, {
      kind: 'group',
      name: 'alone',
      visibility: 'public',
      ownerId: mina.userId,
      memberCount: 1,
      memberLimit: 100,
      lastSeq: 1,
      lastMessage: {
        roomId: room.id,
        seq: 1,
        kind: 'system',
        senderId: null,
        system: { event: 'created', actorId: mina.userId, name: 'alone' },
      },
      role: 'owner',
      readSeq: 1,
      deliveredSeq: 1,
      unread: 0,
    });
    t.notOk('peer' in room);
    t.ok(room.createdAt >= before - 1000 && room.createdAt <= Date.now() + 1000);
    await caughtUp(mina);
    t.same(eventsOf(mina, 'room.added'), [], 'the ok says it all to the connection that asked');
    t.same(pushedTo(mina, room.id), []);
    const { seq } = await say(mina, room.id, 'first');
    t.equal(seq, 2);
  });

  t.test('room.create: private, with members and a limit; everybody is told as they see it', async (t) => {
    const server = shared.within(t);
    const [mina, jun, sora, hyun] = await server.phones('mina', 'jun', 'sora', 'hyun');
    const tablet = await server.phone('mina', 'tablet');
    const { room } = await mina.client.request('room.create', {
      name: 'some of us',
      visibility: 'private',
      memberIds: [jun.userId, sora.userId, jun.userId, mina.userId],
      memberLimit: 5,
    });
    t.match(room, { visibility: 'private', memberCount: 3, memberLimit: 5, role: 'owner', unread: 0 });
    t.same(room.lastMessage?.system?.subjectIds, [jun.userId, sora.userId]);
    const isIt = (data: { room: { id: number } }) => data.room.id === room.id;
    for (const member of [jun, sora]) {
      const added = await member.client.waitFor('room.added', isIt);
      t.match(added.room, { ...room, role: 'member' });
    }
    const elsewhere = await tablet.client.waitFor('room.added', isIt);
    t.same(elsewhere.room, room, "the creator's other device is told");
    await say(mina, room.id, 'welcome');
    for (const phone of [jun, sora, tablet]) {
      await phone.client.waitFor('message', (message) => message.text === 'welcome');
      t.same(
        pushedTo(phone, room.id).map(({ seq }) => seq),
        [2],
        'only what is after lastSeq is pushed',
      );
    }
    await caughtUp(hyun);
    t.notOk(eventsOf(hyun, 'room.added').some(isIt), 'nobody else is told');
    t.same(pushedTo(hyun, room.id), []);
  });

  t.test('room.create: who is not connected finds the room at login, with nothing unread', async (t) => {
    const server = shared.within(t);
    const mina = await server.phone('mina');
    const { room } = await mina.client.request('room.create', { name: 'for later', memberIds: [5] });
    const bora = await server.phone('bora');
    t.match(
      bora.login.rooms.find(({ id }) => id === room.id),
      { name: 'for later', role: 'member', lastSeq: 1, readSeq: 1, unread: 0 },
    );
  });

  t.test('room.create: the same clientRoomId by the same user returns the first room', async (t) => {
    const server = shared.within(t);
    const [mina, jun] = await server.phones('mina', 'jun');
    const create = (phone: typeof mina, clientRoomId: string, name: string) =>
      phone.client.request('room.create', { name, clientRoomId });
    const first = await create(mina, 'key', 'first');
    await say(mina, first.room.id, 'something');
    const second = await create(mina, 'key', 'second');
    t.match(second.room, { id: first.room.id, name: 'first', lastSeq: 2 });
    const tablet = await server.phone('mina', 'tablet');
    t.equal((await create(tablet, 'key', 'third')).room.id, first.room.id, 'from another device');
    t.not((await create(jun, 'key', 'his own')).room.id, first.room.id, 'keys belong to a user');
    for (const other of ['KEY', 'key ', 'ke\u0301y', '열쇠', 'k'.repeat(64), '🔑'.repeat(64)]) {
      const { room } = await create(mina, other, 'another');
      t.not(room.id, first.room.id, `${other} is another key`);
      t.equal((await create(mina, other, 'another')).room.id, room.id);
    }
  });

  t.test('room.create: a clientRoomId whose room is gone or left is CONFLICT', async (t) => {
    const [mina, jun] = await shared.within(t).phones('mina', 'jun');
    const create = (clientRoomId: string) =>
      mina.client.request('room.create', { name: 'gone', clientRoomId, memberIds: [jun.userId] });
    const deleted = await create('deleted');
    await mina.client.request('room.delete', { roomId: deleted.room.id });
    t.equal(await codeOf(create('deleted')), 'CONFLICT');
    const left = await create('left');
    await mina.client.request('room.leave', { roomId: left.room.id });
    t.equal(await codeOf(create('left')), 'CONFLICT');
  });

  t.test('room.create: a name has 1–100 code points and comes back unchanged', async (t) => {
    const { client } = await shared.within(t).phone('mina');
    const create = (name: string) => client.request('room.create', { name });
    for (const name of [
      'x',
      '방'.repeat(100),
      '🏠'.repeat(100),
      ' spaces ',
      'e\u0301',
      "'; DROP TABLE x;--",
      '\0',
    ]) {
      const { room } = await create(name);
      t.equal(room.name, name);
      t.equal((await client.request('room.get', { roomId: room.id })).room.name, name);
      t.equal(room.lastMessage?.system?.name, name);
    }
    for (const name of ['', 'x'.repeat(101), '🏠'.repeat(101), '\ud800']) {
      t.equal(await codeOf(create(name)), 'BAD_REQUEST', JSON.stringify(name));
    }
  });

  t.test('room.create: members must exist and fit', async (t) => {
    const { client } = await shared.within(t).phone('mina');
    await shared.sql('UPDATE chat_user SET disabled_at = UTC_TIMESTAMP(3) WHERE id = 6');
    const before = await shared.sql('SELECT COUNT(*) AS rooms FROM chat_room');
    const create = (more: { memberIds?: number[]; memberLimit?: number }) =>
      codeOf(client.request('room.create', { name: 'no', ...more }));
    t.equal(await create({ memberIds: [2, 4711] }), 'NOT_FOUND', 'an unknown user');
    t.equal(await create({ memberIds: [2, 6] }), 'NOT_FOUND', 'a disabled user');
    t.equal(await create({ memberIds: [2, 3], memberLimit: 2 }), 'ROOM_FULL');
    t.equal(await create({ memberLimit: 101 }), 'BAD_REQUEST', 'over CHAT_ROOM_MEMBER_LIMIT');
    t.equal(await create({ memberLimit: 0 }), 'BAD_REQUEST');
    t.equal(await create({ memberIds: [0] }), 'BAD_REQUEST');
    t.same(await shared.sql('SELECT COUNT(*) AS rooms FROM chat_room'), before, 'and nothing was made');
    t.equal(await create({ memberIds: [2, 3], memberLimit: 3 }), 'ok');
    t.equal(await create({ memberIds: [1, 1], memberLimit: 1 }), 'ok', 'oneself counts once');
  });
});

t.test('CHAT_ROOM_MEMBER_LIMIT: is the default and the most', async (t) => {
  const server = await startServer(t, { CHAT_ROOM_MEMBER_LIMIT: '3' });
  const [mina, jun] = await server.phones('mina', 'jun');
  const { room } = await mina.client.request('room.create', { name: 'three', memberIds: [2, 3] });
  t.equal(room.memberLimit, 3);
  t.equal(await codeOf(jun.client.request('room.invite', { roomId: room.id, userIds: [4] })), 'ROOM_FULL');
  t.equal(
    await codeOf(mina.client.request('room.update', { roomId: room.id, memberLimit: 4 })),
    'BAD_REQUEST',
  );
  t.equal(await codeOf(mina.client.request('room.create', { name: 'x', memberIds: [2, 3, 4] })), 'ROOM_FULL');
});

t.test('CHAT_ROOMS_PER_USER: who is in as many rooms can come into no other', async (t) => {
  const server = await startServer(t, { CHAT_ROOMS_PER_USER: '2' });
  const [mina, jun] = await server.phones('mina', 'jun');
  await server.room(mina, [jun], { name: 'one' });
  const { room } = await mina.client.request('room.direct', { userId: jun.userId });
  t.equal(room.kind, 'direct');
  const create = (phone: typeof mina, memberIds: number[]) =>
    codeOf(phone.client.request('room.create', { name: 'three', memberIds }));
  t.equal(await create(mina, []), 'CONFLICT');
  const sora = await server.phone('sora');
  t.equal(await create(sora, [jun.userId]), 'CONFLICT');
  t.equal(await codeOf(sora.client.request('room.direct', { userId: jun.userId })), 'CONFLICT');
  const open = await server.room(sora);
  t.equal(await codeOf(jun.client.request('room.join', { roomId: open.id })), 'CONFLICT');
  t.equal(
    await codeOf(sora.client.request('room.invite', { roomId: open.id, userIds: [jun.userId] })),
    'CONFLICT',
  );
});
