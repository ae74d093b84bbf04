import { test } from 'tap';
import { Ledger } from '../src/cli/load/ledger.js';
import { textOf } from '../src/cli/load/phone.js';
import { SeqSet } from '../src/cli/load/seq-set.js';

const ROOM = 7;
const [ANNA, BEN, CEM] = [1, 2, 3];

/** Three devices in a room whose stream is at 1; `say` sends and acknowledges, `get` is a push. */
function book() {
  let now = 0;
  let attempts = 0;
  let settledCalls = 0;
  const ledger = new Ledger(() => settledCalls++);
  for (const device of [ANNA, BEN, CEM]) ledger.connected(device, ROOM, 1);
  const entry = (seq: number, text = `text ${seq}`) =>
    ({ roomId: ROOM, seq, kind: 'text', text, clientMessageId: `key ${seq}` }) as const;
  const ok = (seq: number, duplicate = false) => ({ roomId: ROOM, seq, duplicate });
  return {
    ledger,
    entry,
    ok,
    tick: (ms: number) => {
      now += ms;
    },
    send: (sender: number, seq: number) => ledger.sent(`key ${seq}`, sender, `text ${seq}`, now),
    ack: (seq: number, duplicate = false) =>
      ledger.acknowledged(`key ${seq}`, ok(seq, duplicate), ++attempts, now),
    get: (device: number, seq: number, text?: string) => ledger.received(device, entry(seq, text), now),
    settledCalls: () => settledCalls,
  };
}

/** Anna says 2, 3 and 4; everyone gets them as they should. */
function afterThreeGoodMessages() {
  const b = book();
  for (const seq of [2, 3, 4]) {
    b.send(ANNA, seq);
    b.tick(2);
    b.ack(seq);
    b.tick(1);
    b.get(BEN, seq);
    b.tick(3);
    b.get(CEM, seq);
  }
  return b;
}

test('a run without a fault is clean, and its numbers add up', async (t) => {
  const { ledger, entry, settledCalls } = afterThreeGoodMessages();
  ledger.history(ROOM, 0, [{ roomId: ROOM, seq: 1, kind: 'system' }, entry(2), entry(3), entry(4)]);
  ledger.close(true);
  t.ok(ledger.clean);
  t.ok(ledger.settled);
  t.ok(settledCalls() > 0);
  t.match(ledger.totals, {
    sent: 3,
    acknowledged: 3,
    delivered: 6,
    lost: 0,
    duplicated: 0,
    outOfOrder: 0,
    altered: 0,
  });
  const { toAcknowledged, toLastReceiver } = ledger.totals;
  t.equal(toAcknowledged.count, 3);
  t.ok(Math.abs(toAcknowledged.max - 2) < 0.1);
  t.ok(Math.abs(toLastReceiver.p50 - 6) < 0.1);
  t.same(ledger.faults, []);
});

test('a run in which nothing was acknowledged is not clean', async (t) => {
  const { ledger, send } = book();
  t.notOk(ledger.clean);
  send(ANNA, 2);
  t.notOk(ledger.settled, 'an unanswered send is waited for');
  t.notOk(ledger.clean);
});

test('an acknowledged message that one device never got is lost', async (t) => {
  const b = afterThreeGoodMessages();
  b.send(BEN, 5);
  b.ack(5);
  b.get(ANNA, 5);
  t.notOk(b.ledger.settled);
  t.equal(b.ledger.awaited, 1);
  b.ledger.close(false);
  t.match(b.ledger.totals, { lost: 1, duplicated: 0, outOfOrder: 0 });
  t.notOk(b.ledger.clean);
  t.match(b.ledger.faults[0], /5 .*never came to device 3/);
});

test('a message that was never acknowledged is not lost', async (t) => {
  const b = afterThreeGoodMessages();
  b.send(BEN, 5);
  b.ledger.close(false);
  t.equal(b.ledger.totals.lost, 0);
  t.ok(b.ledger.clean);
});

test('an acknowledged message that the history does not have is lost', async (t) => {
  const { ledger, entry } = afterThreeGoodMessages();
  ledger.history(ROOM, 0, [{ roomId: ROOM, seq: 1, kind: 'system' }, entry(2), entry(3)]);
  ledger.close(true);
  t.match(ledger.totals, { lost: 1, outOfOrder: 0 });
  t.match(ledger.faults[0], /not in the history/);
});

test('a hole in the history is out of order', async (t) => {
  const { ledger, entry } = afterThreeGoodMessages();
  ledger.history(ROOM, 0, [{ roomId: ROOM, seq: 1, kind: 'system' }, entry(2), entry(4)]);
  ledger.close(true);
  t.match(ledger.totals, { lost: 1, outOfOrder: 1 });
});

test('an entry pushed twice on one connection is duplicated', async (t) => {
  const b = afterThreeGoodMessages();
  b.get(BEN, 3);
  t.match(b.ledger.totals, { duplicated: 1, outOfOrder: 0, delivered: 6 });
  t.notOk(b.ledger.clean);
});

test('an own entry that is pushed after its ok is duplicated', async (t) => {
  const b = afterThreeGoodMessages();
  b.get(ANNA, 4);
  t.equal(b.ledger.totals.duplicated, 1);
});

test('one message stored under two numbers is duplicated', async (t) => {
  const b = afterThreeGoodMessages();
  b.ledger.received(BEN, { ...b.entry(5, 'text 4'), clientMessageId: 'key 4' }, 0);
  t.equal(b.ledger.totals.duplicated, 1);
  t.match(b.ledger.faults[0], /stored twice, as 4 and 5/);
});

test('two messages acknowledged under one number are duplicated', async (t) => {
  const b = afterThreeGoodMessages();
  b.send(BEN, 9);
  b.ledger.acknowledged('key 9', b.ok(4), 1, 0);
  t.ok(b.ledger.totals.duplicated >= 1);
  t.notOk(b.ledger.clean);
});

test('a jump is out of order, the device is told to sync, and sync makes up for it', async (t) => {
  const b = afterThreeGoodMessages();
  for (const seq of [5, 6]) {
    b.send(ANNA, seq);
    b.ack(seq);
    b.get(CEM, seq);
  }
  t.equal(b.get(BEN, 6), false, 'not in order');
  t.equal(b.ledger.cursor(BEN, ROOM), 4);
  t.notOk(b.ledger.settled);
  b.ledger.synced(BEN, ROOM, 4, [b.entry(5), b.entry(6)], 0);
  t.equal(b.ledger.cursor(BEN, ROOM), 6);
  t.ok(b.ledger.settled);
  b.get(BEN, 5);
  b.ledger.close(false);
  t.match(b.ledger.totals, { outOfOrder: 1, lost: 0, duplicated: 0, delivered: 10 });
  t.notOk(b.ledger.clean);
});

test('swapped entries are out of order once', async (t) => {
  const b = afterThreeGoodMessages();
  for (const seq of [5, 6]) {
    b.send(ANNA, seq);
    b.ack(seq);
  }
  for (const seq of [6, 5]) b.get(BEN, seq);
  for (const seq of [5, 6]) b.get(CEM, seq);
  b.ledger.close(false);
  t.match(b.ledger.totals, { outOfOrder: 1, lost: 0, duplicated: 0 });
});

test('an own ok that skips an entry is a jump', async (t) => {
  const b = afterThreeGoodMessages();
  b.send(BEN, 5);
  b.ack(5);
  b.send(ANNA, 6);
  t.equal(b.ack(6), false);
  t.equal(b.ledger.totals.outOfOrder, 1);
});

test('requests that took effect in another order than they were sent are out of order', async (t) => {
  const b = afterThreeGoodMessages();
  for (const seq of [5, 6]) b.send(BEN, seq);
  b.ledger.acknowledged('key 6', b.ok(5), 2, 0);
  b.ledger.acknowledged('key 5', b.ok(6), 1, 0);
  t.equal(b.ledger.totals.outOfOrder, 1);
});

test('a connection that is cut: what sync and push both bring is no duplicate', async (t) => {
  const b = afterThreeGoodMessages();
  // Ben is away for 5 and 6; 6 comes by sync and, being after the login's lastSeq, by push too.
  for (const seq of [5, 6]) {
    b.send(ANNA, seq);
    b.ack(seq);
    b.get(CEM, seq);
  }
  b.ledger.connected(BEN, ROOM, 5);
  t.equal(b.ledger.cursor(BEN, ROOM), 4);
  b.ledger.synced(BEN, ROOM, 4, [b.entry(5), b.entry(6)], 0);
  t.equal(b.get(BEN, 6), true);
  b.ledger.close(false);
  t.ok(b.ledger.clean);
  t.equal(b.ledger.totals.delivered, 10);
});

test('a hole in sync is out of order', async (t) => {
  const b = afterThreeGoodMessages();
  for (const seq of [5, 6]) b.send(ANNA, seq);
  b.ledger.connected(BEN, ROOM, 6);
  b.ledger.synced(BEN, ROOM, 4, [b.entry(6)], 0);
  t.equal(b.ledger.totals.outOfOrder, 1);
});

test('an entry that the login already counted must not be pushed', async (t) => {
  const b = afterThreeGoodMessages();
  b.ledger.connected(BEN, ROOM, 4);
  b.get(BEN, 4);
  t.equal(b.ledger.totals.outOfOrder, 1);
});

test('a repeated send that is answered with the original is one message', async (t) => {
  const b = afterThreeGoodMessages();
  b.send(ANNA, 5);
  b.get(BEN, 5);
  b.get(CEM, 5);
  // The ok was lost with the connection; the retry on the next one gets the original number.
  b.ledger.connected(ANNA, ROOM, 5);
  b.ledger.synced(ANNA, ROOM, 4, [b.entry(5)], 0);
  b.ack(5, true);
  b.ledger.close(false);
  t.ok(b.ledger.clean);
  t.match(b.ledger.totals, { acknowledged: 4, delivered: 8 });
});

test('a repeated send that was stored again is duplicated', async (t) => {
  const b = afterThreeGoodMessages();
  b.send(ANNA, 5);
  b.get(BEN, 5);
  b.ledger.connected(ANNA, ROOM, 5);
  b.ledger.acknowledged('key 5', b.ok(6), 1, 0);
  t.equal(b.ledger.totals.duplicated, 1);
});

test('a text that is not what was sent is altered', async (t) => {
  const b = afterThreeGoodMessages();
  b.send(ANNA, 5);
  b.get(BEN, 5, 'text ?');
  t.ok(b.ledger.totals.altered >= 1);
  t.notOk(b.ledger.clean);
});

test('a text that one device sees differently is altered', async (t) => {
  const b = afterThreeGoodMessages();
  b.send(ANNA, 5);
  b.ack(5);
  b.get(BEN, 5);
  b.get(CEM, 5, 'text 5 ');
  t.equal(b.ledger.totals.altered, 1);
});

test('an entry that nobody sent is altered', async (t) => {
  const b = afterThreeGoodMessages();
  b.get(BEN, 5);
  t.equal(b.ledger.totals.altered, 1);
});

test('a refused send is answered, counted, and must not be in the history', async (t) => {
  const b = afterThreeGoodMessages();
  b.send(ANNA, 5);
  b.ledger.refused('key 5', 'FORBIDDEN: no');
  t.ok(b.ledger.settled);
  t.equal(b.ledger.totals.refused, 1);
  t.notOk(b.ledger.clean);
  b.ledger.history(ROOM, 1, [b.entry(2), b.entry(3), b.entry(4), b.entry(5)]);
  b.ledger.close(true);
  t.match(b.ledger.totals, { altered: 1, lost: 0 });
});

test('the set of numbers agrees with a plain set, in whatever order they come', async (t) => {
  const seqs = new SeqSet();
  const plain = new Set<number>();
  // A fixed sequence that jumps about in 1–200.
  for (let i = 0, n = 1; i < 1000; i++) {
    n = (n * 73 + 41) % 211;
    if (n === 0 || n > 200) continue;
    t.equal(seqs.add(n), !plain.has(n));
    plain.add(n);
    const probe = (i % 200) + 1;
    if (seqs.has(probe) !== plain.has(probe)) t.fail(`has(${probe}) is wrong`);
    let end = 50;
    while (plain.has(end + 1)) end++;
    if (seqs.contiguousFrom(50) !== end) t.fail(`contiguousFrom(50) is not ${end}`);
  }
});

test('a text has exactly the bytes asked for and no half characters', async (t) => {
  for (let bytes = 1; bytes < 300; bytes++) {
    const text = textOf('1f2e-3-4', bytes);
    t.equal(Buffer.byteLength(text), bytes);
    t.notMatch(text, /\p{Surrogate}/u);
  }
});
