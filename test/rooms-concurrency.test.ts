import t, { type Test } from 'tap';
import { ProtocolError } from '../src/cli/client.js';
import {
  caughtUp,
  codeOf,
  eventsOf,
  type Phone,
  pushedTo,
  say,
  startServer,
  type TestServer,
} from './support/server.js';

const seqsOf = (phone: Phone, roomId: number) => pushedTo(phone, roomId).map(({ seq }) => seq);

/** How often each code came. */
function tally(codes: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const code of codes) counts[code] = (counts[code] ?? 0) + 1;
  return counts;
}

/** What must hold of every room at any time: no hole, and the counts are those of the rows. */
async function isSound(t: Test, server: TestServer, roomId: number): Promise<void> {
  const [room] = await server.sql(
    'SELECT last_seq, last_ordinal, member_count, owner_id, deleted_at FROM chat_room WHERE id = ?',
    [roomId],
  );
  const [entries] = await server.sql(
    "SELECT COUNT(*) AS count, MAX(seq) AS last, SUM(kind <> 'system') AS texts FROM chat_entry WHERE room_id = ?",
    [roomId],
  );
  const members = await server.sql('SELECT user_id FROM chat_member WHERE room_id = ?', [roomId]);
  t.same(
    { seq: room?.last_seq, ordinal: room?.last_ordinal, members: room?.member_count },
    { seq: entries?.last, ordinal: Number(entries?.texts), members: members.length },
  );
  t.equal(entries?.count, entries?.last, 'no hole');
  if (room?.deleted_at === null)
    t.ok(
      members.some((member) => member.user_id === room?.owner_id),
      'the owner is in',
    );
}

t.test('rooms under concurrency', async (t) => {
  const shared = await startServer(t);

  t.test('room.join: two joins for the last place, one gets ROOM_FULL', async (t) => {
    const server = shared.within(t);
    const [mina, jun, sora] = await server.phones('mina', 'jun', 'sora');
    for (let round = 0; round < 10; round++) {
      const { id: roomId } = await server.room(mina, [], { memberLimit: 2 });
      const codes = await Promise.all(
        [jun, sora].map((phone) => codeOf(phone.client.request('room.join', { roomId }))),
      );
      t.same(tally(codes), { ok: 1, ROOM_FULL: 1 });
      await isSound(t, server, roomId);
    }
  });

  t.test('room.invite and room.join: for the last place, from all sides', async (t) => {
    const server = shared.within(t);
    const [mina, jun, sora, hyun] = await server.phones('mina', 'jun', 'sora', 'hyun');
    for (let round = 0; round < 5; round++) {
      const { id: roomId } = await server.room(mina, [jun], { memberLimit: 3 });
      const codes = await Promise.all([
        codeOf(sora.client.request('room.join', { roomId })),
        codeOf(mina.client.request('room.invite', { roomId, userIds: [hyun.userId] })),
        codeOf(jun.client.request('room.invite', { roomId, userIds: [5] })),
      ]);
      t.same(tally(codes), { ok: 1, ROOM_FULL: 2 });
      await isSound(t, server, roomId);
    }
  });

  t.test('room.join: of one user on two devices at once: one entry, both hear', async (t) => {
    const server = shared.within(t);
    const [mina, jun] = await server.phones('mina', 'jun');
    const tablet = await server.phone('jun', 'tablet');
    for (let round = 0; round < 10; round++) {
      const { id: roomId } = await server.room(mina);
      const joins = await Promise.all(
        [jun, tablet].map((phone) => phone.client.request('room.join', { roomId })),
      );
      t.same(
        joins.map(({ room }) => room.memberCount),
        [2, 2],
      );
      await say(mina, roomId, 'both?');
      await caughtUp(mina, jun, tablet);
      t.same(seqsOf(mina, roomId), [2]);
      for (const phone of [jun, tablet]) t.equal(seqsOf(phone, roomId).at(-1), 3);
    }
  });

  t.test('room.invite: of one user by two members at once: one of them did', async (t) => {
    const server = shared.within(t);
    const [mina, jun, sora] = await server.phones('mina', 'jun', 'sora');
    for (let round = 0; round < 10; round++) {
      const { id: roomId } = await server.room(mina, [jun]);
      const invitations = await Promise.all(
        [mina, jun].map((phone) => phone.client.request('room.invite', { roomId, userIds: [sora.userId] })),
      );
      t.same(invitations.map(({ invited }) => invited.length).sort(), [0, 1]);
      await caughtUp(sora);
      t.equal(eventsOf(sora, 'room.added').filter(({ room }) => room.id === roomId).length, 1);
    }
  });

  t.test('room.create: the same clientRoomId at once on two connections makes one room', async (t) => {
    const server = shared.within(t);
    const phones = [
      await server.phone('mina'),
      await server.phone('mina', 'tablet'),
      await server.phone('mina', 'x'),
    ];
    const jun = await server.phone('jun');
    for (let round = 0; round < 10; round++) {
      const clientRoomId = `at once ${round}`;
      const create = (phone: Phone) =>
        phone.client.request('room.create', { name: 'one', clientRoomId, memberIds: [jun.userId] });
      const rooms = await Promise.all([...phones, ...phones].map(create));
      const ids = new Set(rooms.map(({ room }) => room.id));
      t.equal(ids.size, 1);
      const [roomId = 0] = ids;
      await jun.client.waitFor('room.added', ({ room }) => room.id === roomId);
      t.same(
        await server.sql('SELECT COUNT(*) AS n FROM chat_room WHERE client_room_id = ?', [clientRoomId]),
        [{ n: 1 }],
      );
      const { seq } = await say(jun, roomId, 'hi');
      t.equal(seq, 2);
      await caughtUp(...phones, jun);
      for (const phone of phones) t.same(seqsOf(phone, roomId), [2], 'every device of the creator hears');
      t.equal(eventsOf(jun, 'room.added').filter(({ room }) => room.id === roomId).length, 1);
    }
  });

  t.test('room.direct: two at once, one room, and both hear what is said right away', async (t) => {
    const server = shared.within(t);
    const phones = await server.phones('mina', 'jun', 'sora', 'hyun', 'bora', 'duri');
    for (const a of phones) {
      for (const b of phones) {
        if (a.userId >= b.userId) continue;
        const [one, other] = await Promise.all([
          a.client.request('room.direct', { userId: b.userId }),
          b.client.request('room.direct', { userId: a.userId }),
        ]);
        t.equal(one.room.id, other.room.id);
        t.not(one.created, other.created, 'one of them made it');
        const roomId = one.room.id;
        await Promise.all([say(a, roomId, 'you too?'), say(b, roomId, 'you too?')]);
        for (const phone of [a, b]) {
          await phone.client.waitFor('message', (message) => message.roomId === roomId);
          t.equal(seqsOf(phone, roomId).length, 1, "the other one's, not the own");
        }
      }
    }
  });

  t.test(
    'room.kick: against concurrent sends, nothing enters after the ok and nothing is delivered',
    async (t) => {
      const server = shared.within(t);
      const [mina, jun, sora] = await server.phones('mina', 'jun', 'sora');
      const tablet = await server.phone('jun', 'tablet');
      const other = await server.room(mina, [jun, tablet]);
      for (let round = 0; round < 8; round++) {
        const ban = round % 2 === 0;
        const { id: roomId } = await server.room(mina, [jun, tablet, sora]);
        let isKicked = false;
        const acknowledged: number[] = [];
        const refusals: string[] = [];
        // jun sends from two devices as fast as it goes, sora too; the kick comes in the middle.
        const flood = async (phone: Phone) => {
          while (!isKicked) {
            const sends = Array.from({ length: 8 }, () => say(phone, roomId, phone.name));
            for (const result of await Promise.allSettled(sends)) {
              if (result.status === 'fulfilled') acknowledged.push(result.value.seq);
              else if (result.reason instanceof ProtocolError) refusals.push(result.reason.code);
              else throw result.reason;
            }
          }
        };
        const floods = [flood(jun), flood(tablet), flood(sora)];
        await mina.client.waitFor('message', (message) => message.roomId === roomId && message.seq > 40);
        await mina.client.request('room.kick', { roomId, userId: jun.userId, ban });
        isKicked = true;
        // From here on nothing of jun's may enter, and this is what he must not hear.
        const after = await Promise.all([
          say(sora, roomId, 'after'),
          say(jun, roomId, 'x').catch((error) => error),
        ]);
        t.match(after[1], { code: ban ? 'FORBIDDEN' : 'NOT_A_MEMBER' });
        await Promise.all(floods);
        await say(mina, other.id, `round ${round}`);
        for (const phone of [jun, tablet]) {
          await phone.client.waitFor('message', ({ text }) => text === `round ${round}`);
        }

        const entries = await server.sql('SELECT seq, sender_id, body FROM chat_entry WHERE room_id = ?', [
          roomId,
        ]);
        const kick = entries.find(({ body }) => /"event":"(kicked|banned)"/.test(String(body)));
        const kickSeq = Number(kick?.seq);
        const late = entries.filter(
          ({ seq, sender_id }) => sender_id === jun.userId && Number(seq) > kickSeq,
        );
        t.same(late, [], 'nothing of the kicked user is behind the kick');
        t.same(new Set(refusals), new Set(refusals.length > 0 ? [ban ? 'FORBIDDEN' : 'NOT_A_MEMBER'] : []));
        const stored = entries.filter(({ sender_id }) => sender_id !== null).map(({ seq }) => Number(seq));
        t.same(
          [...acknowledged, after[0].seq].sort((a, b) => a - b),
          stored,
          'what is stored was acknowledged, and the other way round',
        );

        for (const phone of [jun, tablet]) {
          // In order, the own ones left out, up to the entry before the kick; then the end.
          const seen = seqsOf(phone, roomId);
          t.same(
            seen,
            [...seen].sort((a, b) => a - b),
          );
          t.ok(
            seen.every((seq) => seq < kickSeq),
            'nothing from the removal on',
          );
          const events = phone.client.events.filter(
            ({ type, data }) =>
              (type === 'message' && data.roomId === roomId) ||
              (type === 'room.removed' && data.roomId === roomId),
          );
          t.match(events.at(-1), { type: 'room.removed', data: { reason: ban ? 'banned' : 'kicked' } });
          const own = entries.filter(({ sender_id }) => sender_id === jun.userId).length;
          t.ok(seen.length >= kickSeq - 2 - own, 'and nothing before it is missing');
        }
        const mine = seqsOf(mina, roomId);
        t.same(
          mine,
          mine.map((_, i) => i + 2),
          'the owner sees every entry once',
        );
        await isSound(t, server, roomId);
      }
    },
  );

  t.test('room.leave: against concurrent sends on another device of the user', async (t) => {
    const server = shared.within(t);
    const [mina, jun] = await server.phones('mina', 'jun');
    const tablet = await server.phone('jun', 'tablet');
    for (let round = 0; round < 8; round++) {
      const { id: roomId } = await server.room(mina, [jun, tablet]);
      const sends = Array.from({ length: 30 }, () => codeOf(say(tablet, roomId, 'still here')));
      await sends[round % 3];
      await jun.client.request('room.leave', { roomId });
      t.equal(await codeOf(say(jun, roomId, 'x')), 'NOT_A_MEMBER');
      const codes = tally(await Promise.all(sends));
      t.ok(Object.keys(codes).every((code) => code === 'ok' || code === 'NOT_A_MEMBER'));
      await say(mina, roomId, 'gone?');
      await caughtUp(mina, jun, tablet);
      const left = pushedTo(mina, roomId).find(({ system }) => system?.event === 'left');
      t.equal(left?.seq, 2 + (codes.ok ?? 0), 'everything that was acknowledged stands before it');
      for (const phone of [jun, tablet]) t.ok(seqsOf(phone, roomId).every((seq) => seq < (left?.seq ?? 0)));
      t.equal(eventsOf(tablet, 'room.removed').filter((data) => data.roomId === roomId).length, 1);
    }
  });

  t.test(
    'room.join: again and again while others talk, begins at lastSeq and ends with the ok',
    async (t) => {
      const server = shared.within(t);
      const [mina, sora, ...guests] = await server.phones('mina', 'sora', 'jun', 'hyun', 'bora');
      const { id: roomId } = await server.room(mina, [sora]);
      let stopped = false;
      const talking = [mina, sora].map(async (phone) => {
        while (!stopped) await say(phone, roomId, 'on and on');
      });
      await Promise.all(
        guests.map(async (guest) => {
          for (let round = 0; round < 12; round++) {
            const before = guest.client.events.length;
            const { room, messages } = await guest.client.request('room.join', { roomId });
            if (messages.at(-1)?.seq !== room.lastSeq) t.fail('messages and lastSeq are of two moments');
            await guest.client.waitFor(
              'message',
              (message) => message.roomId === roomId && message.seq >= room.lastSeq + 3,
            );
            let seen: number[] = [];
            const onOk = () => {
              seen = guest.client.events
                .slice(before)
                .flatMap(({ type, data }) =>
                  type === 'message' && data.roomId === roomId ? [data.seq] : [],
                );
            };
            await guest.client.request('room.leave', { roomId }, { onOk });
            const wrong = seen.findIndex((seq, i) => seq !== room.lastSeq + 1 + i);
            if (wrong >= 0)
              t.fail(`${guest.name}: after ${room.lastSeq} came ${seen.slice(0, wrong + 2).join()}`);
            const count = pushedTo(guest, roomId).length;
            await caughtUp(guest);
            t.equal(pushedTo(guest, roomId).length, count, 'nothing after the ok of room.leave');
          }
        }),
      );
      stopped = true;
      await Promise.all(talking);
      await isSound(t, server, roomId);
    },
  );

  t.test('room.leave: of everybody at once: each is answered, and the room is gone', async (t) => {
    const server = shared.within(t);
    const phones = await server.phones('mina', 'jun', 'sora', 'hyun', 'bora');
    const [mina, ...others] = phones;
    for (let round = 0; round < 5; round++) {
      const { id: roomId } = await server.room(mina, others);
      await Promise.all(phones.map((phone) => phone.client.request('room.leave', { roomId })));
      t.equal(await codeOf(mina.client.request('room.get', { roomId })), 'NOT_FOUND');
      const events = await server.sql('SELECT body FROM chat_entry WHERE room_id = ? ORDER BY seq', [roomId]);
      const systems = events.map(({ body }) => JSON.parse(String(body)));
      t.equal(systems.filter(({ event }) => event === 'left').length, 5);
      // After each owner the next one, until nobody is left.
      let owner = mina.userId;
      const inside = new Set(phones.map(({ userId }) => userId));
      for (const { event, actorId, subjectIds } of systems) {
        if (event === 'left') inside.delete(actorId);
        if (event !== 'owner_changed') continue;
        t.equal(actorId, owner);
        owner = subjectIds[0];
        t.ok(inside.has(owner), 'the new owner is in the room');
      }
      await isSound(t, server, roomId);
    }
  });

  t.test('room.leave and room.join: the last one leaves while another joins', async (t) => {
    const server = shared.within(t);
    const [mina, jun] = await server.phones('mina', 'jun');
    const seen = new Set<string>();
    for (let round = 0; round < 12; round++) {
      const { id: roomId } = await server.room(mina);
      const leave = () => codeOf(mina.client.request('room.leave', { roomId }));
      const join = () => codeOf(jun.client.request('room.join', { roomId }));
      const codes = round % 2 === 0 ? [leave(), join()].reverse() : [join(), leave()];
      const [joined, left] = await Promise.all(codes);
      t.equal(left, 'ok');
      seen.add(joined ?? '');
      const state = await codeOf(jun.client.request('room.get', { roomId }));
      t.equal(state, joined === 'ok' ? 'ok' : 'NOT_FOUND');
      if (joined === 'ok') {
        t.match(await jun.client.request('room.get', { roomId }), {
          room: { role: 'owner', memberCount: 1 },
        });
        await jun.client.waitFor('room.updated', ({ room }) => room.id === roomId && room.role === 'owner');
      } else t.equal(joined, 'NOT_FOUND');
      await isSound(t, server, roomId);
    }
    t.comment([...seen].join());
  });

  t.test(
    'room.transfer, room.leave, room.kick and room.delete at once leave one owner or none',
    async (t) => {
      const server = shared.within(t);
      const [mina, jun, sora] = await server.phones('mina', 'jun', 'sora');
      for (let round = 0; round < 8; round++) {
        const { id: roomId } = await server.room(mina, [jun, sora]);
        const codes = await Promise.all([
          codeOf(mina.client.request('room.transfer', { roomId, userId: jun.userId })),
          codeOf(jun.client.request('room.leave', { roomId })),
          codeOf(jun.client.request('room.transfer', { roomId, userId: sora.userId })),
          codeOf(mina.client.request('room.kick', { roomId, userId: sora.userId })),
          codeOf(sora.client.request('room.leave', { roomId })),
          codeOf(mina.client.request('room.update', { roomId, name: `round ${round}` })),
          ...(round % 4 === 3 ? [codeOf(mina.client.request('room.delete', { roomId }))] : []),
        ]);
        const possible = new Set(['ok', 'FORBIDDEN', 'NOT_A_MEMBER', 'NOT_FOUND']);
        t.ok(
          codes.every((code) => possible.has(code)),
          codes.join(),
        );
        await isSound(t, server, roomId);
      }
    },
  );

  t.test(
    'message.send: from many into many rooms at once, every room is a stream without holes',
    async (t) => {
      const server = shared.within(t);
      const phones = await server.phones('mina', 'jun', 'sora', 'hyun');
      const [mina, ...others] = phones;
      const rooms = await Promise.all([1, 2, 3, 4].map(() => server.room(mina, others)));
      const sends = phones.flatMap((phone) =>
        Array.from({ length: 60 }, (_, i) =>
          say(phone, rooms[i % rooms.length]?.id ?? 0, `${phone.name} ${i}`),
        ),
      );
      await Promise.all(sends);
      await caughtUp(...phones);
      for (const { id: roomId } of rooms) {
        for (const phone of phones) {
          const seen = seqsOf(phone, roomId);
          t.same(
            seen,
            [...new Set(seen)].sort((a, b) => a - b),
          );
          t.equal(seen.length, 45, 'those of the others');
        }
        await isSound(t, server, roomId);
      }
    },
  );
});
