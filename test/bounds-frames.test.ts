import t from 'tap';
import { until } from './support/courier.js';
import { eventsOf, say, startServer } from './support/server.js';

t.test('a frame that is too large ends the connection after the earlier ones are answered', async (t) => {
  const server = await startServer(t, { CHAT_MAX_FRAME_BYTES: '4096' });
  const [mina, jun] = await server.phones('mina', 'jun');
  if (!mina || !jun) throw new Error();
  const room = await server.room(mina, [jun]);
  const { client } = mina;
  t.equal(client.hello.maxFrameBytes, 4096);
  const send = { roomId: room.id, clientMessageId: 'last', kind: 'text', text: 'the last one' };
  const lines = [
    ...Array.from({ length: 100 }, (_, n) => ({ id: `ping ${n}`, type: 'ping' })),
    { id: 'send', type: 'message.send', data: send },
    { id: 'history', type: 'message.history', data: { roomId: room.id } },
  ].map((request) => `${JSON.stringify(request)}\n`);
  client.sendRaw(`${lines.join('')}${' '.repeat(4096)}{"id":"never","type":"ping"}\n`);
  const { error } = await client.closed;
  t.match(error, { code: 'TOO_LARGE', retryable: false });
  const ids = client.unmatched.map((reply) => reply.id);
  t.equal(ids.length, lines.length + 1);
  t.equal(ids.at(-1), null, 'it is the last thing said');
  t.same(
    new Set(ids.slice(0, -1)),
    new Set([...Array(100).keys()].map((n) => `ping ${n}`).concat('send', 'history')),
  );
  t.match(
    client.unmatched.find((reply) => reply.id === 'send'),
    { type: 'ok', data: { seq: 2 } },
  );
  await jun.client.waitFor('message', ({ text }) => text === 'the last one');
});

t.test('the largest frame is taken', async (t) => {
  const server = await startServer(t, { CHAT_MAX_FRAME_BYTES: '4096' });
  const client = await server.connect();
  const ping = '{"id":1,"type":"ping"}';
  client.sendRaw(`${ping}${' '.repeat(4095 - ping.length)}\n`);
  t.match(await client.waitForReply(1), { type: 'ok' });
  client.sendRaw(`${ping}${' '.repeat(4096 - ping.length)}\n`);
  t.match((await client.closed).error, { code: 'TOO_LARGE' });
});

t.test(
  'a client over CHAT_FRAMES_PER_SECOND is read slower; nothing is dropped, others do not notice',
  async (t) => {
    const server = await startServer(t, { CHAT_FRAMES_PER_SECOND: '50' });
    const [fast, other] = await server.phones('mina', 'jun');
    if (!fast || !other) throw new Error();
    const startedAt = performance.now();
    const pings = Array.from({ length: 150 }, () => fast.client.request('ping'));
    let longest = 0;
    let isOver = false;
    const all = Promise.all(pings).finally(() => {
      isOver = true;
    });
    await until('the fast one is done', async () => {
      const askedAt = performance.now();
      await other.client.request('ping');
      longest = Math.max(longest, performance.now() - askedAt);
      return isOver;
    });
    await all;
    const took = performance.now() - startedAt;
    t.ok(took > 1500, `150 frames took ${took} ms`);
    t.ok(took < 8000, 'but they were read as fast as is allowed');
    t.ok(longest < 500, `the other one never waited longer than ${longest} ms`);
  },
);

t.test('a client that pipelines thousands of requests and reads nothing loses no reply', async (t) => {
  const server = await startServer(t, { CHAT_OUTPUT_LIMIT_BYTES: String(1024 * 1024) });
  const [greedy, other] = await server.phones('mina', 'jun');
  if (!greedy || !other) throw new Error();
  const room = await server.room(greedy, [other]);
  const text = '가'.repeat(1000);
  await Promise.all(Array.from({ length: 20 }, () => say(other, room.id, text)));
  // 60 KB each: what the operating system buffers is soon full.
  const count = 500;
  greedy.client.socket.pause();
  const requests = Array.from({ length: count }, () =>
    greedy.client.request('message.history', { roomId: room.id }, { timeoutMs: 60_000 }),
  );
  // It waits; meanwhile others are served.
  let longest = 0;
  for (let n = 0; n < 20; n++) {
    const askedAt = performance.now();
    await say(other, room.id, 'still here');
    longest = Math.max(longest, performance.now() - askedAt);
  }
  t.ok(longest < 2000, `others waited ${longest} ms at most`);
  greedy.client.socket.resume();
  const replies = await Promise.all(requests);
  t.ok(replies.every(({ messages }) => messages.length >= 21));
  await greedy.client.waitFor('message', ({ seq }) => seq === 41);
  t.equal(eventsOf(greedy, 'message').length, 40);
});

t.test('large replies to many requests at once do not end a connection that reads', async (t) => {
  const server = await startServer(t);
  const [mina, jun] = await server.phones('mina', 'jun');
  if (!mina || !jun) throw new Error();
  const room = await server.room(mina, [jun]);
  await Promise.all(Array.from({ length: 60 }, () => say(jun, room.id, '글'.repeat(10_000))));
  // 1.8 MB each, 7 times what may wait for one connection.
  const requests = Array.from({ length: 32 }, () =>
    mina.client.request('message.history', { roomId: room.id }, { timeoutMs: 30_000 }),
  );
  const replies = await Promise.all(requests);
  t.ok(replies.every(({ messages }) => messages.length > 0));
  t.ok(await mina.client.request('ping'));
});
