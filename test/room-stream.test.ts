import t from 'tap';
import type { Connection } from '../src/io/connection.js';
import { Client } from '../src/main/client.js';
import type { RoomStream } from '../src/main/room-stream.js';
import { Router } from '../src/main/router.js';
import type { Effect } from '../src/shared/effects.js';
import { type ConnectionId, id, type RoomId } from '../src/shared/ids.js';

/** The router with connections that only remember what was sent: every order of effects can be tried. */

const ROOM = id.room(7);

class FakeConnection implements Connection {
  readonly remote = '127.0.0.1:1';
  readonly transport = 'fake';
  readonly lastReceivedAt = 0;
  readonly pendingInput = 0;
  readonly pendingOutput = 0;
  readonly readable = false;
  readonly ended = false;
  readonly sent: string[] = [];
  readonly id: ConnectionId;

  constructor(connectionId: number) {
    this.id = id.connection(connectionId);
  }

  take(): undefined {}
  pause(): void {}
  close(): void {}
  send(line: Buffer): void {
    this.sent.push(line.toString());
  }
}

function setUp() {
  const holes: RoomStream[] = [];
  const suspects: RoomId[] = [];
  const lost: number[] = [];
  const router = new Router({
    resume: () => undefined,
    overtook: () => undefined,
    freed: () => undefined,
    holeFound: (stream) => holes.push(stream),
    suspect: (roomIds) => suspects.push(...roomIds),
    inDoubt: () => undefined,
    sessionLost: (sessionId) => lost.push(sessionId),
  });
  let connections = 0;
  const connect = () => {
    const connection = new FakeConnection(++connections);
    router.add(new Client(connection));
    return connection;
  };
  /** First half of a login: the router listens. */
  const admit = (connection: FakeConnection, userId: number, roomIds: number[] = [ROOM]) => {
    router.apply({
      kind: 'admit',
      connection: connection.id,
      userId: id.user(userId),
      sessionId: id.session(userId * 100 + connection.id),
      expiresAt: 0,
      roomIds: roomIds.map(id.room),
    });
  };
  /** Second half: what the rooms were when they were read. */
  const open = (connection: FakeConnection, lastSeq: number | null) => {
    router.apply({
      kind: 'opened',
      connection: connection.id,
      reply: Buffer.from('login ok'),
      rooms: lastSeq === null ? [] : [{ roomId: ROOM, lastSeq: id.seq(lastSeq) }],
    });
  };
  const login = (userId: number, lastSeq: number) => {
    const connection = connect();
    admit(connection, userId);
    open(connection, lastSeq);
    connection.sent.length = 0;
    return connection;
  };
  return { router, holes, suspects, lost, connect, admit, open, login };
}

type RoomEffect = Extract<Effect, { kind: 'room' }>;

function entry(seq: number, more: Partial<RoomEffect> = {}): RoomEffect {
  return {
    kind: 'room',
    roomId: ROOM,
    seq: id.seq(seq),
    connection: id.connection(0),
    replaces: false,
    reply: null,
    event: Buffer.from(`entry ${seq}`),
    notices: [],
    ...more,
  };
}

function notice(userId: number, change: 'add' | 'remove') {
  return { userId: id.user(userId), change, line: Buffer.from(`${change} ${userId}`) };
}

t.test('entries that come in any order leave in the order of their seq, each once', async (t) => {
  const { router, login } = setUp();
  const a = login(1, 10);
  for (const seq of [13, 11, 15, 12, 11, 14, 13]) router.apply(entry(seq));
  t.same(a.sent, ['entry 11', 'entry 12', 'entry 13', 'entry 14', 'entry 15']);
});

t.test('a hole is reported with what is missing, and closed by what is read back', async (t) => {
  const { router, login, holes } = setUp();
  const a = login(1, 10);
  router.apply(entry(13));
  t.same(a.sent, []);
  t.same(holes[0]?.hole, { afterSeq: 10, uptoSeq: 12 });
  router.apply(entry(11));
  router.apply(entry(12));
  t.same(a.sent, ['entry 11', 'entry 12', 'entry 13']);
  t.equal(holes[0]?.hole, undefined);
});

t.test("the sender's connection gets the ok in place of its entry, at the entry's place", async (t) => {
  const { router, login } = setUp();
  const a = login(1, 10);
  const b = login(2, 10);
  router.apply(entry(12, { connection: a.id, replaces: true, reply: Buffer.from('ok 12') }));
  router.apply(entry(11));
  t.same(a.sent, ['entry 11', 'ok 12']);
  t.same(b.sent, ['entry 11', 'entry 12']);
});

t.test('an ok that comes after its entry was read back is still sent', async (t) => {
  const { router, login } = setUp();
  const a = login(1, 10);
  router.apply(entry(11));
  router.apply(entry(11, { connection: a.id, replaces: true, reply: Buffer.from('ok 11') }));
  t.same(a.sent, ['entry 11', 'ok 11']);
});

t.test(
  'who is removed gets what came before and the notice, not the entry that says so nor later ones',
  async (t) => {
    const { router, login } = setUp();
    const a = login(1, 10);
    const b = login(2, 10);
    router.apply(entry(13));
    router.apply(entry(12, { notices: [notice(2, 'remove')] }));
    router.apply(entry(11));
    t.same(b.sent, ['entry 11', 'remove 2']);
    t.same(a.sent, ['entry 11', 'entry 12', 'entry 13']);
  },
);

t.test('who is added gets the notice and what comes after it', async (t) => {
  const { router, login, connect, admit, open } = setUp();
  const a = login(1, 10);
  const b = connect();
  admit(b, 2, []);
  open(b, null);
  b.sent.length = 0;
  router.apply(entry(12));
  router.apply(entry(11, { notices: [notice(2, 'add')] }));
  t.same(b.sent, ['add 2', 'entry 12']);
  t.same(a.sent, ['entry 11', 'entry 12']);
});

t.test('a room that nobody here was in begins with who is added, and its head is looked up', async (t) => {
  const { router, suspects, connect, admit, open } = setUp();
  const b = connect();
  admit(b, 2, []);
  open(b, null);
  b.sent.length = 0;
  router.apply(entry(5, { notices: [notice(2, 'add')] }));
  router.apply(entry(6));
  t.same(b.sent, ['add 2', 'entry 6']);
  t.same(suspects, [ROOM]);
});

t.test('what is no entry happens after the entry it stands at', async (t) => {
  const { router, login } = setUp();
  const a = login(1, 10);
  router.apply(entry(11, { event: null, notices: [notice(1, 'remove')] }));
  t.same(a.sent, []);
  router.apply(entry(11));
  t.same(a.sent, ['entry 11', 'remove 1']);
});

t.test(
  'during a login entries are held, and those after the reported lastSeq follow the reply',
  async (t) => {
    const { router, login, connect, admit, open } = setUp();
    const a = login(1, 10);
    const b = connect();
    admit(b, 2);
    for (const seq of [11, 12, 13]) router.apply(entry(seq));
    t.same(b.sent, []);
    open(b, 12);
    router.apply(entry(14));
    t.same(b.sent, ['login ok', 'entry 13', 'entry 14']);
    t.same(a.sent, ['entry 11', 'entry 12', 'entry 13', 'entry 14']);
  },
);

t.test('a login that reads ahead of the stream does not get again what its reply told', async (t) => {
  const { router, login, connect, admit, open } = setUp();
  const a = login(1, 10);
  const b = connect();
  admit(b, 2);
  open(b, 12);
  for (const seq of [11, 12, 13]) router.apply(entry(seq));
  t.same(b.sent, ['login ok', 'entry 13']);
  t.same(a.sent, ['entry 11', 'entry 12', 'entry 13']);
});

t.test(
  'a login that reads ahead of the stream has the missing entries read back for the others',
  async (t) => {
    const { login, connect, admit, open, holes } = setUp();
    login(1, 10);
    const b = connect();
    admit(b, 2);
    open(b, 12);
    t.same(holes[0]?.hole, { afterSeq: 10, uptoSeq: 12 });
  },
);

t.test('two logins into a room nobody was in: the one with the older read misses nothing', async (t) => {
  const { router, connect, admit, open, holes } = setUp();
  const a = connect();
  const b = connect();
  admit(a, 1);
  admit(b, 2);
  router.apply(entry(11));
  open(a, 12);
  open(b, 10);
  t.same(holes.at(-1)?.hole, { afterSeq: 10, uptoSeq: 12 });
  for (const seq of [11, 12]) router.apply(entry(seq));
  router.apply(entry(13));
  t.same(a.sent, ['login ok', 'entry 13']);
  t.same(b.sent, ['login ok', 'entry 11', 'entry 12', 'entry 13']);
});

t.test('entries released for a second time change no membership', async (t) => {
  const { router, connect, admit, open, login } = setUp();
  const c = login(3, 10);
  router.apply(entry(11, { notices: [notice(3, 'remove')] }));
  const a = connect();
  const b = connect();
  admit(a, 1);
  admit(b, 2);
  open(a, 12);
  router.apply(entry(13, { notices: [notice(3, 'add')] }));
  open(b, 10);
  router.apply(entry(11, { notices: [notice(3, 'remove')] }));
  router.apply(entry(12));
  router.apply(entry(13, { notices: [notice(3, 'add')] }));
  router.apply(entry(14));
  t.same(c.sent, ['remove 3', 'add 3', 'entry 14']);
  t.same(b.sent, ['login ok', 'entry 11', 'entry 12', 'entry 13', 'entry 14']);
  t.same(a.sent, ['login ok', 'entry 13', 'entry 14']);
});

t.test('a room left between the two reads of a login is not listened to', async (t) => {
  const { router, login, connect, admit, open } = setUp();
  login(1, 10);
  const b = connect();
  admit(b, 2);
  open(b, null);
  router.apply(entry(11));
  t.same(b.sent, ['login ok']);
});

t.test('a room joined between the two reads of a login is heard, and its head is looked up', async (t) => {
  const { router, connect, admit, open, suspects } = setUp();
  const b = connect();
  admit(b, 2, []);
  open(b, 4);
  t.same(suspects, [ROOM]);
  router.apply(entry(5));
  t.same(b.sent, ['login ok', 'entry 5']);
});

t.test(
  'a room.added during a login follows the reply only if the reply does not have the room',
  async (t) => {
    const { router, connect, admit, open } = setUp();
    const known = connect();
    admit(known, 1, []);
    router.apply(entry(1, { notices: [notice(1, 'add')] }));
    open(known, 1);
    const fresh = connect();
    admit(fresh, 2, []);
    router.apply(entry(2, { notices: [notice(2, 'add')] }));
    open(fresh, null);
    router.apply(entry(3));
    t.same(known.sent, ['login ok', 'entry 2', 'entry 3']);
    t.same(fresh.sent, ['login ok', 'add 2', 'entry 3']);
  },
);

t.test('a connection that breaks during its login leaves its session to be ended', async (t) => {
  const { router, connect, admit, lost } = setUp();
  const b = connect();
  const client = router.clients.get(b.id);
  if (client) router.remove(client, 'SOCKET_ERROR');
  admit(b, 2);
  t.same(lost, [201]);
});

t.test('someone added while the only other connection of the room goes is not forgotten', async (t) => {
  const { router, connect, admit, open } = setUp();
  const a = connect();
  const b = connect();
  admit(a, 1);
  admit(b, 2, []);
  open(b, null);
  router.apply(entry(11, { notices: [notice(2, 'add')] }));
  const client = router.clients.get(a.id);
  if (client) router.remove(client, 'CLIENT_GONE');
  router.apply(entry(12));
  t.same(b.sent, ['login ok', 'add 2', 'entry 12']);
});

t.test(
  'who is kicked after the rooms of their login were read is told, and hears nothing more',
  async (t) => {
    const { router, login, connect, admit, open } = setUp();
    login(1, 10);
    const b = connect();
    admit(b, 2);
    router.apply(entry(11));
    router.apply(entry(12, { notices: [notice(2, 'remove')] }));
    open(b, 10);
    router.apply(entry(13));
    t.same(b.sent, ['login ok', 'entry 11', 'remove 2']);
  },
);

t.test('a room that is deleted after the rooms of a login were read', async (t) => {
  const { router, login, connect, admit, open } = setUp();
  login(1, 10);
  const b = connect();
  admit(b, 2);
  router.apply(entry(10, { event: null, notices: [notice(1, 'remove'), notice(2, 'remove')] }));
  open(b, 10);
  t.same(b.sent, ['login ok', 'remove 2']);
  t.equal(router.stream(ROOM), undefined);
});

t.test('who is kicked and comes back while logging in', async (t) => {
  for (const [lastSeq, expected] of [
    [10, ['entry 11', 'remove 2', 'add 2', 'entry 15']],
    [11, ['remove 2', 'add 2', 'entry 15']],
    [14, ['entry 15']],
  ] as const) {
    const { router, login, connect, admit, open } = setUp();
    login(1, 10);
    const b = connect();
    admit(b, 2);
    router.apply(entry(11));
    router.apply(entry(12, { notices: [notice(2, 'remove')] }));
    router.apply(entry(13));
    router.apply(entry(14, { notices: [notice(2, 'add')] }));
    open(b, lastSeq);
    router.apply(entry(15));
    t.same(b.sent, ['login ok', ...expected], `read at ${lastSeq}`);
  }
});

t.test(
  'who was kicked and came back before the rooms of their login were read is told neither',
  async (t) => {
    const { router, login, connect, admit, open } = setUp();
    login(1, 10);
    const b = connect();
    admit(b, 2);
    open(b, 12);
    router.apply(entry(11, { notices: [notice(2, 'remove')] }));
    router.apply(entry(12, { notices: [notice(2, 'add')] }));
    router.apply(entry(13));
    t.same(b.sent, ['login ok', 'entry 13']);
  },
);

t.test('entries released for a second time, for another login, come once to who is logging in', async (t) => {
  for (const lastSeq of [8, 9, 10, 11]) {
    for (const when of ['before', 'after']) {
      const { router, connect, admit, open } = setUp();
      const [a, b, c] = [connect(), connect(), connect()];
      admit(a, 1);
      admit(b, 2);
      admit(c, 3);
      // The room begins with b, at 10; then a says that it needs everything after 8.
      open(b, 10);
      router.apply(entry(11));
      open(a, 8);
      if (when === 'before') open(c, lastSeq);
      for (const seq of [9, 10, 11]) router.apply(entry(seq));
      if (when === 'after') open(c, lastSeq);
      // What c needs beyond that is read back once more.
      const stream = router.stream(ROOM);
      const hole = stream?.hole;
      for (let seq = (hole?.afterSeq ?? 0) + 1; seq <= (hole?.uptoSeq ?? 0); seq++) router.apply(entry(seq));
      router.apply(entry(12));
      const after = (from: number) =>
        [9, 10, 11, 12].filter((seq) => seq > from).map((seq) => `entry ${seq}`);
      t.same(a.sent, ['login ok', ...after(8)]);
      t.same(b.sent, ['login ok', ...after(10)]);
      t.same(
        c.sent,
        ['login ok', ...after(lastSeq)],
        `read at ${lastSeq}, opened ${when} the second release`,
      );
    }
  }
});

/** What is no entry: that the user is in the room, read when it was at `seq`. */
const alreadyIn = (seq: number, userId: number, connection: FakeConnection) =>
  entry(seq, {
    event: null,
    connection: connection.id,
    reply: Buffer.from('ok'),
    notices: [notice(userId, 'add')],
  });

t.test('who is added with an entry that comes late is told, and misses nothing', async (t) => {
  const { router, connect, admit, open, holes } = setUp();
  const [a, b] = [connect(), connect()];
  admit(a, 1, []);
  admit(b, 2, []);
  open(a, null);
  open(b, null);
  // The room of a was made twice at once: the answer to the second request overtakes what the first one did.
  router.apply(alreadyIn(1, 1, a));
  router.apply(entry(2));
  router.apply(entry(1, { notices: [notice(1, 'add'), notice(2, 'add')] }));
  t.same(holes.at(-1)?.hole, { afterSeq: 1, uptoSeq: 2 });
  router.apply(entry(2));
  router.apply(entry(3));
  t.same(a.sent, ['login ok', 'ok', 'entry 2', 'entry 3']);
  t.same(b.sent, ['login ok', 'add 2', 'entry 2', 'entry 3']);
});

t.test('who is added while the room is being read for the login of another is told', async (t) => {
  const { router, connect, admit, open } = setUp();
  const [a, b] = [connect(), connect()];
  admit(a, 1, []);
  open(a, null);
  admit(b, 2);
  router.apply(entry(11, { notices: [notice(1, 'add')] }));
  open(b, 11);
  router.apply(entry(12));
  t.same(a.sent, ['login ok', 'add 1', 'entry 12']);
  t.same(b.sent, ['login ok', 'entry 12']);
});

t.test('what was read before a removal and comes after it brings nobody back', async (t) => {
  const { router, login } = setUp();
  const a = login(1, 10);
  const b = login(2, 10);
  router.apply(entry(11, { notices: [notice(2, 'remove')] }));
  router.apply(alreadyIn(10, 2, b));
  router.apply(entry(12));
  t.same(a.sent, ['entry 11', 'entry 12']);
  t.same(b.sent, ['remove 2', 'ok']);
});

t.test('a removal that comes after a later read of the room by another login takes effect', async (t) => {
  const { router, connect, admit, open } = setUp();
  const [a, b] = [connect(), connect()];
  admit(a, 1);
  admit(b, 2);
  open(a, 12);
  router.apply(entry(11, { notices: [notice(2, 'remove')] }));
  open(b, 10);
  router.apply(entry(12));
  router.apply(entry(13));
  t.same(a.sent, ['login ok', 'entry 13']);
  t.same(b.sent, ['login ok', 'remove 2']);
});

t.test('a removal that nobody announced takes effect when it is read back for a login', async (t) => {
  const { router, connect, admit, open } = setUp();
  const [a, b] = [connect(), connect()];
  admit(a, 1);
  admit(b, 2);
  open(a, 12);
  open(b, 10);
  for (const seq of [11, 12]) router.apply(entry(seq, seq === 11 ? { notices: [notice(2, 'remove')] } : {}));
  router.apply(entry(13));
  t.same(a.sent, ['login ok', 'entry 13']);
  t.same(b.sent, ['login ok', 'remove 2']);
});
