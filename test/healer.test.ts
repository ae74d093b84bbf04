import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { Healer } from '../src/main/healer.js';
import { RoomStream } from '../src/main/room-stream.js';
import { id, type Seq } from '../src/shared/ids.js';

/** Which entries are read back from the database, and when not yet: a batch of ours may still bring them. */

function setUp(t: { teardown(fn: () => void): void }) {
  const streams = new Map<number, RoomStream>();
  const batches = { next: 1, oldest: 1 };
  const read: { roomId: number; afterSeq: number; uptoSeq: number }[] = [];
  const healer = new Healer({
    run: async (task) => {
      if (task.kind !== 'read-back') return { ok: false, reason: 'not here' };
      for (const hole of task.holes) {
        read.push(hole);
        for (let seq = hole.afterSeq + 1; seq <= hole.uptoSeq; seq++) arrive(hole.roomId, seq);
      }
      return { ok: true };
    },
    stream: (roomId) => streams.get(roomId),
    deleted: () => undefined,
    nextBatch: () => batches.next,
    oldestBatch: () => batches.oldest,
  });
  t.teardown(() => healer.stop());

  /** A stream that stands at entry 1. */
  const stream = (roomId: number) => {
    const made = new RoomStream(id.room(roomId), {
      release: () => undefined,
      releaseLate: () => undefined,
      holeFound: (one) => healer.holeFound(one),
    });
    streams.set(roomId, made);
    made.startAt(id.seq(1));
    return made;
  };
  const arrive = (roomId: number, seq: number) => {
    streams.get(roomId)?.accept({
      kind: 'room',
      roomId: id.room(roomId),
      seq: id.seq(seq),
      connection: id.connection(0),
      replaces: false,
      reply: null,
      event: Buffer.from('event'),
      notices: [],
    });
  };
  const isRead = async (roomId: number, seq: Seq) => {
    for (let waited = 0; streams.get(roomId)?.position !== seq; waited++) {
      if (waited > 500) throw new Error(`entry ${seq} of room ${roomId} was not read back`);
      await sleep(10);
    }
  };
  return { stream, arrive, batches, read, isRead };
}

t.test('a missing entry is read back when no batch can bring it any more', async (t) => {
  const { stream, batches, read, isRead } = setUp(t);
  const [waits, goes] = [stream(1), stream(2)];
  batches.next = 6;
  batches.oldest = 5;
  waits.knows(id.seq(3));
  batches.next = 5;
  goes.knows(id.seq(4));
  await isRead(2, id.seq(4));
  t.strictSame(read, [{ roomId: 2, afterSeq: 1, uptoSeq: 4 }], 'batch 5 may hold what room 1 misses');
  batches.oldest = 6;
  await isRead(1, id.seq(3));
  t.strictSame(read.slice(1), [{ roomId: 1, afterSeq: 1, uptoSeq: 3 }]);
});

t.test('a hole behind one that has closed waits for its own batches', async (t) => {
  const { stream, arrive, batches, read, isRead } = setUp(t);
  const [first, other] = [stream(1), stream(2)];
  // Entry 2 is in batch 4, and comes at once; entry 3 is in batch 5.
  batches.next = 5;
  batches.oldest = 4;
  first.knows(id.seq(2));
  arrive(1, 2);
  batches.oldest = 5;
  batches.next = 6;
  first.knows(id.seq(3));
  batches.next = 5;
  other.knows(id.seq(2));
  await isRead(2, id.seq(2));
  t.strictSame(read, [{ roomId: 2, afterSeq: 1, uptoSeq: 2 }], 'the sender of entry 3 will get its ok');
  arrive(1, 3);
  t.equal(first.position, 3);
});

t.test('of a hole that grew only what was missing when it was found is read back', async (t) => {
  const { stream, batches, read, isRead } = setUp(t);
  const [first] = [stream(1)];
  batches.next = 5;
  batches.oldest = 5;
  first.knows(id.seq(3));
  // Entry 4 is in batch 5, which began after that.
  batches.next = 6;
  first.knows(id.seq(4));
  await isRead(1, id.seq(3));
  batches.oldest = 6;
  await isRead(1, id.seq(4));
  t.strictSame(read, [
    { roomId: 1, afterSeq: 1, uptoSeq: 3 },
    { roomId: 1, afterSeq: 3, uptoSeq: 4 },
  ]);
});
