import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { say, startServer } from './support/server.js';

const TIMEOUT = 800;

t.test('HEARTBEAT_TIMEOUT: a silent connection is closed, one with signs of life is not', async (t) => {
  const server = await startServer(t, {
    CHAT_HEARTBEAT_MS: '200',
    CHAT_HEARTBEAT_TIMEOUT_MS: String(TIMEOUT),
    CHAT_LOGIN_TIMEOUT_MS: '60000',
    CHAT_PRESENCE_GRACE_MS: '100',
  });
  const [mina, jun, sora, hyun, bora] = await server.phones('mina', 'jun', 'sora', 'hyun', 'bora');
  t.match(mina.client.hello, { heartbeatMs: 200, timeoutMs: TIMEOUT });
  const stranger = await server.connect();
  const room = await server.room(mina, [jun, sora]);
  await mina.client.request('presence.subscribe', { userIds: [jun.userId] });

  // Signs of life: a request, an empty line, and one byte after another of a frame that takes longer than the timeout.
  const frame = '{"id":"slow","type":"ping"}\n';
  let sent = 0;
  const living = [mina.client, sora.client, hyun.client];
  const since = performance.now();
  const alive = setInterval(() => {
    mina.client.request('ping').catch(() => undefined);
    sora.client.sendRaw('\n');
    hyun.client.sendRaw(frame.slice(sent, ++sent));
  }, TIMEOUT / 10);
  t.teardown(() => clearInterval(alive));
  const { tokenExpiresAt } = bora.login;
  t.type(tokenExpiresAt, 'number');

  // What a connection is sent is no sign of its life: jun gets messages all the while.
  let stopped = false;
  const talk = (async () => {
    while (!stopped) {
      await say(mina, room.id, 'are you there?');
      await sleep(20);
    }
  })();
  for (const client of [jun.client, bora.client, stranger]) {
    const { error } = await client.closed;
    t.match(error, { code: 'HEARTBEAT_TIMEOUT', retryable: true });
  }
  const silence = performance.now() - since;
  t.ok(silence > TIMEOUT * 0.8 && silence < TIMEOUT + 2000, `closed after ${Math.round(silence)} ms`);
  await mina.client.waitFor('presence', ({ userId, state }) => userId === jun.userId && state === 'offline');
  stopped = true;
  await talk;
  t.match(await hyun.client.waitForReply('slow'), { type: 'ok' }, 'the slow frame was read in the end');
  t.ok(performance.now() - since > TIMEOUT * 2);
  for (const client of living) t.notOk(client.isClosed);
});
