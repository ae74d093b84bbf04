import t from 'tap';
import { allGone, descendants, isRunning } from './support/processes.js';
import { connect, newcomer, READY, start, stop, tokenOf } from './support/start.js';

t.test('when npm start is killed, what it started ends by itself and the next one works', async (t) => {
  const values = await newcomer(t);
  const first = start(t, values);
  await first.said(READY);
  const family = descendants(first.child.pid ?? 0);
  first.child.kill('SIGKILL');
  await first.ended;
  const second = start(t, values);
  await second.said(READY);
  await connect(t, values);
  t.ok(await allGone(family, 5_000));
  await stop(t, second, 'SIGINT');
});

t.test('when the embedded database is killed, it is started again and the chat goes on', async (t) => {
  const values = await newcomer(t);
  const program = start(t, values);
  await program.said(READY);
  const token = await tokenOf(t, 'sora', values);
  const databases = descendants(program.child.pid ?? 0).filter((pid) => descendants(pid).length > 0);
  const servers = databases.flatMap(descendants);
  t.ok(servers.length > 0);
  for (const pid of servers) process.kill(pid, 'SIGKILL');
  await program.said('database is back');
  const until = Date.now() + 10_000;
  for (;;) {
    const client = await connect(t, values);
    const reply = await client.login({ token }, { id: 'phone' }).catch((error: Error) => error);
    if (!(reply instanceof Error)) break;
    if (Date.now() > until) throw reply;
    await client.close();
  }
  t.pass('logged in');
  t.ok(isRunning(program.child.pid ?? 0));
  await stop(t, program, 'SIGINT');
});
