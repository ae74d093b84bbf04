import { randomUUID } from 'node:crypto';
import { packBatch } from '../shared/batch.js';
import { EffectReader } from '../shared/effects.js';
import { log } from '../shared/log.js';
import { closeLine } from '../shared/protocol/events.js';
import type { Task, TaskAnswer, WorkerMessage } from '../shared/tasks.js';
import type { Client, Frame } from './client.js';
import type { Router } from './router.js';

/** What of a worker pool the dispatcher needs. */
export interface TaskRunner {
  readonly threads: number;
  run(task: Task, transfer?: ArrayBuffer[]): Promise<TaskAnswer>;
}

export interface DispatcherOptions {
  /** `CHAT_FRAMES_PER_SECOND`; 0 = off. */
  readonly framesPerSecond: number;
  readonly outputLimitBytes: number;
}

/** Batches under way per thread: one at the database while the next one is parsed. */
const BATCHES_PER_THREAD = 2;
/** With so many connections waiting the next batch is big enough by itself. */
const COMPANY = 64;
/** What one slow batch adds to the typical time of a batch, at most, ms. */
const MAX_TYPICAL_MS = 20;
const TYPICAL_WEIGHT = 0.1;
const MAX_BATCH_FRAMES = 512;
const MAX_BATCH_BYTES = 1024 * 1024;
/** A connection gets no more of one batch, so that one that sends thousands leaves room for the others. */
const MAX_FRAMES_PER_CONNECTION = 64;
/** Copying a batch costs less than handing it over below this. */
const TRANSFER_BYTES = 64 * 1024;
/** A batch that takes longer is stuck at the database: pings overtake it. */
const STUCK_MS = 150;
const MAX_OVERTAKING_BYTES = 512;
const MAX_OVERTAKING_FRAMES = 16;
/** Frames that were taken to be looked at, and have to wait after all, hold no more than this together. */
const MAX_HELD_BYTES = 16 * 1024 * 1024;
const TICK_MS = 50;

interface Batch {
  readonly clients: readonly Client[];
  readonly startedAt: number;
  readonly overtaking: boolean;
}

/**
 * Gathers the frames of all connections and hands them to workers: as soon as one is free, so that an idle server adds
 * no delay and a busy one makes bigger batches. Of a connection at most one batch is under way, so its requests
 * take effect in the order they were sent.
 */
export class Dispatcher {
  readonly #pool: TaskRunner;
  readonly #router: Router;
  readonly #framesPerSecond: number;
  readonly #maxPendingOutput: number;
  /** Connections with something to take and no batch under way, in the order they came. */
  #ready: Client[] = [];
  /** Connections that must wait: for their `CHAT_FRAMES_PER_SECOND`, or until they have read the replies they got. */
  readonly #throttled = new Set<Client>();
  readonly #batches = new Map<number, Batch>();
  #nextBatch = 1;
  #running = 0;
  #isOvertaking = false;
  #isScheduled = false;
  /** When the latest batch was begun. */
  #lastStart = 0;
  /** Moving average of what a batch takes. */
  #typicalMs = 2;
  #joinTimer: NodeJS.Timeout | undefined;
  readonly #timer: NodeJS.Timeout;

  constructor(pool: TaskRunner, router: Router, options: DispatcherOptions) {
    this.#pool = pool;
    this.#router = router;
    this.#framesPerSecond = options.framesPerSecond;
    this.#maxPendingOutput = options.outputLimitBytes / 4;
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
    this.#timer.unref();
  }

  /** The number that the next batch gets: all lower ones were begun before now. */
  get nextBatch(): number {
    return this.#nextBatch;
  }

  /** The lowest number of a batch under way, or {@link nextBatch}. */
  get oldestBatch(): number {
    for (const batch of this.#batches.keys()) return batch;
    return this.#nextBatch;
  }

  /** Nothing is under way, and what waits does so for its client. */
  get isIdle(): boolean {
    return this.#batches.size === 0 && this.#ready.length === 0;
  }

  /** There is something to take from the connection, or it has ended. */
  readable(client: Client): void {
    if (client.isQueued || client.isClosed || client.inFlight !== null || client.overtaking !== null) return;
    if (client.frames.length === 0 && client.isOversized) {
      client.connection.close('TOO_LARGE');
      return;
    }
    if (client.frames.length === 0 && !client.connection.readable) {
      if (client.connection.ended) client.connection.close('CLIENT_GONE');
      return;
    }
    client.isQueued = true;
    this.#ready.push(client);
    this.#schedule();
  }

  /** See {@link RouterPorts.resume}. */
  resume(client: Client, executed: number | undefined, line: Buffer): void {
    const back = executed === undefined ? [] : (client.inFlight?.splice(executed) ?? []);
    // Copied, as the effects' buffer holds much more than this line.
    if (line.length > 0) back.unshift({ bytes: Uint8Array.from(line), continuation: true, seen: true });
    client.frames.unshift(...back);
    this.readable(client);
  }

  /** See {@link RouterPorts.overtook}. */
  overtook(client: Client, place: number): void {
    const frame = client.overtaking?.[place];
    if (frame !== undefined) client.frames.splice(client.frames.indexOf(frame), 1);
  }

  /** See {@link RouterPorts.freed}. */
  freed(client: Client): void {
    client.inFlight = null;
    if (client.isClosed) return;
    if (client.frames[0]?.continuation !== true) this.#router.settled(client);
    this.readable(client);
  }

  /** A message of a worker: effects, in the order they were written. */
  message(message: Extract<WorkerMessage, { kind: 'effects' }>): void {
    if (message.pack !== null) {
      const reader = new EffectReader(message.pack);
      for (let effect = reader.next(); effect !== undefined; effect = reader.next())
        this.#router.apply(effect);
    }
    if (message.done) this.#finish(message.batch);
  }

  stop(): void {
    clearInterval(this.#timer);
    clearTimeout(this.#joinTimer);
  }

  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    // After the sockets that are readable in this turn have all been read.
    setImmediate(() => {
      this.#isScheduled = false;
      this.#dispatch();
    });
  }

  #dispatch(): void {
    while (this.#ready.length > 0 && this.#running < this.#pool.threads * BATCHES_PER_THREAD) {
      const wait = this.#waitForCompany();
      if (wait > 0) {
        this.#joinTimer ??= setTimeout(() => {
          this.#joinTimer = undefined;
          this.#dispatch();
        }, wait);
        return;
      }
      const clients = this.#gather();
      if (clients.length > 0) this.#run(clients, false);
    }
  }

  /**
   * ms that the next batch should wait for more frames. None while nothing is under way. Small batches side by side
   * would queue for the locks of the same rooms and pay for a commit each; two that follow each other at half of
   * the time that one takes keep both the threads and the database busy.
   */
  #waitForCompany(): number {
    if (this.#running === 0 || this.#ready.length >= COMPANY) return 0;
    return Math.max(0, this.#lastStart + this.#typicalMs / 2 - performance.now());
  }

  /** Fills the next batch; what does not fit stays at the front. */
  #gather(): Client[] {
    const clients: Client[] = [];
    const again: Client[] = [];
    let frames = 0;
    let bytes = 0;
    let taken = 0;
    for (const client of this.#ready) {
      if (frames >= MAX_BATCH_FRAMES || bytes >= MAX_BATCH_BYTES) break;
      taken++;
      client.isQueued = false;
      if (client.isClosed) continue;
      const room = Math.min(MAX_FRAMES_PER_CONNECTION, MAX_BATCH_FRAMES - frames);
      const batch = this.#take(client, room, MAX_BATCH_BYTES - bytes);
      if (batch.length === 0) {
        if (client.connection.ended || client.isOversized) again.push(client);
        continue;
      }
      client.inFlight = batch;
      clients.push(client);
      frames += batch.length;
      for (const frame of batch) bytes += frame.bytes.length;
    }
    this.#ready = this.#ready.slice(taken);
    for (const client of again) this.readable(client);
    return clients;
  }

  /** The next frames of a connection, at most `count`, and no more than one beyond `maxBytes`. */
  #take(client: Client, count: number, maxBytes: number): Frame[] {
    const taken: Frame[] = [];
    let bytes = 0;
    while (taken.length < count && bytes < maxBytes) {
      // Who does not read replies gets no more of them to leave unread: requests wait instead.
      if (client.frames[0]?.continuation !== true && this.#isUnread(client)) break;
      const frame = client.frames.shift() ?? this.#pull(client);
      if (frame === undefined) break;
      taken.push(frame);
      bytes += frame.bytes.length;
      // What comes after a continuation may depend on it.
      if (frame.continuation) break;
    }
    return taken;
  }

  /** Whether so much waits for the client to be read that its next requests have to wait too. */
  #isUnread(client: Client): boolean {
    const { pendingOutput, readable } = client.connection;
    if (pendingOutput <= this.#maxPendingOutput) {
      client.unreadSince = 0;
      return false;
    }
    // As long as it gets less, the client reads.
    if (client.unreadSince === 0 || pendingOutput < client.unreadBytes) {
      client.unreadSince = performance.now();
      client.unreadBytes = pendingOutput;
    }
    if (client.frames.length > 0 || readable) this.#throttled.add(client);
    return true;
  }

  /** Takes one frame off the connection, if its rate allows. */
  #pull(client: Client): Frame | undefined {
    const { connection } = client;
    if (this.#framesPerSecond > 0 && !this.#spendToken(client)) return undefined;
    const bytes = client.isOversized ? undefined : connection.take();
    if (bytes === 'too-large') {
      // The frames before it are answered first.
      client.isOversized = true;
      return undefined;
    }
    return bytes === undefined ? undefined : { bytes, continuation: false, seen: false };
  }

  /** Token bucket of one second's worth. Without a token the connection waits; TCP slows the client down. */
  #spendToken(client: Client): boolean {
    const now = performance.now();
    const refill = ((now - client.refilledAt) / 1000) * this.#framesPerSecond;
    client.tokens = Math.min(this.#framesPerSecond, client.tokens + refill);
    client.refilledAt = now;
    if (client.tokens < 1) {
      if (client.connection.readable) this.#throttled.add(client);
      return false;
    }
    client.tokens--;
    return true;
  }

  #run(clients: readonly Client[], overtaking: boolean): void {
    const batch = this.#nextBatch++;
    if (!overtaking) for (const client of clients) client.batch = batch;
    const slots = clients.map((client) => ({
      caller: {
        connection: client.id,
        userId: client.userId,
        sessionId: client.sessionId,
        remote: client.connection.remote,
      },
      frames: (overtaking ? client.overtaking : client.inFlight) ?? [],
    }));
    const task = packBatch(batch, slots, overtaking);
    this.#batches.set(batch, { clients, startedAt: performance.now(), overtaking });
    if (!overtaking) {
      this.#running++;
      this.#lastStart = performance.now();
    }
    const { buffer } = task.bytes;
    const transfer = buffer instanceof ArrayBuffer && buffer.byteLength >= TRANSFER_BYTES ? [buffer] : [];
    this.#pool.run(task, transfer).catch((error: unknown) => this.#fail(batch, error));
  }

  #finish(number: number): void {
    const batch = this.#batches.get(number);
    if (batch === undefined) return;
    this.#batches.delete(number);
    if (batch.overtaking) {
      this.#isOvertaking = false;
    } else {
      this.#running--;
      const ms = Math.min(performance.now() - batch.startedAt, MAX_TYPICAL_MS);
      this.#typicalMs += (ms - this.#typicalMs) * TYPICAL_WEIGHT;
    }
    for (const client of batch.clients) {
      if (batch.overtaking) {
        client.overtaking = null;
        if (client.inFlight === null && !client.isClosed) this.readable(client);
      } else if (client.inFlight !== null && client.batch === number) {
        this.freed(client);
      }
    }
    this.#schedule();
  }

  /**
   * A thread died under the batch. Nobody knows what it did, so its connections begin anew, and all rooms are looked
   * at: it may have committed entries that were not announced.
   */
  #fail(number: number, error: unknown): void {
    const batch = this.#batches.get(number);
    const traceId = randomUUID();
    log.server.error(
      'batch failed',
      { traceId, batch: number, connections: batch?.clients.length ?? 0 },
      error,
    );
    if (batch === undefined) return;
    for (const client of batch.clients) {
      // Already served by it.
      if (!batch.overtaking && (client.inFlight === null || client.batch !== number)) continue;
      client.frames = [];
      client.connection.close('INTERNAL', Buffer.from(closeLine('INTERNAL', traceId)));
    }
    this.#router.apply({ kind: 'suspect', roomIds: this.#router.roomIds });
    this.#finish(number);
  }

  #tick(): void {
    for (const client of this.#throttled) {
      this.#throttled.delete(client);
      this.readable(client);
    }
    if (!this.#isOvertaking) this.#overtake();
  }

  /**
   * While the database hangs, batches are stuck and others wait behind them. What needs no database (pings, typing)
   * is answered all the same: small frames that wait are looked at out of their turn.
   */
  #overtake(): void {
    const stuckSince = performance.now() - STUCK_MS;
    const stuck = [...this.#batches.values()].filter(
      (batch) => !batch.overtaking && batch.startedAt < stuckSince,
    );
    if (stuck.length === 0) return;
    const isBlocked = this.#running >= this.#pool.threads * BATCHES_PER_THREAD;
    const waiting = new Set(stuck.flatMap((batch) => batch.clients));
    if (isBlocked) for (const client of this.#ready) waiting.add(client);
    let held = 0;
    for (const { frames } of waiting) for (const { bytes } of frames) held += bytes.length;
    const clients: Client[] = [];
    for (const client of waiting) {
      if (clients.length === MAX_BATCH_FRAMES) break;
      if (client.isClosed || this.#isUnread(client)) continue;
      while (client.frames.length < MAX_OVERTAKING_FRAMES && held < MAX_HELD_BYTES) {
        const frame = this.#pull(client);
        if (frame === undefined) break;
        client.frames.push(frame);
        held += frame.bytes.length;
      }
      const unseen = client.frames.filter(
        (frame) => !frame.seen && frame.bytes.length <= MAX_OVERTAKING_BYTES,
      );
      for (const frame of client.frames) frame.seen = true;
      if (unseen.length === 0) continue;
      client.overtaking = unseen;
      clients.push(client);
    }
    if (clients.length === 0) return;
    this.#isOvertaking = true;
    // They are in the batch now; it puts them back.
    this.#ready = this.#ready.filter((client) => client.overtaking === null);
    for (const client of clients) client.isQueued = false;
    this.#run(clients, true);
  }
}
