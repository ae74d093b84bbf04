/** A connection that is not read because all together hold too much. */
interface Waiting {
  /** There is room again. */
  mayRead(): void;
}

/** What Node reads from a socket at a time, bytes. */
const CHUNK_BYTES = 64 * 1024;
const HIGH_SHARE = 3 / 4;

/**
 * What clients have sent and the core has not taken, over all connections of a process. Each may hold a largest frame,
 * which is too much when thousands do at once, because the database hangs or they send faster than we serve. Above
 * three quarters of the limit no connection is read that has a frame waiting; one with a part of a frame is, as
 * nobody could ever take that.
 */
export class InputBudget {
  readonly #highBytes: number;
  readonly #waiting = new Set<Waiting>();
  #held = 0;

  /** @param limitBytes what all connections together should hold */
  constructor(limitBytes: number) {
    this.#highBytes = limitBytes * HIGH_SHARE;
  }

  /** Bytes held now. */
  get held(): number {
    return this.#held;
  }

  /** Whether connections that have a frame waiting must not be read. */
  get isTight(): boolean {
    return this.#held > this.#highBytes;
  }

  /** A connection holds so many bytes more, or less. */
  moved(bytes: number): void {
    this.#held += bytes;
    if (bytes < 0 && this.#waiting.size > 0) this.#release();
  }

  /** Calls the connection when there is room, in the order in which they came. */
  wait(connection: Waiting): void {
    this.#waiting.add(connection);
  }

  /** The connection waits no more. */
  leave(connection: Waiting): void {
    this.#waiting.delete(connection);
  }

  /** As many as can read once without filling it up again: all at once would read gigabytes. */
  #release(): void {
    let room = this.#highBytes - this.#held;
    for (const connection of this.#waiting) {
      if (room <= 0) return;
      room -= CHUNK_BYTES;
      this.#waiting.delete(connection);
      connection.mayRead();
    }
  }
}
