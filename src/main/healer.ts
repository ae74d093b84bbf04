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

/**
 * Reads back what a room's stream misses: entries that others have seen committed and that did not come here, and
 * rooms of which nobody knows whether they moved (a COMMIT without an answer, a room that opens here).
 */
export class Healer {
  readonly #ports: HealerPorts;
  /** Streams with a hole: since when, and the first batch that can not hold the missing entry. */
  readonly #holes = new Map<RoomStream, { readonly since: number; readonly batch: number }>();
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
    if (this.#holes.has(stream)) return;
    this.#holes.set(stream, { since: performance.now(), batch: this.#ports.nextBatch() });
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
    for (const stream of this.#holes.keys()) {
      if (stream.hole === undefined || this.#ports.stream(stream.roomId) !== stream)
        this.#holes.delete(stream);
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
    for (const [stream, { since, batch }] of this.#holes) {
      const hole = stream.hole;
      // A batch of our own may hold the entry: then its sender gets the ok in place of the event, and not both.
      if (hole === undefined || now - since < HOLE_MS || this.#ports.oldestBatch() < batch) continue;
      holes.push({ roomId: stream.roomId, ...hole });
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
