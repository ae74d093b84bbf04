import type { SessionId } from '../shared/ids.js';
import { log } from '../shared/log.js';
import type { Task, TaskAnswer } from '../shared/tasks.js';

const TICK_MS = 50;
const RETRY_MS = 1000;
const MAX_PER_TASK = 500;

/**
 * Sessions whose connections are gone, until the database knows. A lost connection keeps its session for the grace
 * time, so that a short break does not show as offline; and while the database is away nothing is forgotten.
 */
export class SessionEnds {
  readonly #run: (task: Task) => Promise<TaskAnswer>;
  readonly #graceMs: number;
  /** In the order they fall due: all wait equally long. */
  readonly #inGrace = new Map<SessionId, number>();
  readonly #due = new Set<SessionId>();
  readonly #timer: NodeJS.Timeout;
  #isRunning = false;
  #pausedUntil = 0;

  constructor(run: (task: Task) => Promise<TaskAnswer>, graceMs: number) {
    this.#run = run;
    this.#graceMs = graceMs;
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
    this.#timer.unref();
  }

  /** The session is over: at once, or after the grace. */
  add(sessionId: SessionId, grace: boolean): void {
    if (grace && this.#graceMs > 0) {
      this.#inGrace.set(sessionId, performance.now() + this.#graceMs);
    } else {
      this.#due.add(sessionId);
      this.#tick();
    }
  }

  /** Whether the session is to end and has not yet. */
  has(sessionId: SessionId): boolean {
    return this.#inGrace.has(sessionId) || this.#due.has(sessionId);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #tick(): void {
    const now = performance.now();
    for (const [sessionId, dueAt] of this.#inGrace) {
      if (dueAt > now) break;
      this.#inGrace.delete(sessionId);
      this.#due.add(sessionId);
    }
    if (this.#due.size === 0 || this.#isRunning || now < this.#pausedUntil) return;
    this.#isRunning = true;
    const sessionIds = [...this.#due].slice(0, MAX_PER_TASK);
    this.#end(sessionIds)
      .catch((error: unknown) => {
        log.presence.error('ending sessions failed', { sessions: sessionIds.length }, error);
        this.#pausedUntil = performance.now() + RETRY_MS;
      })
      .finally(() => {
        this.#isRunning = false;
      });
  }

  async #end(sessionIds: readonly SessionId[]): Promise<void> {
    const answer = await this.#run({ kind: 'end-sessions', sessionIds });
    if (answer.ok) for (const sessionId of sessionIds) this.#due.delete(sessionId);
    else this.#pausedUntil = performance.now() + RETRY_MS;
  }
}
