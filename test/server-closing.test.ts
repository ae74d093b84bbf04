import t from 'tap';
import { ChatClient } from '../src/cli/client.js';
import { codeOf, say, startServer, startServerOn } from './support/server.js';

t.test('server.closing: every connection is told a delay of its own, then closed', async (t) => {
  const server = await startServer(t);
  const phones = await server.phones('mina', 'jun', 'sora', 'hyun', 'bora', 'duri');
  const stranger = await server.connect();
  const { port } = server;
  const stopped = server.server.stop();
  const delays: number[] = [];
  for (const client of [...phones.map((phone) => phone.client), stranger]) {
    const { reconnectAfterMs } = await client.waitFor('server.closing');
    delays.push(reconnectAfterMs);
    const { error, cause } = await client.closed;
    t.equal(error, null);
    t.equal(cause, undefined);
    t.equal(client.events.at(-1)?.type, 'server.closing', 'nothing comes after it to an idle connection');
  }
  t.ok(
    delays.every((ms) => ms > 0 && ms < 60_000),
    delays.join(', '),
  );
  t.ok(new Set(delays).size > 1, 'they differ');
  await stopped;
  await t.rejects(ChatClient.connect({ host: '127.0.0.1', port }));
});

t.test('server.closing: everything that is stored was answered, and the next start has it', async (t) => {
  const server = await startServer(t);
  const [mina, jun] = await server.phones('mina', 'jun');
  const room = await server.room(mina, [jun], { name: 'before' });
  const sent = Array.from({ length: 300 }, (_, i) => say(mina, room.id, `text ${i}`, `key ${i}`));
  const acknowledged = new Map<number, string>();
  const settled = Promise.allSettled(
    sent.map((send, i) => send.then(({ seq }) => acknowledged.set(seq, `text ${i}`))),
  );
  await sent[0];
  await server.server.stop();
  await settled;

  const next = await startServerOn(t, server.databaseUrl);
  const [again, other] = await next.phones('mina', 'jun');
  const stored = await next.sql("SELECT seq, body FROM chat_entry WHERE room_id = ? AND kind = 'text'", [
    room.id,
  ]);
  t.same(new Map(stored.map(({ seq, body }) => [seq, body])), acknowledged);
  t.comment(`${acknowledged.size} of ${sent.length} messages were accepted before the stop`);
  t.match(other.login.rooms, [{ id: room.id, name: 'before', lastSeq: stored.length + 1, memberCount: 2 }]);
  t.equal(await codeOf(again.client.request('room.update', { roomId: room.id, name: 'after' })), 'ok');
  // The keys of what was not accepted are free, and of what was, taken.
  for (const i of [0, 299]) {
    const { duplicate } = await say(again, room.id, `text ${i}`, `key ${i}`);
    t.equal(duplicate, [...acknowledged.values()].includes(`text ${i}`));
  }
});
