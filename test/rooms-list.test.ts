import t from 'tap';
import type { Room } from '../src/shared/protocol/objects.js';
import { codeOf, type Phone, say, startServer } from './support/server.js';

/** All pages of a list of rooms. */
async function allRooms(phone: Phone, scope: 'mine' | 'public', limit: number, query?: string) {
  const rooms: Room[] = [];
  const sizes: number[] = [];
  let cursor: string | null = null;
  do {
    const page: { rooms: Room[]; nextCursor: string | null } = await phone.client.request('room.list', {
      scope,
      limit,
      ...(query === undefined ? {} : { query }),
      ...(cursor === null ? {} : { cursor }),
    });
    rooms.push(...page.rooms);
    sizes.push(page.rooms.length);
    cursor = page.nextCursor;
  } while (cursor !== null);
  return { rooms, sizes };
}

const idsOf = (rooms: readonly { id: number }[]) => rooms.map(({ id }) => id).sort((a, b) => a - b);

t.test('room.list', async (t) => {
  const server = await startServer(t);
  const [mina, jun] = await server.phones('mina', 'jun');
  const made: Room[] = [];
  for (let i = 0; i < 7; i++) {
    const visibility = i % 2 === 0 ? 'public' : 'private';
    made.push(await server.room(mina, i < 3 ? [jun] : [], { name: `Room ${i} 100%`, visibility }));
  }
  const { room: direct } = await mina.client.request('room.direct', { userId: jun.userId });
  const publicOnes = made.filter(({ visibility }) => visibility === 'public');

  t.test('room.list: "mine" are the rooms that the caller is in, whatever kind', async (t) => {
    t.same(idsOf((await allRooms(mina, 'mine', 100)).rooms), idsOf([...made, direct]));
    t.same(idsOf((await allRooms(jun, 'mine', 100)).rooms), idsOf([...made.slice(0, 3), direct]));
    const { rooms } = await mina.client.request('room.list', { scope: 'mine' });
    for (const room of rooms) t.same(room, (await mina.client.request('room.get', { roomId: room.id })).room);
    const tablet = await server.phone('mina', 'tablet');
    t.same(idsOf(tablet.login.rooms), idsOf(rooms), 'the same as at login');
  });

  t.test('room.list: "public" are the public ones, joined or not', async (t) => {
    const { rooms } = await allRooms(jun, 'public', 100);
    t.same(idsOf(rooms), idsOf(publicOnes));
    const [joined, other] = [publicOnes[0]?.id, publicOnes.at(-1)?.id];
    t.match(
      rooms.find(({ id }) => id === joined),
      { role: 'member', lastMessage: { seq: 1 } },
    );
    t.match(
      rooms.find(({ id }) => id === other),
      { role: null, lastMessage: null, unread: 0, memberCount: 1 },
    );
  });

  t.test('room.list: pages hold every room once, and end with nextCursor null', async (t) => {
    for (const limit of [1, 2, 3, 7, 8, 9]) {
      const mine = await allRooms(mina, 'mine', limit);
      t.same(idsOf(mine.rooms), idsOf([...made, direct]));
      t.same(mine.sizes.slice(0, -1), mine.sizes.slice(0, -1).fill(limit), 'all pages but the last are full');
      const all = await allRooms(mina, 'public', limit);
      t.same(idsOf(all.rooms), idsOf(publicOnes));
      t.ok(all.sizes.every((size) => size > 0));
    }
  });

  t.test('room.list: a room that is made between two pages moves none of the others', async (t) => {
    for (const scope of ['mine', 'public'] as const) {
      const first = await mina.client.request('room.list', { scope, limit: 3 });
      const extra = await server.room(mina, [], { name: 'between' });
      await mina.client.request('room.delete', { roomId: extra.id });
      const kept = await server.room(mina, [], { name: 'between' });
      const rest = await mina.client.request('room.list', { scope, cursor: first.nextCursor ?? '' });
      const ids = idsOf([...first.rooms, ...rest.rooms]).filter((id) => id !== kept.id);
      t.same(ids, idsOf(scope === 'mine' ? [...made, direct] : publicOnes));
      await mina.client.request('room.delete', { roomId: kept.id });
    }
  });

  t.test('room.list: query is a part of the name, taken literally, in any case', async (t) => {
    const find = async (query: string) => idsOf((await allRooms(mina, 'mine', 2, query)).rooms);
    t.same(await find('oom 3'), [made[3]?.id]);
    t.same(await find('ROOM 3 1'), [made[3]?.id]);
    t.same(await find('100%'), idsOf(made));
    t.same(await find(''), idsOf([...made, direct]));
    for (const pattern of ['R%m', 'Ro_m', 'Room !', '\\', "' OR 1=1 --", '1000', '[R]']) {
      t.same(await find(pattern), [], pattern);
    }
    t.same(await find('jun'), [direct.id], 'a direct room has the name of the other one');
    t.same(idsOf((await allRooms(jun, 'public', 1, 'oom 4')).rooms), [made[4]?.id]);
    t.same((await allRooms(jun, 'public', 1, 'oom 3')).rooms, [], 'a private room is not found');
  });

  t.test('room.list: BAD_REQUEST for what is no cursor, scope or limit', async (t) => {
    const list = (data: object) => {
      mina.client.sendRaw(`${JSON.stringify({ id: 'list', type: 'room.list', data })}\n`);
      return mina.client.waitForReply('list');
    };
    const wrong = [
      {},
      { scope: 'all' },
      { scope: 'mine', limit: 0 },
      { scope: 'mine', limit: 101 },
      { scope: 'mine', cursor: 'x' },
      { scope: 'mine', cursor: '' },
      { scope: 'mine', cursor: '1.2' },
      { scope: 'mine', cursor: "1' OR 1=1" },
      { scope: 'public', cursor: '99999999999999999' },
      { scope: 'mine', query: 'x'.repeat(101) },
    ];
    for (const data of wrong) {
      t.match(await list(data), { type: 'error', error: { code: 'BAD_REQUEST' } }, JSON.stringify(data));
    }
  });
});

t.test('room.get and room.members', async (t) => {
  const server = await startServer(t, { CHAT_PRESENCE_GRACE_MS: '0' });
  const [mina, jun, sora] = await server.phones('mina', 'jun', 'sora');

  t.test('room.get: a member sees what they have not read; who only looks sees no message', async (t) => {
    const { id: roomId } = await server.room(mina, [jun]);
    await say(mina, roomId, 'one');
    await say(mina, roomId, 'two');
    const get = async (phone: Phone) => (await phone.client.request('room.get', { roomId })).room;
    t.match(await get(mina), { role: 'owner', lastSeq: 3, readSeq: 3, unread: 0 });
    t.match(await get(jun), {
      role: 'member',
      readSeq: 1,
      deliveredSeq: 1,
      unread: 2,
      lastMessage: { text: 'two' },
    });
    const looked = await get(sora);
    t.match(looked, {
      role: null,
      lastMessage: null,
      readSeq: 0,
      deliveredSeq: 0,
      unread: 0,
      memberCount: 2,
    });
    t.equal(await codeOf(sora.client.request('room.get', { roomId: 987_654 })), 'NOT_FOUND');
  });

  t.test('room.members: with role, marks and presence, the longest-standing first', async (t) => {
    const { id: roomId } = await server.room(mina);
    for (const phone of [sora, jun]) await phone.client.request('room.join', { roomId });
    await mina.client.request('room.invite', { roomId, userIds: [5] });
    await say(sora, roomId, 'hi');
    await jun.client.request('message.delivered', { roomId, seq: 5 });
    const { members, nextCursor } = await mina.client.request('room.members', { roomId });
    t.equal(nextCursor, null);
    t.match(members, [
      {
        user: mina.login.user,
        role: 'owner',
        readSeq: 1,
        deliveredSeq: 1,
        presence: { userId: 1, state: 'online' },
      },
      { user: sora.login.user, role: 'member', readSeq: 5, deliveredSeq: 5, presence: { state: 'online' } },
      { user: jun.login.user, role: 'member', readSeq: 3, deliveredSeq: 5, presence: { state: 'online' } },
      {
        user: { id: 5, username: 'bora' },
        role: 'member',
        readSeq: 4,
        presence: { userId: 5, state: 'offline', lastActiveAt: null },
      },
    ]);
    const joinedAt = members.map((member) => member.joinedAt);
    t.same(
      joinedAt,
      [...joinedAt].sort((a, b) => a - b),
    );
    t.ok(Math.abs((joinedAt[0] ?? 0) - Date.now()) < 60_000);
  });

  t.test('room.members: pages hold every member once, also those who came at once', async (t) => {
    const { room } = await mina.client.request('room.create', { name: 'all', memberIds: [2, 3, 4, 5, 6] });
    for (const limit of [1, 2, 3, 5, 6, 200]) {
      const ids: number[] = [];
      let cursor: string | null = null;
      do {
        const page: { members: { user: { id: number } }[]; nextCursor: string | null } =
          await jun.client.request('room.members', {
            roomId: room.id,
            limit,
            ...(cursor === null ? {} : { cursor }),
          });
        ids.push(...page.members.map(({ user }) => user.id));
        cursor = page.nextCursor;
      } while (cursor !== null);
      t.same(ids, [1, 2, 3, 4, 5, 6], `in pages of ${limit}`);
    }
  });

  t.test(
    'room.members: BAD_REQUEST for what is no cursor or limit, and others do not see them',
    async (t) => {
      const { id: roomId } = await server.room(mina, [jun], { visibility: 'private' });
      const members = (phone: Phone, more: { cursor?: string; limit?: number } = {}) =>
        codeOf(phone.client.request('room.members', { roomId, ...more }));
      for (const cursor of [
        '',
        'x',
        '1',
        '1.2.3',
        '1.-2',
        '9007199254740991.1',
        '8640000000000001.1',
        '1.1e3',
      ]) {
        t.equal(await members(mina, { cursor }), 'BAD_REQUEST', cursor);
      }
      t.equal(await members(mina, { limit: 0 }), 'BAD_REQUEST');
      t.equal(await members(mina, { limit: 201 }), 'BAD_REQUEST');
      t.equal(await members(sora), 'NOT_FOUND');
      t.equal(await members(jun), 'ok');
    },
  );
});
