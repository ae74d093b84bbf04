import type { RoomId, Seq, UserId } from '../shared/ids.js';
import { log } from '../shared/log.js';
import type { Task, TaskAnswer } from '../shared/tasks.js';
import type { RoomStream } from './room-stream.js';

/** An entry that is missing this long is read back: it was lost on its way, not just overtaken. */
const HOLE_MS = 50;
const TICK_MS = 25;
const RETRY_MS = 500;
/** Rooms per task: holes after an outage must not become one statement of unbounded size. */
const MAX_HOLES = 100;
const MAX_SUSPECTS = 1000;

export interface HealerPorts {
  run(task: Task): Promise<TaskAnswer>;
  stream(roomId: RoomId): RoomStream | undefined;
  /** The room is gone since `seq`. */
  deleted(stream: RoomStream, seq: Seq, actorId: UserId): void;
  /** Batches from this number on were begun after now; see {@link Dispatcher.nextBatch}. */
  readonly nextBatch: () => number;
  readonly oldestBatch: () => number;
}

/** A hole as it was found. */
interface Hole {
  readonly since: number;
  /** The last entry that was known to be missing: of what was committed later, `batch` says nothing. */
  readonly uptoSeq: Seq;
  /** The first batch that can not hold an entry up to there. */
  readonly batch: number;
}

/**
 * Reads back what a room's stream misses: entries that others have seen committed and that did not come here, and
 * rooms of which nobody knows whether they moved (a COMMIT without an answer, a room that opens here).
 */
export class Healer {
  readonly #ports: HealerPorts;
  readonly #holes = new Map<RoomStream, Hole>();
  readonly #suspects = new Set<RoomId>();
  /** Those of the suspects that nobody here was in: a room that was made, or joined, with an unknown outcome. */
  readonly #unheard = new Set<RoomId>();
  #isRunning = false;
  #pausedUntil = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(ports: HealerPorts) {
    this.#ports = ports;
  }

  holeFound(stream: RoomStream): void {
    const found = this.#holes.get(stream);
    const { hole } = stream;
    // One that has closed is not the one that opened behind it, even if nobody has looked in between.
    if (hole === undefined || (found !== undefined && this.#left(stream, found) !== undefined)) return;
    const { uptoSeq } = hole;
    this.#holes.set(stream, { since: performance.now(), uptoSeq, batch: this.#ports.nextBatch() });
    this.#wake();
  }

  suspect(roomIds: readonly RoomId[]): void {
    for (const roomId of roomIds) {
      this.#suspects.add(roomId);
      if (this.#ports.stream(roomId) === undefined) this.#unheard.add(roomId);
    }
    this.#wake();
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#holes.clear();
    this.#suspects.clear();
    this.#unheard.clear();
  }

  #wake(): void {
    if (this.#timer !== undefined) return;
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
    this.#timer.unref();
  }

  #tick(): void {
    const now = performance.now();
    for (const [stream, found] of this.#holes) {
      if (this.#left(stream, found) !== undefined) continue;
      this.#holes.delete(stream);
      if (this.#ports.stream(stream.roomId) === stream) this.holeFound(stream);
    }
    if (this.#holes.size === 0 && this.#suspects.size === 0) {
      clearInterval(this.#timer);
      this.#timer = undefined;
      return;
    }
    if (this.#isRunning || now < this.#pausedUntil) return;
    this.#isRunning = true;
    this.#heal(now)
      .catch((error: unknown) => {
        log.store.error('healing failed', {}, error);
        this.#pausedUntil = performance.now() + RETRY_MS;
      })
      .finally(() => {
        this.#isRunning = false;
      });
  }

  async #heal(now: number): Promise<void> {
    const suspects = [...this.#suspects].slice(0, MAX_SUSPECTS);
    if (suspects.length > 0 && !(await this.#compareHeads(suspects))) return this.#pause();
    const holes = [];
    for (const [stream, found] of this.#holes) {
      const left = this.#left(stream, found);
      // A batch of our own may hold the entry: then its sender gets the ok in place of the event, and not both.
      if (left === undefined || now - found.since < HOLE_MS || this.#ports.oldestBatch() < found.batch)
        continue;
      holes.push({ roomId: stream.roomId, ...left });
      this.#holes.delete(stream);
      if (holes.length === MAX_HOLES) break;
    }
    if (holes.length === 0) return;
    const answer = await this.#ports.run({ kind: 'read-back', holes });
    // The entries came as effects, before the answer. What is still missing is a hole again.
    for (const { roomId } of holes) {
      const stream = this.#ports.stream(roomId);
      if (stream?.hole !== undefined) this.holeFound(stream);
    }
    if (!answer.ok) this.#pause();
  }

  /** What is still missing of the hole as it was found; `undefined` when it has closed. */
  #left(stream: RoomStream, found: Hole): { readonly afterSeq: Seq; readonly uptoSeq: Seq } | undefined {
    const { hole } = stream;
    if (hole === undefined || hole.afterSeq >= found.uptoSeq) return undefined;
    if (this.#ports.stream(stream.roomId) !== stream) return undefined;
    return { afterSeq: hole.afterSeq, uptoSeq: hole.uptoSeq < found.uptoSeq ? hole.uptoSeq : found.uptoSeq };
  }

  /** Looks where the rooms stand in the database; false if that could not be done. */
  async #compareHeads(roomIds: readonly RoomId[]): Promise<boolean> {
    const unheard = roomIds.filter((roomId) => this.#unheard.has(roomId));
    // Forgotten before and not after: what becomes suspect meanwhile is to be looked at again.
    for (const roomId of roomIds) this.#suspects.delete(roomId);
    for (const roomId of unheard) this.#unheard.delete(roomId);
    const answer = await this.#ports.run({ kind: 'heads', roomIds, unheard });
    if (!answer.ok) {
      for (const roomId of roomIds) this.#suspects.add(roomId);
      for (const roomId of unheard) this.#unheard.add(roomId);
      return false;
    }
    for (const { roomId, lastSeq, deletedBy } of answer.heads ?? []) {
      this.#ports.stream(roomId)?.knows(lastSeq);
      // Looked up again, as the line before may have closed it.
      const stream = this.#ports.stream(roomId);
      if (stream !== undefined && deletedBy !== undefined) this.#ports.deleted(stream, lastSeq, deletedBy);
    }
    return true;
  }

  #pause(): void {
    this.#pausedUntil = performance.now() + RETRY_MS;
  }
}
