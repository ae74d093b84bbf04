import { availableParallelism, loadavg } from 'node:os';
import t from 'tap';
import { freePort, startProgram } from './support/processes.js';
import { connect, newcomer, READY, start, stop, tokenOf } from './support/start.js';

/** How many times longer things take than on a machine that has nothing else to do. */
function busy(): number {
  return Math.max(1, (loadavg()[0] ?? 0) / availableParallelism());
}

t.test('npm start serves, stops cleanly, and finds everything again', async (t) => {
  const values = await newcomer(t);
  const first = start(t, values);
  await first.said(READY);
  await first.said(`tcp 127.0.0.1:${values.CHAT_TCP_PORT}`);

  const mina = await connect(t, values);
  t.match(mina.hello, { protocol: 1 });
  await mina.login({ token: await tokenOf(t, 'mina', values) }, { id: 'phone' });
  const { room } = await mina.request('room.create', { name: '사랑방', memberIds: [2] });
  const sent = await mina.request('message.send', {
    roomId: room.id,
    clientMessageId: 'a',
    kind: 'text',
    text: '안녕하세요 👋',
  });
  const other = await start(t, { ...values, CHAT_TCP_PORT: String(await freePort()) }).ended;
  t.equal(other.code, 1, 'a second one on the same data is refused');
  t.match(other.stderr, `process ${first.child.pid}`);
  t.notMatch(other.stderr, /^\s+at /m, 'no stack');

  const who = await startProgram(t, 'src/cli/main.js', ['who', '--json'], values).ended;
  t.match(JSON.parse(who.stdout).connections, [{ username: 'mina', deviceId: 'phone', rooms: ['사랑방'] }]);
  const doctor = await startProgram(t, 'src/cli/main.js', ['doctor', '--user', 'bora'], values).ended;
  t.equal(doctor.code, 0, doctor.stdout);
  t.match(doctor.stdout, /^✓ message +stored and acknowledged/m);
  await stop(t, first, 'SIGINT');

  const from = Date.now();
  const second = start(t, values);
  await second.said(READY);
  t.ok(Date.now() - from < 5_000 * busy(), 'a second start takes less than 5 s');
  const jun = await connect(t, values);
  const login = await jun.login({ token: await tokenOf(t, 'jun', values) }, { id: 'phone' });
  t.match(login.rooms, [{ id: room.id, name: '사랑방', unread: 1 }]);
  const { messages } = await jun.request('message.history', { roomId: room.id });
  t.match(messages.at(-1), { seq: sent.seq, text: '안녕하세요 👋', senderId: 1 });
  await stop(t, second, 'SIGTERM');
});

t.test('a signal in the middle of the start stops that too', async (t) => {
  const program = start(t, await newcomer(t));
  await program.said('demo users');
  await stop(t, program, 'SIGTERM');
});
