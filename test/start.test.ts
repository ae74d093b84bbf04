import { existsSync } from 'node:fs';
import { createServer } from 'node:net';
import { availableParallelism, loadavg } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { ChatClient } from '../src/cli/client.js';
import {
  allGone,
  descendants,
  freePort,
  isRunning,
  type Program,
  startProgram,
  temporaryDirectory,
} from './support/processes.js';

const READY = 'sarangbang is ready';

/** Settings of a server of its own, as a newcomer has it: nothing but a place and a port. */
async function newcomer(t: Test): Promise<Record<string, string>> {
  const directory = temporaryDirectory(t);
  return {
    CHAT_DATA_DIR: join(directory, 'data'),
    CHAT_LOG_DIR: join(directory, 'logs'),
    CHAT_TCP_PORT: String(await freePort()),
  };
}

function start(t: Test, values: Record<string, string>): Program {
  return startProgram(t, 'src/main/start.js', [], values);
}

async function connect(t: Test, values: Record<string, string>): Promise<ChatClient> {
  const client = await ChatClient.connect({ host: '127.0.0.1', port: Number(values.CHAT_TCP_PORT) });
  t.teardown(() => client.destroy());
  return client;
}

/** A token for a demo user, from the command that the README shows. */
async function tokenOf(t: Test, name: string, values: Record<string, string>): Promise<string> {
  const { code, stdout, stderr } = await startProgram(t, 'src/cli/main.js', ['token', name], values).ended;
  t.equal(code, 0, stderr);
  const { token } = JSON.parse(stdout);
  return token;
}

/** How many times longer things take than on a machine that has nothing else to do. */
function busy(): number {
  return Math.max(1, (loadavg()[0] ?? 0) / availableParallelism());
}

/** Sends the signal and checks the stop that DESIGN 6 promises. */
async function stop(t: Test, { child, ended }: Program, signal: NodeJS.Signals): Promise<void> {
  const family = descendants(child.pid ?? 0);
  t.ok(family.length > 0);
  const from = Date.now();
  child.kill(signal);
  const { code, stderr } = await ended;
  t.equal(code, 0, 'exit code 0');
  t.equal(stderr, '');
  t.ok(Date.now() - from < 10_000, 'within 10 s');
  t.ok(await allGone(family, 2_000), 'no process is left');
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

t.test('a second npm start on the same data is refused, and the first does not mind', async (t) => {
  const values = await newcomer(t);
  const first = start(t, values);
  await first.said(READY);
  const { code, stderr } = await start(t, { ...values, CHAT_TCP_PORT: String(await freePort()) }).ended;
  t.equal(code, 1);
  t.match(stderr, `process ${first.child.pid}`);
  t.notMatch(stderr, /^\s+at /m, 'no stack');
  await connect(t, values);
  await stop(t, first, 'SIGINT');
});

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

t.test('a signal in the middle of the start stops that too', async (t) => {
  const program = start(t, await newcomer(t));
  await program.said('demo users');
  await stop(t, program, 'SIGTERM');
});

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
