import t, { type Test } from 'tap';
import { startServer, type TestServer } from './support/server.js';

const CHARS = 100_000;
/** Each of the largest texts is 300 KB. */
const TEXT = '가'.repeat(CHARS);
const LIMIT = 2_000_000;

/** A server whose replies may have 1 MB, and rooms of mina with so many of the largest messages each. */
async function start(
  t: Test,
  rooms: number,
  messages: number,
): Promise<{ server: TestServer; roomIds: number[] }> {
  const server = await startServer(t, { CHAT_OUTPUT_LIMIT_BYTES: String(LIMIT) });
  const { client } = await server.phone('mina', 'the first');
  const roomIds: number[] = [];
  for (let n = 0; n < rooms; n++) {
    const { room } = await client.request('room.create', { name: `room ${n}` });
    roomIds.push(room.id);
    for (let seq = 2; seq < messages + 2; seq++) {
      await server.sql(
        `INSERT INTO chat_entry (room_id, seq, ordinal, kind, sender_id, client_message_id, body, sent_at)
         VALUES (?, ?, ?, 'text', 1, ?, REPEAT('가', ?), UTC_TIMESTAMP(3))`,
        [room.id, seq, seq - 1, `key ${seq}`, CHARS],
      );
    }
    await server.sql('UPDATE chat_room SET last_seq = ?, last_ordinal = ? WHERE id = ?', [
      messages + 1,
      messages,
      room.id,
    ]);
  }
  await client.close();
  return { server, roomIds };
}

t.test('a history of the largest texts comes in smaller pages, and to its end', async (t) => {
  const { server, roomIds } = await start(t, 1, 20);
  const [roomId = 0] = roomIds;
  const { client } = await server.phone('mina');
  const forward: number[] = [];
  for (let hasMore = true; hasMore; ) {
    const page = await client.request('message.history', { roomId, afterSeq: forward.at(-1) ?? 0 });
    t.ok(page.messages.length > 0, 'every page gets on');
    t.ok(page.messages.every(({ kind, text }) => kind === 'system' || text === TEXT));
    forward.push(...page.messages.map(({ seq }) => seq));
    hasMore = page.hasMore;
  }
  t.same(
    forward,
    [...Array(21).keys()].map((n) => n + 1),
  );
  const backward: number[] = [];
  for (let hasMore = true; hasMore; ) {
    const before = backward[0] === undefined ? {} : { beforeSeq: backward[0] };
    const page = await client.request('message.history', { roomId, ...before });
    t.ok(page.messages.length > 0, 'every page gets on');
    backward.unshift(...page.messages.map(({ seq }) => seq));
    hasMore = page.hasMore;
  }
  t.same(backward, forward);
});

t.test('sync of rooms full of the largest texts gets to its end', async (t) => {
  const { server, roomIds } = await start(t, 3, 8);
  const { client } = await server.phone('mina');
  const cursors = new Map(roomIds.map((roomId) => [roomId, 0]));
  let rounds = 0;
  for (let hasMore = true; hasMore; rounds++) {
    const wanted = [...cursors].map(([roomId, afterSeq]) => ({ roomId, afterSeq }));
    const answer = await client.request('sync', { cursors: wanted });
    hasMore = false;
    let entries = 0;
    for (const { room, events, hasMore: more } of answer.rooms) {
      for (const { data } of events) {
        t.equal(data.seq, (cursors.get(room.id) ?? 0) + 1);
        cursors.set(room.id, data.seq);
        entries++;
      }
      hasMore ||= more;
    }
    t.ok(entries > 0, 'every round gets on');
  }
  t.same([...cursors.values()], [9, 9, 9]);
  t.ok(rounds > 3, `${rounds} rounds`);
});

t.test('who is in many rooms with the largest last messages can log in, list and sync them', async (t) => {
  const { server, roomIds } = await start(t, 30, 1);
  const phone = await server.phone('mina');
  const { rooms } = phone.login;
  t.same(
    rooms.map(({ id, lastSeq, unread }) => [id, lastSeq, unread]),
    roomIds.map((id) => [id, 2, 1]),
    'all rooms are there',
  );
  const whole = rooms.filter(({ lastMessage }) => lastMessage?.text === TEXT).length;
  const left = rooms.filter(({ lastMessage }) => lastMessage === null).length;
  t.equal(whole + left, 30);
  t.ok(left > 0, 'the last messages of some are left for the history');
  const listed = await phone.client.request('room.list', { scope: 'mine' });
  t.equal(listed.rooms.length, 30);
  const synced = await phone.client.request('sync', { cursors: [] });
  t.equal(synced.added.length, 30);
  const joined = await phone.client.request('room.join', { roomId: roomIds[0] ?? 0 });
  t.equal(joined.messages.length, 2);
});
