import t from 'tap';
import { ChatClient } from '../src/cli/client.js';
import { until } from './support/courier.js';
import { codeOf, startServer } from './support/server.js';

t.test('CHAT_MAX_CONNECTIONS: one more is refused until another one goes', async (t) => {
  const server = await startServer(t, { CHAT_MAX_CONNECTIONS: '3' });
  const first = await server.phone('mina');
  await server.connect();
  await server.connect();
  t.equal(await codeOf(server.connect()), 'TOO_MANY_CONNECTIONS');
  t.equal(server.server.connections, 3);
  t.ok(await first.client.request('ping'), 'those who are in do not notice');
  await first.client.close();
  await until('the place is free', async () => (await codeOf(server.connect())) === 'ok');
});

t.test('CHAT_CONNECTIONS_PER_ADDRESS: each address has its own', async (t) => {
  const server = await startServer(t, { CHAT_CONNECTIONS_PER_ADDRESS: '2' });
  const from = async (localAddress: string): Promise<ChatClient> => {
    const client = await ChatClient.connect({ host: '127.0.0.1', port: server.port, localAddress });
    t.teardown(() => client.destroy());
    return client;
  };
  const one = await from('127.0.0.1');
  await from('127.0.0.1');
  t.equal(await codeOf(from('127.0.0.1')), 'TOO_MANY_CONNECTIONS');
  t.equal(await codeOf(from('127.0.0.2')), 'ok');
  one.destroy();
  await until('the place is free', async () => (await codeOf(from('127.0.0.1'))) === 'ok');
  t.equal(await codeOf(from('127.0.0.1')), 'TOO_MANY_CONNECTIONS');
});

t.test('CHAT_ROOMS_PER_USER: nobody gets into more, however they come', async (t) => {
  const server = await startServer(t, { CHAT_ROOMS_PER_USER: '2' });
  const [mina, jun, sora] = await server.phones('mina', 'jun', 'sora');
  if (!mina || !jun || !sora) throw new Error();
  const room = await server.room(sora);
  await server.room(mina, [jun]);
  await server.room(mina, [jun]);
  const { client } = mina;
  t.equal(await codeOf(client.request('room.create', { name: 'a third' })), 'CONFLICT');
  t.equal(await codeOf(client.request('room.direct', { userId: sora.userId })), 'CONFLICT');
  t.equal(await codeOf(client.request('room.join', { roomId: room.id })), 'CONFLICT');
  const invite = () => sora.client.request('room.invite', { roomId: room.id, userIds: [jun.userId, 4] });
  t.equal(await codeOf(invite()), 'CONFLICT');
  const create = () => sora.client.request('room.create', { name: 'mine', memberIds: [jun.userId] });
  t.equal(await codeOf(create()), 'CONFLICT');
  t.equal(await codeOf(sora.client.request('room.direct', { userId: jun.userId })), 'CONFLICT');
  const { rooms } = await client.request('room.list', { scope: 'mine' });
  t.equal(rooms.length, 2);
  await client.request('room.leave', { roomId: rooms[0]?.id ?? 0 });
  t.equal(await codeOf(client.request('room.join', { roomId: room.id })), 'ok', 'there is room again');
});
