import { readFileSync } from 'node:fs';
import { connect as connectTcp } from 'node:net';
import { join } from 'node:path';
import t from 'tap';
import { ChatClient } from '../src/cli/client.js';
import { until } from './support/courier.js';
import { root } from './support/processes.js';
import { codeOf, startServer, tokenFor } from './support/server.js';

const CERT = join(root, 'test/fixtures/tls-cert.pem');
const SETTINGS = { CHAT_TLS_CERT: CERT, CHAT_TLS_KEY: join(root, 'test/fixtures/tls-key.pem') };
const tls = { ca: readFileSync(CERT, 'utf8'), servername: 'localhost' };

t.test('a whole conversation over TLS', async (t) => {
  const server = await startServer(t, SETTINGS);
  const connect = async (userId: number): Promise<ChatClient> => {
    const client = await ChatClient.connect({ host: '127.0.0.1', port: server.port, tls });
    t.teardown(() => client.destroy());
    await client.login({ token: await tokenFor(userId) }, { id: `phone of ${userId}` });
    return client;
  };
  const [mina, jun] = await Promise.all([connect(1), connect(2)]);
  const { room } = await mina.request('room.create', { name: 'safe', memberIds: [2] });
  await jun.waitFor('room.added', (event) => event.room.id === room.id);
  // Larger than a TLS record, both ways.
  const text = '비밀 '.repeat(30_000);
  const send = { roomId: room.id, clientMessageId: 'key', kind: 'text', text } as const;
  t.match(await mina.request('message.send', send), { seq: 2, duplicate: false });
  t.equal((await jun.waitFor('message')).text, text);
  t.match(await jun.request('message.read', { roomId: room.id, seq: 2 }), { unread: 0 });
  t.match(await mina.waitFor('receipt'), { userId: 2, readSeq: 2 });
  const { messages } = await jun.request('message.history', { roomId: room.id });
  t.equal(messages[1]?.text, text);
  await mina.request('auth.logout');
  t.match(await mina.closed, { error: null });
  await server.server.stop();
  t.ok(jun.events.some(({ type }) => type === 'server.closing'));
});

t.test('a client without TLS gets no hello, and is cut off', async (t) => {
  const server = await startServer(t, { ...SETTINGS, CHAT_LOGIN_TIMEOUT_MS: '1000' });
  const socket = connectTcp(server.port, '127.0.0.1');
  t.teardown(() => socket.destroy());
  let received = '';
  socket.on('data', (chunk: Buffer) => {
    received += chunk.toString('latin1');
  });
  socket.on('error', () => undefined);
  socket.write('{"id":1,"type":"ping"}\n');
  await new Promise((resolve) => socket.once('close', resolve));
  t.notMatch(received, 'hello');
  t.notMatch(received, 'serverAt');
  // One that says nothing waits for a handshake no longer than for a login.
  const silent = connectTcp(server.port, '127.0.0.1');
  t.teardown(() => silent.destroy());
  silent.resume();
  silent.on('error', () => undefined);
  await new Promise((resolve) => silent.once('close', resolve));
  await until('both are gone', () => server.server.connections === 0);
});

t.test('a client that does not trust the certificate goes', async (t) => {
  const server = await startServer(t, SETTINGS);
  const connect = ChatClient.connect({ host: '127.0.0.1', port: server.port, tls: true });
  await t.rejects(connect, { cause: { code: 'DEPTH_ZERO_SELF_SIGNED_CERT' } });
  await until('it is gone', () => server.server.connections === 0);
  const trusting = await ChatClient.connect({ host: '127.0.0.1', port: server.port, tls });
  t.teardown(() => trusting.destroy());
  t.equal(await codeOf(trusting.request('ping')), 'ok');
});
