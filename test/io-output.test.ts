import { Writable } from 'node:stream';
import { setImmediate as turn } from 'node:timers/promises';
import t from 'tap';
import { Output } from '../src/io/output.js';

/** A stand-in for a socket: notes each write and, while `stuck`, takes nothing more. */
class Peer extends Writable {
  readonly writes: string[] = [];
  readonly chunks: Buffer[] = [];
  stuck = false;
  private taken: (() => void) | undefined;

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.writes.push(chunk.toString());
    this.chunks.push(chunk);
    if (this.stuck) this.taken = done;
    else done();
  }

  /** Reads all that was written. */
  read(): void {
    this.stuck = false;
    this.taken?.();
    this.taken = undefined;
  }
}

function pair(limitBytes = 1_000_000): { peer: Peer; output: Output } {
  const peer = new Peer();
  const output = new Output(peer, limitBytes);
  peer.on('drain', () => output.drained());
  return { peer, output };
}

const LINES = ['a', 'b', 'c'].map((text) => Buffer.from(text));

/** A peer that has stopped reading, with `bytes` in its stream. */
async function stuckPair(limitBytes: number, bytes: number): Promise<{ peer: Peer; output: Output }> {
  const { peer, output } = pair(limitBytes);
  peer.stuck = true;
  output.send(Buffer.alloc(bytes, '-'), false);
  await turn();
  return { peer, output };
}

t.test('all lines of one turn leave in one write, in order, on every connection', async (t) => {
  const pairs = Array.from({ length: 10 }, () => pair());
  const sent = Array.from({ length: 100 }, (_, index) => `{"line":${index}}\n`);
  for (const text of sent) {
    const line = Buffer.from(text);
    for (const { output } of pairs) t.ok(output.send(line, false));
  }
  for (const { peer } of pairs) t.same(peer.writes, [], 'nothing leaves before the turn ends');
  await turn();
  for (const { peer, output } of pairs) {
    t.same(peer.writes, [sent.join('')]);
    t.equal(output.waiting, 0);
  }
});

t.test(
  'connections that get the same lines share the bytes, and one that gets others gets its own',
  async (t) => {
    const pairs = Array.from({ length: 4 }, () => pair());
    const [a, b, c] = LINES;
    const reply = Buffer.from('r');
    for (const [index, lines] of [LINES, [c, b, a], LINES, [a, b, reply]].entries()) {
      for (const line of lines) if (line !== undefined) pairs[index]?.output.send(line, false);
    }
    await turn();
    t.same(
      pairs.map(({ peer }) => peer.writes),
      [['abc'], ['cba'], ['abc'], ['abr']],
    );
    const again = [pair(), pair()];
    for (const { output } of again) for (const line of LINES) output.send(line, false);
    await turn();
    t.equal(again[0]?.peer.chunks[0], again[1]?.peer.chunks[0]);
  },
);

t.test('a line alone is written as it is, without a copy', async (t) => {
  const { peer, output } = pair();
  const line = Buffer.from('{"alone":1}\n');
  output.send(line, false);
  await turn();
  t.equal(peer.chunks[0], line);
});

t.test('many bytes leave in few writes and stay in order', async (t) => {
  const { peer, output } = pair(10_000_000);
  const sent = Array.from({ length: 30_000 }, (_, index) => `{"line":${index}}\n`);
  for (const text of sent) output.send(Buffer.from(text), false);
  await turn();
  t.equal(peer.writes.join(''), sent.join(''));
  t.ok(peer.writes.length <= 10, `${peer.writes.length} writes for ${sent.join('').length} bytes`);
});

t.test('a peer that reads again gets everything that waited, in order', async (t) => {
  const { peer, output } = await stuckPair(10_000_000, 100_000);
  const sent = Array.from({ length: 30_000 }, (_, index) => `{"line":${index}}\n`);
  for (const text of sent) {
    t.ok(output.send(Buffer.from(text), false));
    if (text.endsWith('00}\n')) await turn();
  }
  t.equal(output.waiting, 100_000 + sent.join('').length);
  t.equal(peer.writes.length, 1, 'the full stream is left alone');
  peer.read();
  await turn();
  t.equal(peer.writes.slice(1).join(''), sent.join(''));
  t.equal(output.waiting, 0);
});

t.test(
  'a peer that stops reading in the middle of a flush gets the rest later, each line once',
  async (t) => {
    const { peer, output } = pair(10_000_000);
    peer.stuck = true;
    const sent = Array.from({ length: 30_000 }, (_, index) => `{"line":${index}}\n`);
    for (const text of sent) output.send(Buffer.from(text), false);
    await turn();
    t.equal(peer.writes.length, 1);
    t.equal(output.waiting, sent.join('').length);
    peer.read();
    await turn();
    t.equal(peer.writes.join(''), sent.join(''));
    t.equal(output.waiting, 0);
  },
);

t.test('volatile lines are dropped over a quarter of the limit, the others not', async (t) => {
  const { peer, output } = await stuckPair(100_000, 20_000);
  t.ok(output.send(Buffer.alloc(5000, 'a'), true), 'a quarter is not reached');
  t.ok(output.send(Buffer.alloc(1, 'b'), true), 'a quarter is not passed');
  t.ok(output.send(Buffer.alloc(1, 'c'), true), 'dropped');
  t.ok(output.send(Buffer.alloc(1, 'd'), false), 'not volatile');
  t.equal(output.dropped, 1);
  peer.read();
  await turn();
  t.equal(peer.writes.join('').replaceAll(/-|a/g, ''), 'bd');
});

t.test('a peer that does not read is given up when one byte more than the limit waits', async (t) => {
  const { output } = await stuckPair(100_000, 20_000);
  t.ok(output.send(Buffer.alloc(80_000), false));
  t.equal(output.send(Buffer.alloc(1), false), false);
  t.equal(output.waiting, 100_000);
});

t.test('a peer that reads is not given up, however much one turn sends', async (t) => {
  const { peer, output } = pair(100_000);
  for (let count = 0; count < 100; count += 1) t.ok(output.send(Buffer.alloc(30_000, 'x'), false));
  await turn();
  t.equal(peer.writes.join('').length, 3_000_000);
});

t.test('one line over the limit passes when nothing else waits', async (t) => {
  const { peer, output } = pair(100_000);
  t.ok(output.send(Buffer.alloc(250_000, 'x'), false));
  await turn();
  t.equal(peer.writes.join('').length, 250_000);
  peer.stuck = true;
  t.ok(output.send(Buffer.alloc(250_000, 'x'), false));
  t.equal(output.send(Buffer.alloc(1), false), false);
});

t.test('a slow peer does not keep the batches alive that its lines were cut from', async (t) => {
  const { peer, output } = await stuckPair(1_000_000, 100_000);
  const batch = Buffer.alloc(100_000, 'b');
  const shared = Buffer.from(batch.buffer, 0, 50_000);
  output.send(batch.subarray(100, 200), false);
  await turn();
  output.send(shared, false);
  peer.read();
  await turn();
  t.equal(peer.writes.slice(1).join('').length, 50_100);

  const second = await stuckPair(1_000_000, 100_000);
  second.output.send(batch.subarray(100, 200), false);
  second.peer.read();
  await turn();
  const small = second.peer.chunks[1];
  t.equal(small?.toString(), 'b'.repeat(100));
  t.not(small?.buffer, batch.buffer, 'a small slice was copied');
});

t.test('a closing connection writes what waited, then its last line', async (t) => {
  const { peer, output } = await stuckPair(1_000_000, 100_000);
  for (let count = 0; count < 1000; count += 1) output.send(Buffer.from('{"x":1}\n'), false);
  output.end(Buffer.from('last\n'));
  peer.read();
  await new Promise((resolve) => peer.once('finish', resolve));
  t.equal(peer.writes.slice(1).join(''), `${'{"x":1}\n'.repeat(1000)}last\n`);
});
