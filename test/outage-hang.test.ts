import t from 'tap';
import { freeze, Pinger, until } from './support/courier.js';
import { startPrivateDatabase } from './support/database.js';
import { codeOf, eventsOf, insertUsers, say, startServerOn, tokenFor } from './support/server.js';

t.test('the database hangs', async (t) => {
  const database = await startPrivateDatabase(t);
  await insertUsers(database.url);
  const server = await startServerOn(t, database.url, { CHAT_WORKER_THREADS: '2' });
  const [mina, jun, sora, hyun] = await server.phones('mina', 'jun', 'sora', 'hyun');
  if (!mina || !jun || !sora || !hyun) throw new Error();
  const room = await server.room(mina, [jun, sora, hyun]);
  await mina.client.request('presence.subscribe', { userIds: [jun.userId, hyun.userId] });
  t.teardown(() => {
    // A server that was stopped is not ended by the signal that asks it to.
    process.kill(database.pid, 'SIGCONT');
  });

  await freeze(database.pid);
  const hungAt = performance.now();
  // Requests of every kind, and more of them than there are batches and connections to the database.
  const requests = [
    codeOf(say(mina, room.id, 'while it hangs', 'key')),
    codeOf(mina.client.request('message.history', { roomId: room.id })),
    codeOf(jun.client.request('message.read', { roomId: room.id, seq: 1 })),
    codeOf(jun.client.request('room.create', { name: 'a room' })),
    codeOf(jun.client.request('user.list', {})),
    codeOf(sora.client.request('sync', { cursors: [{ roomId: room.id, afterSeq: 0 }] })),
    codeOf(hyun.client.request('message.delivered', { roomId: room.id, seq: 1 })),
  ];
  const pingers = [mina, jun, sora, hyun].map(({ client }) => new Pinger(client));

  await t.test('pings and typing go on, behind requests that hang too', async (t) => {
    for (let n = 0; n < 5; n++) {
      const startedAt = performance.now();
      await Promise.all([
        mina.client.request('ping'),
        mina.client.request('typing', { roomId: room.id, typing: true }),
      ]);
      t.ok(performance.now() - startedAt < 1000);
    }
    await jun.client.waitFor('typing', ({ userId }) => userId === mina.userId, 1000);
  });

  await t.test('a request is answered UNAVAILABLE within 10 s', async (t) => {
    t.same(new Set(await Promise.all(requests)), new Set(['UNAVAILABLE']));
    t.ok(performance.now() - hungAt < 9000, `after ${performance.now() - hungAt} ms`);
  });

  await t.test('from then on at once, with the time to wait', async (t) => {
    // Two threads find out for themselves: the first answers of the second one may still take their time.
    await until('both threads know', async () => {
      const startedAt = performance.now();
      await Promise.all([codeOf(say(sora, room.id, 'x')), codeOf(say(hyun, room.id, 'y'))]);
      return performance.now() - startedAt < 300;
    });
    for (let n = 0; n < 10; n++) {
      const startedAt = performance.now();
      const error: unknown = await say(sora, room.id, 'no').catch((error: unknown) => error);
      t.match(error, { code: 'UNAVAILABLE', retryable: true, retryAfterMs: Number });
      t.ok(performance.now() - startedAt < 300);
    }
  });

  const late = await server.connect();
  await t.test('a login is UNAVAILABLE, and the connection may try again', async (t) => {
    const login = late.login({ token: await tokenFor(5) }, { id: "bora's phone" });
    t.equal(await codeOf(login), 'UNAVAILABLE');
    t.ok(await late.request('ping'));
  });

  await t.test('a device that logs out gets its answer', async () => {
    await hyun.client.request('auth.logout');
    await hyun.client.closed;
  });
  jun.client.destroy();

  process.kill(database.pid, 'SIGCONT');
  const backAt = performance.now();

  await t.test('service resumes by itself, and the retry stores the message once', async (t) => {
    const retry = async () =>
      say(mina, room.id, 'while it hangs', 'key').then(
        () => true,
        () => false,
      );
    await until('mina can send', retry);
    t.ok(performance.now() - backAt < 3500, `after ${performance.now() - backAt} ms`);
    const { messages } = await sora.client.request('message.history', { roomId: room.id });
    t.equal(messages.filter(({ clientMessageId }) => clientMessageId === 'key').length, 1);
    await sora.client.waitFor('message', (message) => message.clientMessageId === 'key');
  });

  await t.test('the login works on the same connection', async (t) => {
    const retry = async () => codeOf(late.login({ token: await tokenFor(5) }, { id: "bora's phone" }));
    await until('bora is in', async () => (await retry()) === 'ok');
    t.match(await late.request('room.list', { scope: 'mine' }), { rooms: [] });
  });

  await t.test('who went meanwhile goes offline now, who stayed is online', async (t) => {
    for (const { userId } of [jun, hyun]) {
      await mina.client.waitFor('presence', (p) => p.userId === userId && p.state === 'offline');
    }
    await until('the others are online', async () => {
      const { presences } = await mina.client.request('presence.subscribe', { userIds: [1, 2, 3, 4, 5] });
      return presences.map(({ state }) => state).join() === 'online,offline,online,offline,online';
    });
    t.equal(eventsOf(mina, 'presence').filter(({ userId }) => userId === sora.userId).length, 0);
  });

  for (const [i, pinger] of pingers.entries()) {
    if (i === 1 || i === 3) continue;
    await pinger.stop();
    t.equal(pinger.failure, undefined);
    t.ok(pinger.count > 20 && pinger.longestMs < 1000, `${pinger.count} pings, ${pinger.longestMs} ms`);
  }
});
