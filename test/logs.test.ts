import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { ChatClient } from '../src/cli/client.js';
import { listeningPort } from './support/courier.js';
import { createTestDatabase } from './support/database.js';
import { startProgram, temporaryDirectory } from './support/processes.js';
import { codeOf, insertUsers, query, SECRET, tokenFor } from './support/server.js';

const LINE = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}(Z|[+-]\d\d:?\d\d) (DEBUG|INFO|WARN|ERROR) +(\w+) +(.+)$/;
const TEXT = 'nobody but the room may read this';
/** What would be a line of its own if a log could be tricked. */
const FORGED = 'x\n2026-01-01T00:00:00.000Z ERROR server     all is lost';

interface Line {
  readonly level: string;
  readonly category: string;
  readonly text: string;
}

/** A chat process, and what to do with it: connect, and read its log after it has ended. */
async function start(t: Test, settings: Record<string, string> = {}) {
  const { url } = await createTestDatabase(t);
  await insertUsers(url);
  const directory = temporaryDirectory(t);
  const file = join(directory, 'chat-0.log');
  const program = startProgram(t, 'src/main/chat.js', [], {
    CHAT_MYSQL_URL: url,
    CHAT_TCP_PORT: '0',
    CHAT_WORKER_THREADS: '2',
    CHAT_JWT_SECRET: SECRET,
    CHAT_DATA_DIR: directory,
    CHAT_LOG_DIR: directory,
    CHAT_LOG_LEVEL: 'debug',
    CHAT_PRESENCE_GRACE_MS: '0',
    ...settings,
  });
  await program.said(' ready ');
  const port = await listeningPort(file);
  const connect = async (): Promise<ChatClient> => {
    const client = await ChatClient.connect({ host: '127.0.0.1', port });
    t.teardown(() => client.destroy());
    return client;
  };
  const login = async (userId: number, device: string): Promise<ChatClient> => {
    const client = await connect();
    await client.login({ token: await tokenFor(userId) }, { id: device });
    return client;
  };
  const stop = async (): Promise<{ raw: string; lines: Line[]; stdout: string }> => {
    program.child.kill('SIGTERM');
    const { stdout } = await program.ended;
    const raw = readFileSync(file, 'utf8');
    const lines = raw
      .trimEnd()
      .split('\n')
      .map((line) => {
        const [, , level = '', category = '', text = ''] = LINE.exec(line) ?? [];
        return { level, category, text };
      });
    return { raw, lines, stdout };
  };
  return { url, connect, login, stop };
}

/** Where the client is seen to come from. */
function addressOf(client: ChatClient): string {
  return `127.0.0.1:${client.socket.localPort}`;
}

t.test('from the log one can tell who was where, what went to whom, and how it ended', async (t) => {
  const chat = await start(t);
  const mina = await chat.login(1, "mina's phone");
  const jun = await chat.login(2, FORGED);
  const sora = await chat.login(3, 'tablet');
  const from = [mina, jun, sora].map(addressOf);
  const { room } = await mina.request('room.create', { name: FORGED, memberIds: [2] });
  await jun.waitFor('room.added');
  await sora.request('room.join', { roomId: room.id });
  const send = { roomId: room.id, clientMessageId: 'key-1', kind: 'text', text: TEXT } as const;
  const { seq } = await mina.request('message.send', send);
  await jun.waitFor('message', (message) => message.text === TEXT);
  await mina.request('room.kick', { roomId: room.id, userId: 3 });
  const stranger = await chat.connect();
  const strangerFrom = addressOf(stranger);
  const badToken = `${await tokenFor(4)}x`;
  t.equal(await codeOf(stranger.login({ token: badToken }, { id: 'x' })), 'AUTH_FAILED');
  await mina.request('auth.logout');
  await mina.closed;
  await sora.request('presence.subscribe', { userIds: [2] });
  jun.reset();
  await sora.waitFor('presence', ({ state }) => state === 'offline');
  const { raw, lines, stdout } = await chat.stop();

  t.same(
    lines.filter(({ level }) => level === ''),
    [],
    'every line is one that the server wrote',
  );
  /** The texts of the lines that begin with the event. */
  const of = (category: string, event: string) =>
    lines
      .filter((line) => line.category === category && line.text.startsWith(`${event} `))
      .map(({ text }) => text);
  const field = (text: string | undefined, name: string) =>
    new RegExp(` ${name}=(\\S+)`).exec(text ?? '')?.[1];

  const opened = of('connection', 'opened');
  const ids = [...from, strangerFrom].map((remote) =>
    field(
      opened.find((text) => text.includes(` remote=${remote}`)),
      'connection',
    ),
  );
  t.equal(new Set(ids).size, 4, 'who connected from where');
  const logins = of('connection', 'login').filter((text) => !text.startsWith('login refused'));
  t.equal(logins.length, 3);
  for (const [i, name] of ['mina', 'jun', 'sora'].entries()) {
    t.match(
      logins.find((text) => text.includes(`username=${name} `)),
      `connection=${ids[i]} user=${i + 1} `,
    );
  }
  t.match(of('connection', 'login refused'), [new RegExp(`connection=${ids[3]} remote=${strangerFrom}`)]);
  const reasons = ids.map((id) =>
    field(
      of('connection', 'closed').find((text) => text.includes(`connection=${id} `)),
      'reason',
    ),
  );
  t.same(reasons, ['LOGOUT', 'SOCKET_ERROR', 'SERVER_CLOSING', 'AUTH_FAILED'], 'why each one ended');
  t.match(of('room', 'created'), [`room=${room.id} owner=1 members=1,2`]);
  t.match(of('room', 'joined'), [`room=${room.id} user=3`]);
  t.match(of('room', 'kicked'), [`room=${room.id} user=3 by=1`]);
  const stored = of('message', 'stored').find((text) => text.includes('key=key-1'));
  t.match(stored, `room=${room.id} seq=${seq} sender=1 connection=${ids[0]} kind=text`);
  const released = of('message', 'released').find((text) => text.includes(`room=${room.id} seq=${seq} `));
  t.match(released, `to=${ids[0]},${ids[1]},${ids[2]}`, 'which message went where');
  t.match(of('presence', 'online'), ['user=1', 'user=2', 'user=3']);

  t.notMatch(raw, TEXT, 'no text');
  for (const token of [badToken.split('.')[2] ?? '', SECRET, 'eyJ']) t.notOk(raw.includes(token), 'no token');
  t.equal(stdout.trimEnd(), raw.trimEnd(), 'PM2 is told the same');
});

t.test('CHAT_LOG_TEXT=yes puts the text into the log, where it can not forge a line', async (t) => {
  const chat = await start(t, { CHAT_LOG_TEXT: 'yes' });
  const mina = await chat.login(1, 'phone');
  const { room } = await mina.request('room.create', { name: 'a room' });
  for (const text of [TEXT, FORGED]) {
    const send = { roomId: room.id, clientMessageId: text.slice(0, 4), kind: 'text', text } as const;
    await mina.request('message.send', send);
  }
  const { lines } = await chat.stop();
  const stored = lines.filter(({ text }) => text.startsWith('stored ')).map(({ text }) => text);
  t.match(stored, [`text="${TEXT}"`, 'text="x\\n2026']);
  t.ok(lines.every(({ level }) => level !== ''));
});

t.test('a bug is logged with its stack, under the traceId that the client got', async (t) => {
  const chat = await start(t, { CHAT_LOG_LEVEL: 'info' });
  const mina = await chat.login(1, 'phone');
  const jun = await chat.login(2, 'phone');
  const { room } = await mina.request('room.create', { name: 'a room' });
  await query(chat.url, 'DROP TABLE chat_ban', []);
  const error: unknown = await jun.request('room.join', { roomId: room.id }).catch((error: unknown) => error);
  t.match(error, { code: 'INTERNAL', retryable: false, traceId: /^[0-9a-f-]{36}$/ });
  t.notMatch(error, { message: /chat_ban/ }, 'which tells nothing to the outside');
  t.equal(await codeOf(jun.request('ping')), 'ok');
  const { lines } = await chat.stop();
  const traceId = error instanceof Error && 'traceId' in error ? String(error.traceId) : '';
  const line = lines.find(({ text }) => text.includes(traceId));
  t.match(line, { level: 'ERROR', category: 'store' });
  t.match(
    line?.text,
    /^request failed traceId=\S+ type=room\.join connection=\d+ user=2 room=\d+ stack="Error: .*chat_ban.*\\n {4}at /,
  );
  t.notOk(lines.some(({ level }) => level === 'DEBUG'));
});

t.test('no line is lost at the end, from whatever thread', async (t) => {
  const chat = await start(t);
  const phones = await Promise.all([1, 2, 3, 4].map((userId) => chat.login(userId, 'phone')));
  const [mina] = phones;
  if (mina === undefined) throw new Error();
  const { room } = await mina.request('room.create', { name: 'a room', memberIds: [2, 3, 4] });
  const sends = phones.flatMap((phone, p) =>
    Array.from({ length: 500 }, (_, n) =>
      phone.request('message.send', {
        roomId: room.id,
        clientMessageId: `${p} ${n}`,
        kind: 'text',
        text: 'x',
      }),
    ),
  );
  await Promise.all(sends);
  const { lines } = await chat.stop();
  const count = (event: string) => lines.filter(({ text }) => text.startsWith(`${event} `)).length;
  t.equal(count('stored'), 2000);
  t.equal(count('released'), 2001);
  t.equal(count('closed'), 4);
  t.match(lines.at(-1), { text: 'stopped exitCode=0' });
});
