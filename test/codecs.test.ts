import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { type Caller, packBatch, type Slot, unpackBatch } from '../src/shared/batch.js';
import { CLOSES, type CloseReason } from '../src/shared/closes.js';
import { type Effect, EffectReader, EffectWriter, type Notice } from '../src/shared/effects.js';
import { id } from '../src/shared/ids.js';

/** What crosses the thread boundary comes out as it went in: `src/shared/batch.ts` and `src/shared/effects.ts`. */

function holds<T>(t: Pick<Test, 'doesNotThrow'>, property: fc.IProperty<T>, numRuns: number): void {
  t.doesNotThrow(() => fc.assert(property, { numRuns }));
}

/** Objects with the usual prototype, as those that are compared with them have it. */
const record = <T>(model: { [K in keyof T]: fc.Arbitrary<T[K]> }) =>
  fc.record(model, { noNullPrototype: true });

// --- batches ---

const caller = (connection: number, user: number, session: number, remote: string): Caller => ({
  connection: id.connection(connection),
  userId: id.user(user),
  sessionId: id.session(session),
  remote,
});

/** Slots with their bytes as arrays, to compare. */
function plain(slots: readonly Slot[]) {
  return slots.map(({ caller, frames }) => ({
    caller,
    frames: frames.map(({ bytes, continuation }) => ({ bytes: [...bytes], continuation })),
  }));
}

t.test('batch: frames come out as they went in, whatever they are', async (t) => {
  const largest = Number.MAX_SAFE_INTEGER;
  const number = fc.oneof(fc.nat(), fc.constantFrom(1, 2 ** 32, largest));
  const callers = fc.oneof(
    // The remote address is carried only while nobody is logged in.
    fc.tuple(number, fc.string()).map(([connection, remote]) => caller(connection, 0, 0, remote)),
    fc
      .tuple(number, number, number)
      .map(([connection, user, session]) =>
        caller(connection, user + 1 > largest ? largest : user + 1, session, ''),
      ),
  );
  const frame = record({ bytes: fc.uint8Array({ maxLength: 50 }), continuation: fc.boolean() });
  const slots = fc.array(record({ caller: callers, frames: fc.array(frame, { maxLength: 8 }) }), {
    maxLength: 8,
  });
  holds(
    t,
    fc.property(fc.nat(), slots, fc.boolean(), (batch, some, overtaking) => {
      const packed = packBatch(batch, some, overtaking);
      if (packed.batch !== batch || packed.overtaking !== overtaking) return false;
      return isDeepStrictEqual(plain(unpackBatch(packed)), plain(some));
    }),
    200,
  );
});

t.test('batch: no slots, slots without frames, frames without bytes, frames of a megabyte', async (t) => {
  const big = new Uint8Array(1024 * 1024).map((_, i) => i % 251);
  const slots: Slot[] = [
    { caller: caller(1, 0, 0, '127.0.0.1:5000'), frames: [] },
    {
      caller: caller(2, 5, 9, ''),
      frames: [
        { bytes: new Uint8Array(0), continuation: false },
        { bytes: big, continuation: false },
        { bytes: Buffer.from('{"한":"😀"}'), continuation: true },
        { bytes: new Uint8Array(0), continuation: true },
        { bytes: big, continuation: false },
      ],
    },
    { caller: caller(3, 0, 0, ''), frames: [] },
  ];
  const unpacked = unpackBatch(packBatch(7, slots));
  t.strictSame(
    unpacked.map((slot) => slot.caller),
    slots.map((slot) => slot.caller),
  );
  for (const [i, slot] of slots.entries()) {
    t.equal(unpacked[i]?.frames.length, slot.frames.length);
    for (const [n, { bytes, continuation }] of slot.frames.entries()) {
      const frame = unpacked[i]?.frames[n];
      t.equal(frame?.continuation, continuation);
      t.ok(Buffer.from(bytes).equals(frame?.bytes ?? Buffer.from('?')), `slot ${i}, frame ${n}`);
    }
  }
  t.strictSame(unpackBatch(packBatch(1, [])), []);
});

t.test(
  'batch: survives the way to another thread, and does not hold on to what it was made from',
  async (t) => {
    const bytes = Buffer.from('{"id":1}');
    const packed = packBatch(1, [{ caller: caller(1, 2, 3, ''), frames: [{ bytes, continuation: false }] }]);
    bytes.fill(0);
    const there = structuredClone(packed, { transfer: [packed.bytes.buffer as ArrayBuffer] });
    t.equal(Buffer.from(unpackBatch(there)[0]?.frames[0]?.bytes ?? []).toString(), '{"id":1}');
  },
);

// --- effects ---

/** Writes an effect with the method of its kind, as a worker does. */
function write(writer: EffectWriter, effect: Effect): void {
  const text = (line: Buffer | null) => line?.toString('utf8') ?? '';
  switch (effect.kind) {
    case 'reply':
      writer.reply(effect.connection, text(effect.line));
      break;
    case 'room':
      writer.room({
        ...effect,
        reply: text(effect.reply),
        event: text(effect.event),
        notices: effect.notices.map((notice) => ({ ...notice, line: text(notice.line) })),
      });
      break;
    case 'receipt':
      writer.receipt(effect.roomId, effect.connection, text(effect.line));
      break;
    case 'typing': {
      const { reply, event, refusal } = effect;
      const lines = { reply: text(reply), event: text(event), refusal: text(refusal) };
      writer.typing(effect.roomId, effect.connection, lines);
      break;
    }
    case 'admit':
      writer.admit(effect.connection, effect);
      break;
    case 'opened':
      writer.opened(effect.connection, text(effect.reply), effect.rooms);
      break;
    case 'dismiss':
      writer.dismiss(effect.connection);
      break;
    case 'renewed':
      writer.renewed(effect.connection, effect.expiresAt);
      break;
    case 'watch':
      writer.watch(effect.connection, effect.userIds);
      break;
    case 'presence':
      writer.presence(effect.userId, effect.version, text(effect.line));
      break;
    case 'revoke':
      writer.revoke(effect.userId, effect.sessionId);
      break;
    case 'close':
      writer.close(effect.connection, effect.reason, text(effect.line));
      break;
    case 'suspect':
      writer.suspect(effect.roomIds);
      break;
    case 'continue':
      writer.continue(effect.connection, effect.executed, text(effect.line));
      break;
    case 'overtook':
      writer.overtook(effect.connection, effect.place);
      break;
    case 'freed':
      writer.freed(effect.connection);
      break;
  }
}

function readAll(reader: EffectReader): Effect[] {
  const effects: Effect[] = [];
  for (let effect = reader.next(); effect !== undefined; effect = reader.next()) effects.push(effect);
  return effects;
}

const number = fc.oneof(fc.nat(), fc.constantFrom(0, 1, 2 ** 32, Number.MAX_SAFE_INTEGER));
const connection = number.map(id.connection);
const userId = number.map(id.user);
const roomId = number.map(id.room);
const sessionId = number.map(id.session);
const seq = number.map(id.seq);
const words = fc.string({ unit: 'grapheme', maxLength: 40 });
const line = words.map((text) => Buffer.from(text));
/** An empty line is how a missing one is written. */
const optional = line.map((one) => (one.length === 0 ? null : one));
const closeReason = fc.constantFrom(...(Object.keys(CLOSES) as CloseReason[]));
const notice = record<Notice>({ userId, change: fc.constantFrom('none', 'add', 'remove'), line });

/** Effects of every kind: the compiler sees to it that none is left out. */
const EFFECTS: { readonly [K in Effect['kind']]: fc.Arbitrary<Extract<Effect, { kind: K }>> } = {
  reply: record({ kind: fc.constant('reply' as const), connection, line }),
  room: record({
    kind: fc.constant('room' as const),
    roomId,
    seq,
    connection,
    replaces: fc.boolean(),
    reply: optional,
    event: optional,
    notices: fc.array(notice, { maxLength: 4 }),
  }),
  receipt: record({ kind: fc.constant('receipt' as const), roomId, connection, line }),
  typing: record({
    kind: fc.constant('typing' as const),
    roomId,
    connection,
    reply: line,
    event: line,
    refusal: line,
  }),
  admit: record({
    kind: fc.constant('admit' as const),
    connection,
    userId,
    sessionId,
    expiresAt: number,
    roomIds: fc.array(roomId),
  }),
  opened: record({
    kind: fc.constant('opened' as const),
    connection,
    reply: line,
    rooms: fc.array(record({ roomId, lastSeq: seq })),
  }),
  dismiss: record({ kind: fc.constant('dismiss' as const), connection }),
  renewed: record({ kind: fc.constant('renewed' as const), connection, expiresAt: number }),
  watch: record({ kind: fc.constant('watch' as const), connection, userIds: fc.array(userId) }),
  presence: record({ kind: fc.constant('presence' as const), userId, version: number, line }),
  revoke: record({ kind: fc.constant('revoke' as const), userId, sessionId }),
  close: record({ kind: fc.constant('close' as const), connection, reason: closeReason, line: optional }),
  suspect: record({ kind: fc.constant('suspect' as const), roomIds: fc.array(roomId) }),
  continue: record({ kind: fc.constant('continue' as const), connection, executed: number, line }),
  overtook: record({ kind: fc.constant('overtook' as const), connection, place: number }),
  freed: record({ kind: fc.constant('freed' as const), connection }),
};

for (const [kind, effect] of Object.entries<fc.Arbitrary<Effect>>(EFFECTS)) {
  t.test(`effect ${kind}: comes out as it went in`, async (t) => {
    holds(
      t,
      fc.property(effect, (one) => {
        const writer = new EffectWriter();
        write(writer, one);
        return isDeepStrictEqual(readAll(new EffectReader(writer.finish())), [one]);
      }),
      100,
    );
  });
}

t.test('effects: many of all kinds keep their order, over several packs of one writer', async (t) => {
  const writer = new EffectWriter();
  const many = fc.array(fc.oneof(...Object.values<fc.Arbitrary<Effect>>(EFFECTS)), { maxLength: 30 });
  holds(
    t,
    fc.property(many, (effects) => {
      if (!writer.isEmpty) return false;
      for (const one of effects) write(writer, one);
      if (writer.isEmpty !== (effects.length === 0)) return false;
      // As they are when they arrive in the other thread.
      return isDeepStrictEqual(readAll(new EffectReader(structuredClone(writer.finish()))), effects);
    }),
    200,
  );
});

t.test('effects: multi-byte text of many megabytes, and small lines after it', async (t) => {
  const writer = new EffectWriter();
  const lines = [
    '',
    'a'.repeat(100_000),
    '한'.repeat(200_000),
    '😀'.repeat(500_000),
    '',
    '\u0000',
    '\\"',
    '끝',
  ];
  for (let round = 0; round < 2; round++) {
    for (const [i, one] of lines.entries()) writer.reply(id.connection(i), one);
    const effects = readAll(new EffectReader(writer.finish()));
    t.equal(effects.length, lines.length);
    for (const [i, effect] of effects.entries()) {
      t.ok(
        effect.kind === 'reply' && effect.connection === i && effect.line.toString('utf8') === lines[i],
        `line ${i}`,
      );
    }
  }
});

t.test('effects: every length around the size of the first buffer', async (t) => {
  for (const letter of ['a', '한', '😀']) {
    for (let length = 5450; length < 5475; length++) {
      const writer = new EffectWriter();
      const one = letter.repeat(length);
      writer.reply(id.connection(1), one);
      writer.reply(id.connection(2), 'next');
      const [first, second] = readAll(new EffectReader(writer.finish()));
      if (first?.kind !== 'reply' || first.line.toString() !== one) t.fail(`${length} of ${letter}`);
      if (second?.kind !== 'reply' || second.line.toString() !== 'next')
        t.fail(`after ${length} of ${letter}`);
    }
  }
});

t.test('effects: what was left out of a room effect is absent', async (t) => {
  const writer = new EffectWriter();
  writer.room({ roomId: id.room(1), seq: id.seq(2) });
  t.strictSame(readAll(new EffectReader(writer.finish())), [
    {
      kind: 'room',
      roomId: 1,
      seq: 2,
      connection: 0,
      replaces: false,
      reply: null,
      event: null,
      notices: [],
    },
  ]);
});

t.test('effects: a damaged pack is a bug that shows', async (t) => {
  const damaged = { numbers: Float64Array.from([99, 1]), bytes: new Uint8Array(0) };
  t.throws(() => new EffectReader(damaged).next(), /damaged/);
  t.equal(new EffectReader(new EffectWriter().finish()).next(), undefined, 'an empty one is just empty');
});
