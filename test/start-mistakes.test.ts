import { existsSync } from 'node:fs';
import { createServer } from 'node:net';
import t from 'tap';
import { allGone, descendants } from './support/processes.js';
import { newcomer, start } from './support/start.js';

t.test('all mistakes in the configuration are listed, before anything is started', async (t) => {
  const values = await newcomer(t);
  const { code, stdout, stderr } = await start(t, {
    ...values,
    CHAT_TCP_PORT: 'nine thousand',
    CHAT_AUTH: 'maybe',
    CHAT_MAX_FRAME_BYTES: '1',
  }).ended;
  t.equal(code, 1);
  for (const name of ['CHAT_TCP_PORT', 'CHAT_AUTH', 'CHAT_MAX_FRAME_BYTES']) t.match(stderr, name);
  t.notMatch(stderr, /^\s+at /m, 'no stack');
  t.equal(stdout, '');
  t.notOk(existsSync(values.CHAT_DATA_DIR ?? ''));
});

t.test('a port that is taken: the start says so and leaves nothing behind', async (t) => {
  const values = await newcomer(t);
  const other = createServer().listen(Number(values.CHAT_TCP_PORT), '127.0.0.1');
  t.teardown(() => other.close());
  const program = start(t, values);
  await program.said('demo users');
  const family = descendants(program.child.pid ?? 0);
  const { code, stdout, stderr } = await program.ended;
  t.equal(code, 1);
  t.match(stdout + stderr, 'EADDRINUSE');
  t.match(stderr, 'ended before it was ready');
  t.ok(await allGone(family, 2_000), 'no process is left');
});
