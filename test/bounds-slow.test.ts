import t from 'tap';
import { until } from './support/courier.js';
import { eventsOf, say, startServer } from './support/server.js';

/** More than the operating system buffers for a connection on this machine, with 50 KB each. */
const MESSAGES = 300;
const TEXT = 'x'.repeat(50_000);

t.test('a client that does not read is cut off, and the others get everything', async (t) => {
  const server = await startServer(t, { CHAT_OUTPUT_LIMIT_BYTES: '500000' });
  const [mina, jun, sora] = await server.phones('mina', 'jun', 'sora');
  if (!mina || !jun || !sora) throw new Error();
  const room = await server.room(mina, [jun, sora]);
  jun.client.socket.pause();
  for (let n = 0; n < MESSAGES; n += 20) {
    await Promise.all(Array.from({ length: 20 }, () => say(mina, room.id, TEXT)));
  }
  await until('the connection is gone', () => server.server.connections === 2);
  await sora.client.waitFor('message', ({ seq }) => seq === MESSAGES + 1);
  const seqs = eventsOf(sora, 'message').map(({ seq }) => seq);
  t.same(
    seqs,
    [...Array(MESSAGES).keys()].map((n) => n + 2),
  );
  t.ok(await mina.client.request('ping'));

  const back = await server.phone('jun');
  t.equal(back.login.rooms[0]?.lastSeq, MESSAGES + 1, 'and may come back');
});

t.test('a client that asks for much and never reads the replies is taken for lost', async (t) => {
  const server = await startServer(t, {
    CHAT_OUTPUT_LIMIT_BYTES: '500000',
    CHAT_HEARTBEAT_MS: '100',
    CHAT_HEARTBEAT_TIMEOUT_MS: '1500',
  });
  const [mina, jun] = await server.phones('mina', 'jun');
  if (!mina || !jun) throw new Error();
  const stillHere = setInterval(() => void mina.client.request('ping').catch(() => undefined), 200);
  t.teardown(() => clearInterval(stillHere));
  const room = await server.room(mina, [jun]);
  await mina.client.request('presence.subscribe', { userIds: [jun.userId] });
  for (let n = 0; n < 20; n++) await say(mina, room.id, TEXT);
  jun.client.socket.pause();
  const request = JSON.stringify({ id: 'x', type: 'message.history', data: { roomId: room.id } });
  jun.client.sendRaw(`${request}\n`.repeat(5000));
  await mina.client.waitFor('presence', ({ state }) => state === 'offline');
  t.equal(server.server.connections, 1);
});
