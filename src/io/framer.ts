const NEWLINE = 0x0a;
const CARRIAGE_RETURN = 0x0d;

/**
 * Chunks that wait behind others and are shorter than this are copied together, bytes. A Buffer of its own costs
 * some 200 bytes, so a client that sends byte by byte could otherwise make us hold a hundred times what it sent.
 */
const SMALL_CHUNK = 1024;

/** Bytes copied together. Room doubles, so appending n bytes one by one costs O(n). */
class Gathered {
  private buffer = Buffer.alloc(0);
  length = 0;

  append(chunk: Buffer, from: number, to: number): void {
    const needed = this.length + to - from;
    if (needed > this.buffer.length) {
      // Not from Node's pool: half a line would pin 8 KiB of it for as long as its client is silent.
      const larger = Buffer.allocUnsafeSlow(Math.max(256, 2 * needed));
      this.buffer.copy(larger, 0, 0, this.length);
      this.buffer = larger;
    }
    chunk.copy(this.buffer, this.length, from, to);
    this.length = needed;
  }

  bytes(): Buffer {
    return this.buffer.subarray(0, this.length);
  }
}

/**
 * Cuts a byte stream into lines (PROTOCOL 1). Lazy: a frame exists from {@link take} on, before that only
 * the chunks as they came. Every byte is looked at once, however the stream was cut.
 */
export class Framer {
  private readonly maxFrameBytes: number;
  /** Bytes pushed and not yet taken or skipped. */
  bytes = 0;
  /** The chunk that is being cut, from `at` on. */
  private chunk: Buffer | undefined;
  private at = 0;
  /** Where in `chunk` the next frame ends, -1 while that is not known. */
  private newline = -1;
  /** The beginning of a line that goes on in `chunk`. */
  private head: Gathered | undefined;
  /** Chunks after `chunk`, and after those the small ones in `tail`. */
  private waiting: Buffer[] | undefined;
  private tail: Gathered | undefined;
  /** `over`: what comes next is `'too-large'`; `ended`: that was taken, or {@link clear} was called. */
  private state: 'open' | 'over' | 'ended' = 'open';

  /** @param maxFrameBytes bytes of the longest line, its newline included */
  constructor(maxFrameBytes: number) {
    this.maxFrameBytes = maxFrameBytes;
  }

  /** Adds what the socket gave. The chunk is kept, so it must not be written to later. */
  push(chunk: Buffer): void {
    if (this.state !== 'open' || chunk.length === 0) return;
    this.bytes += chunk.length;
    if (this.chunk === undefined) {
      this.chunk = chunk;
      this.at = 0;
    } else if (chunk.length < SMALL_CHUNK) {
      this.tail ??= new Gathered();
      this.tail.append(chunk, 0, chunk.length);
    } else {
      this.waiting ??= [];
      if (this.tail !== undefined) this.waiting.push(this.tail.bytes());
      this.tail = undefined;
      this.waiting.push(chunk);
    }
  }

  /** Whether {@link take} would return something. Lines without content don't count, and are forgotten here. */
  get readable(): boolean {
    if (this.newline >= 0 || this.state === 'over') return true;
    while (this.chunk !== undefined) {
      const { chunk, at } = this;
      const newline = chunk.indexOf(NEWLINE, at);
      const before = this.head?.length ?? 0;
      const length = before + (newline < 0 ? chunk.length : newline) - at;
      // `length` is without the newline, which counts: at the limit there is no room left for it.
      if (length >= this.maxFrameBytes) {
        this.clear();
        this.state = 'over';
        return true;
      }
      if (newline < 0) {
        this.head ??= new Gathered();
        this.head.append(chunk, at, chunk.length);
        this.nextChunk();
      } else if (length === 0 || (length === 1 && this.firstByte(chunk, at) === CARRIAGE_RETURN)) {
        this.bytes -= length + 1;
        this.head = undefined;
        this.skipTo(newline + 1, chunk);
      } else {
        this.newline = newline;
        return true;
      }
    }
    return false;
  }

  /**
   * The next line that is not empty, without its `\n` or `\r\n`. A line that came in one chunk is a view of
   * it. `'too-large'` comes once, for a line over the limit even if its end has not come, and nothing after it.
   */
  take(): Buffer | 'too-large' | undefined {
    if (!this.readable) return undefined;
    const { chunk, at, newline, head } = this;
    if (chunk === undefined) {
      this.state = 'ended';
      return 'too-large';
    }
    head?.append(chunk, at, newline);
    const line = head?.bytes() ?? chunk.subarray(at, newline);
    this.bytes -= line.length + 1;
    this.head = undefined;
    this.newline = -1;
    this.skipTo(newline + 1, chunk);
    return line[line.length - 1] === CARRIAGE_RETURN ? line.subarray(0, -1) : line;
  }

  /** Forgets everything; what is pushed later is ignored. */
  clear(): void {
    this.state = 'ended';
    this.bytes = 0;
    this.newline = -1;
    this.chunk = undefined;
    this.head = undefined;
    this.waiting = undefined;
    this.tail = undefined;
  }

  private firstByte(chunk: Buffer, at: number): number | undefined {
    return this.head === undefined ? chunk[at] : this.head.bytes()[0];
  }

  private skipTo(at: number, chunk: Buffer): void {
    this.at = at;
    if (at === chunk.length) this.nextChunk();
  }

  private nextChunk(): void {
    this.at = 0;
    this.chunk = this.waiting?.shift();
    if (this.chunk !== undefined) return;
    this.waiting = undefined;
    this.chunk = this.tail?.bytes();
    this.tail = undefined;
  }
}
