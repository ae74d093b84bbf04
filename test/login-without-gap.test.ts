import { setImmediate as turn } from 'node:timers/promises';
import t, { type Test } from 'tap';
import type { ChatClient } from '../src/cli/client.js';
import type { OkData } from '../src/shared/protocol/requests.js';
import {
  type Phone,
  say,
  startServer,
  type TestServer,
  tokenFor,
  type UserName,
  userIdOf,
} from './support/server.js';

/** A login that may be looked at entry by entry. */
interface Login {
  readonly client: ChatClient;
  readonly rooms: OkData<'auth.login'>['rooms'];
}

/** Logs in, and leaves the connection to the caller. */
async function logIn(server: TestServer, name: UserName, device: string): Promise<Login> {
  const client = await server.connect(device);
  const { rooms } = await client.login({ token: await tokenFor(userIdOf(name)) }, { id: device });
  return { client, rooms };
}

/** Waits until the login has got an entry at or after `seq`, and returns all it got of the room. */
async function seqsUpTo({ client }: Login, roomId: number, seq: number): Promise<number[]> {
  await client.waitFor('message', (message) => message.roomId === roomId && message.seq >= seq);
  const seqs: number[] = [];
  for (const { type, data } of client.events)
    if (type === 'message' && data.roomId === roomId) seqs.push(data.seq);
  return seqs;
}

/** That the entries are those after `lastSeq`, in order, each once. */
function inOrder(t: Test, seqs: readonly number[], lastSeq: number, what: string): void {
  const wrong = seqs.findIndex((seq, i) => seq !== lastSeq + 1 + i);
  if (wrong >= 0) t.fail(`${what}: after lastSeq ${lastSeq} came ${seqs.slice(0, wrong + 3).join(', ')}`);
}

/** Sends without a break, several messages under way at a time, until told to stop. */
function talk(phone: Phone, roomId: number, atOnce: number): { stop(): Promise<number> } {
  let stopped = false;
  let last = 0;
  const lines = Array.from({ length: atOnce }, async () => {
    while (!stopped) last = Math.max(last, (await say(phone, roomId, 'on and on')).seq);
  });
  return {
    async stop() {
      stopped = true;
      await Promise.all(lines);
      return last;
    },
  };
}

const ROUNDS = 20;

t.test('auth.login: whatever comes after the reported lastSeq arrives, in order, each once', async (t) => {
  const server = await startServer(t);
  const mina = await server.phone('mina');
  const { room } = await mina.client.request('room.create', { name: 'busy', memberIds: [2, 3, 4, 5] });
  const talking = talk(mina, room.id, 4);
  const names = ['jun', 'sora', 'hyun', 'bora'] as const;
  let checked = 0;
  await Promise.all(
    names.map(async (name) => {
      for (let round = 0; round < ROUNDS; round++) {
        const login = await logIn(server, name, round % 2 === 0 ? 'phone' : `device ${round}`);
        const told = login.rooms.find(({ id }) => id === room.id);
        if (told === undefined) throw new Error('the room is not in the reply');
        if (told.lastMessage?.seq !== told.lastSeq) t.fail('lastSeq and lastMessage are of two moments');
        const seqs = await seqsUpTo(login, room.id, told.lastSeq + 30);
        inOrder(t, seqs, told.lastSeq, `${name}, round ${round}`);
        checked += seqs.length;
        // Some leave in order, some are cut off.
        if (round % 3 === 0) await login.client.request('auth.logout');
        else login.client.destroy();
      }
    }),
  );
  const last = await talking.stop();
  t.ok(checked >= names.length * ROUNDS * 30, `${checked} entries of ${last} seen in order`);
});

t.test('auth.login: the same on many devices at once, each with many rooms', async (t) => {
  const server = await startServer(t);
  const mina = await server.phone('mina');
  const rooms = await Promise.all(
    Array.from({ length: 12 }, (_, i) =>
      mina.client.request('room.create', { name: `room ${i}`, memberIds: [2, 3] }),
    ),
  );
  const ids = rooms.map(({ room }) => room.id);
  let stopped = false;
  const talking = (async () => {
    while (!stopped) await Promise.all(ids.map((roomId) => say(mina, roomId, 'everywhere')));
  })();
  for (let round = 0; round < 6; round++) {
    const logins = await Promise.all(
      (['jun', 'sora'] as const).flatMap((name) =>
        [1, 2, 3, 4].map((device) => logIn(server, name, `${name} ${device}`)),
      ),
    );
    for (const login of logins) {
      t.equal(login.rooms.length, ids.length);
      for (const { id: roomId, lastSeq } of login.rooms) {
        inOrder(t, await seqsUpTo(login, roomId, lastSeq + 5), lastSeq, `room ${roomId}`);
      }
    }
    for (const { client } of logins) client.destroy();
  }
  stopped = true;
  await talking;
});

t.test(
  'auth.login: into a room that nobody listens to, while someone who is gone by then has sent',
  async (t) => {
    const server = await startServer(t);
    const [mina] = await server.phones('mina');
    const { room } = await mina.client.request('room.create', { name: 'cold', memberIds: [2, 3, 4] });
    await mina.client.request('auth.logout');
    await mina.client.closed;
    const send = (i: number) =>
      JSON.stringify({
        id: i,
        type: 'message.send',
        data: { roomId: room.id, clientMessageId: crypto.randomUUID(), kind: 'text', text: 'and gone' },
      });
    const token = await tokenFor(1);
    for (let round = 0; round < ROUNDS; round++) {
      // mina's connection is cut while her messages are being stored: whether they are, nobody is told.
      const passing = await server.connect();
      await passing.login({ token }, { id: 'passing' });
      passing.sendRaw(`${Array.from({ length: 5 }, (_, i) => send(i)).join('\n')}\n`);
      await turn();
      const logins = Promise.all([
        logIn(server, 'jun', 'phone'),
        logIn(server, 'sora', 'phone'),
        logIn(server, 'hyun', 'phone'),
        logIn(server, 'jun', 'tablet'),
      ]);
      if (round % 2 === 0) await passing.waitForReply(round % 4);
      passing.destroy();
      const all = await logins;
      const jun = all[0];
      // The last word, from one of them to the others.
      const { seq } = await jun.client.request('message.send', {
        roomId: room.id,
        clientMessageId: crypto.randomUUID(),
        kind: 'text',
        text: 'the last word',
      });
      for (const login of all.slice(1)) {
        const lastSeq = login.rooms[0]?.lastSeq ?? 0;
        const seqs = lastSeq < seq ? await seqsUpTo(login, room.id, seq) : [];
        inOrder(t, seqs, lastSeq, `round ${round}`);
        if (lastSeq < seq) t.equal(seqs.at(-1), seq);
      }
      for (const { client } of all) client.destroy();
      while (server.server.connections > 0) await turn();
    }
  },
);

t.test('auth.login: while the user is kicked and invited again and again', async (t) => {
  const server = await startServer(t);
  const [mina, sora] = await server.phones('mina', 'sora');
  const room = await server.room(mina, [sora]);
  const roomId = room.id;
  const talking = talk(sora, roomId, 2);
  let stopped = false;
  const owner = (async () => {
    while (!stopped) {
      await mina.client.request('room.invite', { roomId, userIds: [userIdOf('jun')] });
      await mina.client.request('room.kick', { roomId, userId: userIdOf('jun') });
    }
    return mina.client.request('room.invite', { roomId, userIds: [userIdOf('jun')] });
  })();
  const logins: Login[] = [];
  for (let round = 0; round < 3 * ROUNDS; round++) logins.push(await logIn(server, 'jun', `device ${round}`));
  stopped = true;
  await owner;
  const last = await talking.stop();
  for (const [round, login] of logins.entries()) {
    await login.client.waitFor('message', (message) => message.roomId === roomId && message.seq >= last);
    // What the connection knows of the room: the next seq, or that it is not in it.
    const told = login.rooms.find(({ id }) => id === roomId);
    let upto = told?.lastSeq;
    for (const { type, data } of login.client.events) {
      if (type === 'room.added' && data.room.id === roomId) {
        if (upto !== undefined) t.fail(`round ${round}: added to a room that it was in`);
        upto = data.room.lastSeq;
      } else if (type === 'room.removed' && data.roomId === roomId) {
        if (upto === undefined) t.fail(`round ${round}: removed from a room that it was not in`);
        upto = undefined;
      } else if (type === 'message' && data.roomId === roomId) {
        if (upto === undefined) t.fail(`round ${round}: entry ${data.seq} after the removal`);
        else if (data.seq !== upto + 1) t.fail(`round ${round}: entry ${data.seq} after ${upto}`);
        upto = data.seq;
      }
    }
  }
  const inside = logins.filter(({ rooms }) => rooms.length > 0).length;
  t.comment(`${inside} of ${logins.length} logins found the user in the room`);
});
