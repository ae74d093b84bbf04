import { deepStrictEqual, strictEqual } from 'node:assert/strict';
import fc from 'fast-check';
import t from 'tap';
import { Framer } from '../src/io/framer.js';

const LIMIT = 64;

/** Everything that can be taken now, as text. */
function takeAll(framer: Framer): string[] {
  const frames: string[] = [];
  for (;;) {
    const { readable } = framer;
    const frame = framer.take();
    if (readable !== (frame !== undefined)) throw new Error(`readable was ${readable}, take gave ${frame}`);
    if (frame === undefined) return frames;
    frames.push(typeof frame === 'string' ? `<${frame}>` : frame.toString('latin1'));
  }
}

function framesOf(limit: number, ...chunks: string[]): string[] {
  const framer = new Framer(limit);
  const frames: string[] = [];
  for (const chunk of chunks) {
    framer.push(Buffer.from(chunk, 'latin1'));
    frames.push(...takeAll(framer));
  }
  return frames;
}

/** Cuts a text at the given places, which are taken modulo its length. */
function cut(text: string, places: readonly number[]): string[] {
  const at = [...new Set(places.map((place) => place % (text.length + 1)))].sort((a, b) => a - b);
  return [0, ...at].map((from, index) => text.slice(from, at[index] ?? text.length));
}

/** Lines of up to 60 bytes, NUL and CR among them. A CR at the end would belong to the line end. */
const line = fc
  .array(fc.constantFrom('a', '{', '"', ' ', '\0', '\xff', '\r'), { maxLength: 60 })
  .map((characters) => characters.join('').replace(/\r+$/, ''));
const lines = fc.array(fc.tuple(line, fc.constantFrom('\n', '\r\n')), { maxLength: 40 });
const places = fc.array(fc.nat(), { maxLength: 40 });

t.test('lines come out as they went in, wherever the network cuts them', async () => {
  fc.assert(
    fc.property(lines, places, fc.boolean(), (sent, places, eager) => {
      const framer = new Framer(LIMIT);
      const got: string[] = [];
      for (const chunk of cut(sent.map((parts) => parts.join('')).join(''), places)) {
        framer.push(Buffer.from(chunk, 'latin1'));
        if (eager) got.push(...takeAll(framer));
      }
      got.push(...takeAll(framer));
      deepStrictEqual(
        got,
        sent.map(([text]) => text).filter((text) => text !== ''),
      );
      strictEqual(framer.bytes, 0);
    }),
    { numRuns: 1000 },
  );
});

t.test('long and short pieces that wait together keep their order', async () => {
  // Lengths around the one up to which pieces that wait are copied together.
  const length = fc.oneof(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 900, max: 3000 }));
  const pieces = fc.array(fc.tuple(length, fc.boolean()), { maxLength: 60 });
  fc.assert(
    fc.property(pieces, fc.integer({ min: 1, max: 20 }), (pieces, every) => {
      const framer = new Framer(1_000_000);
      const sent = pieces.map(([length, ends], index) => {
        const text = `${index}`.padEnd(length, 'x');
        return ends ? `${text}\n` : text;
      });
      const got: string[] = [];
      for (const [index, piece] of sent.entries()) {
        framer.push(Buffer.from(piece));
        if (index % every === every - 1) got.push(...takeAll(framer));
      }
      got.push(...takeAll(framer));
      const frames = sent.join('').split('\n');
      const rest = frames.pop() ?? '';
      deepStrictEqual(got, frames);
      strictEqual(framer.bytes, rest.length);
    }),
    { numRuns: 500 },
  );
});

t.test('a frame is found too large at the same place, wherever the network cuts it', async () => {
  fc.assert(
    fc.property(lines, fc.integer({ min: 0, max: 40 }), places, (sent, position, places) => {
      const before = sent.slice(0, position).map((parts) => parts.join(''));
      const text = [...before, 'x'.repeat(LIMIT), '\n', ...sent.map((parts) => parts.join(''))].join('');
      const expected = sent.slice(0, position).map(([line]) => line);
      deepStrictEqual(framesOf(LIMIT, ...cut(text, places)), [
        ...expected.filter((line) => line !== ''),
        '<too-large>',
      ]);
    }),
    { numRuns: 500 },
  );
});

t.test('ten thousand frames glued into one chunk come out one by one', async (t) => {
  const sent = Array.from({ length: 10_000 }, (_, index) => `{"id":${index}}`);
  t.same(framesOf(LIMIT, `${sent.join('\n')}\n`), sent);
});

t.test('a frame that came in one chunk is not copied', async (t) => {
  const framer = new Framer(LIMIT);
  const chunk = Buffer.from('one\ntwo\n');
  framer.push(chunk);
  for (const expected of ['one', 'two']) {
    const frame = framer.take();
    if (!Buffer.isBuffer(frame)) throw new Error('no frame');
    t.equal(frame.toString(), expected);
    t.equal(frame.buffer, chunk.buffer);
  }
});

t.test('empty lines are no frames and are not kept', async (t) => {
  const framer = new Framer(LIMIT);
  for (let count = 0; count < 1000; count += 1) {
    for (const chunk of ['\n', '\r', '\n', '\n\r\n\n']) {
      framer.push(Buffer.from(chunk));
      t.equal(framer.readable, false);
      t.ok(framer.bytes <= 1, 'at most a CR waits for its LF');
    }
  }
  framer.push(Buffer.from('\n\nx\n\n'));
  t.same(takeAll(framer), ['x']);
  t.equal(framer.bytes, 0);
});

t.test('a frame of exactly the limit is accepted, one byte more is not', async (t) => {
  const longest = 'x'.repeat(LIMIT - 1);
  t.same(framesOf(LIMIT, `${longest}\n`), [longest]);
  t.same(framesOf(LIMIT, `${longest}x\n`), ['<too-large>']);
  t.same(framesOf(LIMIT, `${longest.slice(1)}\r\n`), [longest.slice(1)]);
  t.same(framesOf(LIMIT, `${longest}\r\n`), ['<too-large>']);
});

t.test('a frame is too large as soon as that is certain, before its end', async (t) => {
  t.same(framesOf(LIMIT, 'x'.repeat(LIMIT - 1)), []);
  t.same(framesOf(LIMIT, 'x'.repeat(LIMIT - 1), 'x'), ['<too-large>']);
  t.same(framesOf(LIMIT, `a\nb\n${'x'.repeat(LIMIT)}`, 'y\nc\n'), ['a', 'b', '<too-large>']);
});

t.test('nothing is kept after a frame that was too large', async (t) => {
  const framer = new Framer(LIMIT);
  framer.push(Buffer.alloc(LIMIT, 'x'));
  t.same(takeAll(framer), ['<too-large>']);
  framer.push(Buffer.alloc(1000, 'x'));
  t.equal(framer.bytes, 0);
});

t.test('a partial frame at the end waits for the rest', async (t) => {
  const framer = new Framer(LIMIT);
  framer.push(Buffer.from('one\ntw'));
  t.same(takeAll(framer), ['one']);
  t.equal(framer.bytes, 2);
  framer.push(Buffer.from('o\n'));
  t.same(takeAll(framer), ['two']);
});

/** Bytes that are searched and copied while `work` runs: the cost without the noise of a clock. */
function bytesTouched(work: () => void): number {
  let touched = 0;
  const { indexOf, copy } = Buffer.prototype;
  Buffer.prototype.indexOf = function (this: Buffer, value: string | number | Uint8Array, from?: unknown) {
    const start = typeof from === 'number' ? from : 0;
    const found = indexOf.call(this, value, start);
    touched += (found < 0 ? this.length : found + 1) - start;
    return found;
  };
  Buffer.prototype.copy = function (this: Buffer, ...where: Parameters<Buffer['copy']>) {
    const copied = copy.apply(this, where);
    touched += copied;
    return copied;
  };
  try {
    work();
  } finally {
    Object.assign(Buffer.prototype, { indexOf, copy });
  }
  return touched;
}

const MEBIBYTE = 1024 * 1024;

for (const eager of [true, false]) {
  const who = eager ? 'at once' : 'at the end';
  t.test(`a 1 MiB line byte by byte, asked for ${who}, costs as much per byte as a short one`, async (t) => {
    const framer = new Framer(MEBIBYTE);
    const touched = bytesTouched(() => {
      for (let sent = 1; sent < MEBIBYTE; sent += 1) {
        framer.push(Buffer.from('x'));
        if (eager && framer.readable) throw new Error('readable too early');
      }
      framer.push(Buffer.from('\n'));
      t.equal(framer.take()?.length, MEBIBYTE - 1);
    });
    // One search, one copy, and the copies of a buffer that doubles; all that twice if it waited in between.
    t.ok(touched <= 8 * MEBIBYTE, `${touched} bytes touched`);
    t.ok(touched >= MEBIBYTE, 'the count counts');
  });
}

t.test('short frames glued together are searched once and not copied', async (t) => {
  const chunk = Buffer.from('{"id":1}\n'.repeat(7000));
  const framer = new Framer(MEBIBYTE);
  const touched = bytesTouched(() => {
    framer.push(chunk);
    while (framer.readable) framer.take();
  });
  t.equal(touched, chunk.length);
});
