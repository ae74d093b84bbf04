import type { Writable } from 'node:stream';

/** Up to this many bytes of waiting lines are copied into one chunk for one write. */
const WRITE_BYTES = 64 * 1024;

/** Volatile lines are dropped while more than this part of the hard limit waits. */
const VOLATILE_SHARE = 1 / 4;

/** A waiting line is copied out of memory that is larger than this (bytes) and {@link PINNED_RATIO} times its own size. */
const PINNED_BYTES = 16 * 1024;
const PINNED_RATIO = 8;

/** What has lines to write at the end of this turn of the event loop. One immediate serves all connections. */
let dirty: Output[] = [];
let spare: Output[] = [];

/**
 * The lines that were joined last, and the result. The members of a room mostly get the same lines in the same turn,
 * so the next connection can often have the same bytes: a quarter less CPU per delivery from ten lines a turn on.
 */
let joinedLines: readonly Buffer[] = [];
let joinedBytes = Buffer.alloc(0);

function flushAll(): void {
  const outputs = dirty;
  dirty = spare;
  for (const output of outputs) output.flush();
  outputs.length = 0;
  spare = outputs;
  joinedLines = [];
  joinedBytes = Buffer.alloc(0);
}

/**
 * What is to be written to one connection. Lines gather until the turn of the event loop ends, then leave in one
 * write: a write per line is a system call each, ten times the cost of all else (DESIGN 8). While the peer does
 * not read, lines stay here, not in the stream, where they can still be put together.
 */
export class Output {
  private readonly stream: Writable;
  private readonly limitBytes: number;
  private lines: Buffer[] | undefined;
  private queued = 0;
  private scheduled = false;
  /** The stream is full; its `drain` will come. */
  private blocked = false;
  /** Volatile lines not sent because the peer read slowly. */
  dropped = 0;

  /**
   * @param stream owner must call {@link drained} on its `drain` event
   * @param limitBytes bytes that may wait
   */
  constructor(stream: Writable, limitBytes: number) {
    this.stream = stream;
    this.limitBytes = limitBytes;
  }

  /** Bytes that the operating system has not taken yet. */
  get waiting(): number {
    return this.queued + this.stream.writableLength;
  }

  /** Queues a line. `false` when more would wait than may: the line is not queued and the peer must be cut off. */
  send(line: Buffer, volatile: boolean): boolean {
    let { waiting } = this;
    if (volatile && waiting > this.limitBytes * VOLATILE_SHARE) {
      this.dropped += 1;
      return true;
    }
    if (waiting > 0 && waiting + line.length > this.limitBytes) {
      // What this turn has queued may be no sign of a slow peer: let the system take what it will, then count.
      this.flush();
      waiting = this.waiting;
      // One line alone passes at any size: a large reply must not end a connection that reads.
      if (waiting > 0 && waiting + line.length > this.limitBytes) return false;
    }
    this.lines ??= [];
    this.lines.push(this.blocked ? unpinned(line) : line);
    this.queued += line.length;
    if (!this.scheduled && !this.blocked) {
      this.scheduled = true;
      if (dirty.push(this) === 1) setImmediate(flushAll);
    }
    return true;
  }

  /** Writes what waits, as far as the stream takes it. */
  flush(): void {
    this.scheduled = false;
    if (this.blocked || this.lines === undefined) return;
    if (!this.stream.writable) {
      this.clear();
      return;
    }
    const { lines } = this;
    let next = 0;
    while (next < lines.length && !this.blocked) {
      const end = pieceEnd(lines, next);
      const piece = joined(lines, next, end);
      next = end;
      this.queued -= piece.length;
      this.blocked = !this.stream.write(piece);
    }
    if (next === lines.length) {
      this.lines = undefined;
      return;
    }
    lines.splice(0, next);
    for (const [index, line] of lines.entries()) lines[index] = unpinned(line);
  }

  /** The stream has taken everything it was given. */
  drained(): void {
    this.blocked = false;
    this.flush();
  }

  /** Writes all that waits, then `last`, and ends the stream. */
  end(last: Buffer | undefined): void {
    const { stream, lines } = this;
    this.clear();
    if (!stream.writable) return;
    stream.cork();
    if (lines !== undefined) {
      for (let next = 0; next < lines.length; ) {
        const end = pieceEnd(lines, next);
        stream.write(joined(lines, next, end));
        next = end;
      }
    }
    if (last !== undefined) stream.write(last);
    stream.end();
  }

  /** Forgets what waits here. */
  clear(): void {
    this.lines = undefined;
    this.queued = 0;
  }
}

/** Where the piece that begins at `from` ends: as many lines as fit {@link WRITE_BYTES}, at least one. */
function pieceEnd(lines: readonly Buffer[], from: number): number {
  let bytes = 0;
  let end = from;
  for (; end < lines.length; end += 1) {
    bytes += lines[end]?.length ?? 0;
    if (bytes > WRITE_BYTES && end > from) break;
  }
  return end;
}

function joined(lines: readonly Buffer[], from: number, to: number): Buffer {
  const first = lines[from];
  if (to - from === 1 && first !== undefined) return first;
  if (from > 0 || to < lines.length) return Buffer.concat(lines.slice(from, to));
  if (!sameLines(lines, joinedLines)) {
    joinedBytes = Buffer.concat(lines);
    joinedLines = lines;
  }
  return joinedBytes;
}

function sameLines(some: readonly Buffer[], others: readonly Buffer[]): boolean {
  if (some.length !== others.length) return false;
  for (let index = 0; index < some.length; index += 1) {
    if (some[index] !== others[index]) return false;
  }
  return true;
}

/** A copy of the line where keeping it would keep much more memory alive, as a slice of a worker's batch does. */
function unpinned(line: Buffer): Buffer {
  const held = line.buffer.byteLength;
  if (held <= PINNED_BYTES || held <= line.length * PINNED_RATIO) return line;
  const copy = Buffer.allocUnsafeSlow(line.length);
  line.copy(copy);
  return copy;
}
