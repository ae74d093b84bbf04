import { createServer, type Server, type Socket } from 'node:net';
import { type Test, test } from 'tap';
import { ChatClient, ConnectionLost, ProtocolError, TimedOut } from '../src/cli/client.js';

const HELLO = {
  protocol: 1,
  server: 'fake',
  heartbeatMs: 5000,
  timeoutMs: 30_000,
  loginTimeoutMs: 10_000,
  maxFrameBytes: 1_048_576,
  maxTextChars: 100_000,
  serverAt: 1,
  features: [],
};
const line = (frame: unknown) => `${JSON.stringify(frame)}\n`;
const hello = line({ type: 'hello', data: HELLO });
const typing = (userId: number) =>
  line({ type: 'typing', data: { roomId: 1, userId, typing: true, expiresInMs: 1 } });

type Answer = (request: { id: number; type: string; data?: unknown }, socket: Socket) => void;

/** A server that greets and answers each line with `answer`. */
async function fakeServer(
  t: Test,
  answer: Answer,
  greeting = hello,
): Promise<{ host: string; port: number }> {
  const sockets = new Set<Socket>();
  const server: Server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => socket.destroy());
    if (greeting !== '') socket.write(greeting);
    let rest = '';
    socket.on('data', (chunk) => {
      const lines = (rest + chunk).split('\n');
      rest = lines.pop() ?? '';
      for (const text of lines) answer(JSON.parse(text), socket);
    });
  });
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
  });
  return listen(t, server);
}

async function listen(t: Test, server: Server): Promise<{ host: string; port: number }> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => new Promise((resolve) => server.close(resolve)));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return { host: '127.0.0.1', port: address.port };
}

async function connect(t: Test, answer: Answer, greeting?: string): Promise<ChatClient> {
  const client = await ChatClient.connect(await fakeServer(t, answer, greeting));
  t.teardown(() => client.destroy());
  return client;
}

test('connects, knows the hello and gets the answer to each request, in whatever order they come', async (t) => {
  const held: string[] = [];
  const client = await connect(t, ({ id, type }, socket) => {
    held.unshift(line({ type: 'ok', id, data: { serverAt: id, type } }));
    if (held.length === 3) socket.write(held.join(''));
  });
  t.equal(client.hello.heartbeatMs, 5000);
  const answers = await Promise.all([client.request('ping'), client.request('ping'), client.request('ping')]);
  t.same(
    answers.map((answer) => answer.serverAt),
    [1, 2, 3],
  );
  t.same(client.unmatched, []);
});

test('an error reply rejects with everything that it said', async (t) => {
  const issues = [{ path: 'data.name', message: 'is missing' }];
  const client = await connect(t, ({ id }, socket) => {
    const error = { code: 'UNAVAILABLE', message: 'later', retryable: true, retryAfterMs: 250, issues };
    socket.write(line({ type: 'error', id, error }));
  });
  const error = await client.request('room.create', { name: '' }).catch((thrown: unknown) => thrown);
  t.type(error, ProtocolError);
  t.match(error, { code: 'UNAVAILABLE', message: 'later', retryable: true, retryAfterMs: 250, issues });
});

test('the request frame is what the protocol says, with and without data', async (t) => {
  const seen: unknown[] = [];
  const client = await connect(t, (request, socket) => {
    seen.push(request);
    socket.write(line({ type: 'ok', id: request.id, data: {} }));
  });
  await client.request('ping');
  await client.request('typing', { roomId: 1, typing: true });
  await client.login({ token: 'x' }, { id: 'phone' });
  t.same(seen, [
    { id: 1, type: 'ping' },
    { id: 2, type: 'typing', data: { roomId: 1, typing: true } },
    { id: 3, type: 'auth.login', data: { token: 'x', device: { id: 'phone' } } },
  ]);
});

test('lines that come in pieces of one byte, and many in one piece', async (t) => {
  const client = await connect(t, ({ id }, socket) => {
    const text = `${typing(1)}${line({ type: 'ok', id, data: { serverAt: 5, text: '가😀' } })}`;
    for (const byte of Buffer.from(text)) socket.write(Buffer.of(byte));
    socket.write(typing(2).repeat(1000));
  });
  t.match(await client.request('ping'), { serverAt: 5, text: '가😀' });
  await client.waitFor('typing', ({ userId }) => userId === 2);
  t.equal(client.events[0]?.type, 'hello');
  t.match(client.events[1], { type: 'typing', data: { userId: 1 } });
});

test('onOk runs before the next line of the same packet is read', async (t) => {
  const order: string[] = [];
  const client = await connect(t, ({ id }, socket) => {
    socket.write(typing(1) + line({ type: 'ok', id, data: { serverAt: 1 } }) + typing(2));
  });
  client.on('typing', ({ userId }) => order.push(`typing ${userId}`));
  await client.request('ping', {}, { onOk: () => order.push('ok') });
  t.same(order, ['typing 1', 'ok', 'typing 2']);
});

test('waitFor finds what came before, waits for what comes, and gives up in time', async (t) => {
  const client = await connect(t, (_, socket) => socket.write(typing(7)));
  t.equal((await client.waitFor('hello')).server, 'fake');
  const waiting = client.waitFor('typing', ({ userId }) => userId === 7);
  client.sendRaw('{}\n');
  t.equal((await waiting).userId, 7);
  t.equal((await client.waitFor('typing')).userId, 7, 'again, from the log');
  await t.rejects(
    client.waitFor('typing', ({ userId }) => userId === 8, 20),
    TimedOut,
  );
});

test('on stops when told', async (t) => {
  const client = await connect(t, (_, socket) => socket.write(typing(1)));
  let calls = 0;
  const stop = client.on('typing', () => calls++);
  client.sendRaw('{}\n');
  await client.waitFor('typing');
  t.equal(calls, 1);
  stop();
  client.sendRaw('{}\n');
  await new Promise<void>((resolve) => client.on('typing', () => resolve()));
  t.equal(calls, 1);
});

test('the log of events can be bounded', async (t) => {
  const server = await fakeServer(t, ({ id }, socket) => {
    for (let userId = 1; userId <= 100; userId++) socket.write(typing(userId));
    socket.write(line({ type: 'ok', id, data: {} }));
  });
  for (const keepEvents of [0, 10]) {
    const client = await ChatClient.connect({ ...server, keepEvents });
    t.teardown(() => client.destroy());
    await client.request('ping');
    t.ok(client.events.length >= keepEvents && client.events.length <= 2 * keepEvents);
    if (keepEvents > 0) t.match(client.events.at(-1), { data: { userId: 100 } });
  }
});

test('raw frames: their replies are found by id, also by null, each once', async (t) => {
  const client = await connect(t, (_, socket) => {
    const error = { code: 'BAD_JSON', message: 'no', retryable: false };
    socket.write(line({ type: 'error', id: null, error }) + line({ type: 'ok', id: 'a', data: { n: 1 } }));
  });
  client.sendRaw(Buffer.from('{}\n'));
  t.match(await client.waitForReply('a'), { type: 'ok', data: { n: 1 } });
  t.match(await client.waitForReply(null), { type: 'error', error: { code: 'BAD_JSON' } });
  t.same(client.unmatched, []);
  await t.rejects(client.waitForReply(null, 20), TimedOut);
});

test('a second reply to one request is not hidden', async (t) => {
  const client = await connect(t, ({ id }, socket) =>
    socket.write(line({ type: 'ok', id, data: {} }).repeat(2)),
  );
  await client.request('ping');
  t.match(await client.waitForReply(1), { type: 'ok', id: 1 });
});

test('a request without an answer times out, a late answer is not hidden', async (t) => {
  let late: (() => void) | undefined;
  const client = await connect(t, ({ id }, socket) => {
    late = () => socket.write(line({ type: 'ok', id, data: {} }));
  });
  const long = client.request('ping', {}, { timeoutMs: 60_000 });
  long.catch(() => undefined);
  await t.rejects(client.request('ping', {}, { timeoutMs: 20 }), TimedOut);
  late?.();
  t.match(await client.waitForReply(2), { type: 'ok' });
});

test('a connection that ends rejects what is waiting and tells the last error', async (t) => {
  const client = await connect(t, (_, socket) => {
    const error = { code: 'SESSION_REVOKED', message: 'elsewhere', retryable: false };
    socket.end(line({ type: 'error', id: null, error }));
  });
  const waiting = client.waitFor('typing');
  const request = client.request('ping');
  await t.rejects(waiting, ConnectionLost);
  await t.rejects(request, { name: 'ConnectionLost', last: { code: 'SESSION_REVOKED' } });
  t.match(await client.closed, { error: { code: 'SESSION_REVOKED' } });
  t.ok(client.isClosed);
  await t.rejects(client.request('ping'), ConnectionLost);
  await t.rejects(client.waitFor('typing'), ConnectionLost);
});

test('a connection that is broken off is seen as such by both sides', async (t) => {
  let gone: Promise<unknown> | undefined;
  const client = await connect(t, (_, socket) => {
    gone = new Promise((resolve) => socket.once('close', resolve));
    client.reset();
  });
  await t.rejects(client.request('ping'), ConnectionLost);
  await gone;
});

test('close waits for the end', async (t) => {
  const client = await connect(t, () => undefined);
  t.same(await client.close(), { error: null, cause: undefined });
});

test('a server that refuses: its error is what connect throws', async (t) => {
  const error = { code: 'TOO_MANY_CONNECTIONS', message: 'full', retryable: true };
  const server = createServer((socket) => socket.end(line({ type: 'error', id: null, error })));
  await t.rejects(ChatClient.connect(await listen(t, server)), { name: 'ProtocolError', code: error.code });
});

test('a server that says nothing', async (t) => {
  const server = await fakeServer(t, () => undefined, '');
  await t.rejects(ChatClient.connect({ ...server, timeoutMs: 30 }), TimedOut);
});

test('nobody listens', async (t) => {
  const server = createServer();
  const { host, port } = await listen(t, server);
  await new Promise((resolve) => server.close(resolve));
  const error = await ChatClient.connect({ host, port }).catch((thrown: unknown) => thrown);
  t.type(error, ConnectionLost);
  t.match(error, { cause: { code: 'ECONNREFUSED' } });
});

test('a server that sends what is not JSON is left', async (t) => {
  const client = await connect(t, (_, socket) => socket.write('what?\n'));
  await t.rejects(client.request('ping'), { name: 'ConnectionLost', cause: /not JSON/ });
});
