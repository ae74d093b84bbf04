import { setTimeout as sleep } from 'node:timers/promises';
import { createPool, type Pool, type PoolConnection, type ResultSetHeader } from 'mysql2/promise';
import { type Failure, fail, isFailure } from '../../shared/errors.js';
import type { RoomId } from '../../shared/ids.js';
import { connectionOptions } from './connection-options.js';

/** A value bound to a `?`; an array becomes a list, an array of arrays the rows of a multi-row insert. */
export type SqlValue = string | number | null | Date | Buffer | SqlValue[];

/** Statements on one connection. */
export interface Sql {
  /** Runs a SELECT. The row type stands beside the statement in the store and nowhere else. */
  rows<Row>(statement: string, values?: SqlValue[]): Promise<Row[]>;
  /** Runs anything else. */
  run(statement: string, values?: SqlValue[]): Promise<{ affectedRows: number; insertId: number }>;
}

/**
 * Statements inside a transaction. Those that are issued without waiting for each other go to the server together,
 * in one round trip, and so do START TRANSACTION and COMMIT with their neighbours: a round trip costs more than most
 * statements, and the rooms are locked meanwhile. When one of them fails, all that went together fail.
 */
export interface Transaction extends Sql {
  /** A write whose result nobody needs: goes with the next statement, at the latest with COMMIT. */
  later(statement: string, values?: SqlValue[]): void;
  /** Names rooms whose stream this transaction extends, so that a lost COMMIT can be looked into. */
  touches(roomIds: readonly RoomId[]): void;
}

export interface DatabaseOptions {
  readonly url: string;
  /** Connections of this pool. */
  readonly connections: number;
  /** What one {@link Database.read} or {@link Database.transaction} may take in all, ms. */
  readonly timeoutMs: number;
  /** `isHearsay`: another thread said so. */
  readonly onStateChange?: (state: 'up' | 'down', reason: string, isHearsay: boolean) => void;
  /** A COMMIT got no answer: these rooms may have entries that nobody announced. */
  readonly onDoubt?: (roomIds: readonly RoomId[]) => void;
}

// READ COMMITTED: after a row lock is granted, the next plain read sees what the one before us committed.
// The SQL mode is ours, as mysql2 escapes with backslashes and the protocol promises text back unchanged.
const SESSION = `SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED`;
const SESSION_VARIABLES = `SET SESSION sql_mode = 'STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION', time_zone = '+00:00', innodb_lock_wait_timeout = 3`;

const WAITERS_PER_CONNECTION = 256;
const MAX_ATTEMPTS = 8;
const FIRST_RETRY_MS = 100;
const LAST_RETRY_MS = 2000;
const PROBE_TIMEOUT_MS = 2000;

/** Server error numbers that say "not now": the statement was fine, the server can't. */
const SERVER_AWAY = new Set([
  1021, // ER_DISK_FULL
  1040, // ER_CON_COUNT_ERROR
  1045, // ER_ACCESS_DENIED_ERROR: the password is being changed
  1049, // ER_BAD_DB_ERROR: the database is being restored
  1053, // ER_SERVER_SHUTDOWN
  1114, // ER_RECORD_FILE_FULL
  1129, // ER_HOST_IS_BLOCKED
  1203, // ER_TOO_MANY_USER_CONNECTIONS
  1290, // ER_OPTION_PREVENTS_STATEMENT: read-only during a failover
  1317, // ER_QUERY_INTERRUPTED
  1836, // ER_READ_ONLY_MODE
  1927, // ER_CONNECTION_KILLED (MariaDB)
]);
const ER_LOCK_WAIT_TIMEOUT = 1205;
const ER_LOCK_DEADLOCK = 1213;
const ER_DUP_ENTRY = 1062;

class TimeoutError extends Error {
  readonly fatal = true;
}

interface SqlError extends Error {
  readonly errno?: number;
  readonly code?: string;
  readonly fatal?: boolean;
}

type Trouble = 'contention' | 'away' | 'bug';

function troubleOf(error: SqlError): Trouble {
  if (error.errno === ER_LOCK_DEADLOCK || error.errno === ER_LOCK_WAIT_TIMEOUT) return 'contention';
  if (error.fatal === true || (error.errno !== undefined && SERVER_AWAY.has(error.errno))) return 'away';
  // Errors of the socket and the pool have a code and no server error number.
  if (/^(E[A-Z]+|PROTOCOL_.*)$/.test(error.code ?? '') && (error.errno ?? -1) < 0) return 'away';
  if (/^(Pool is closed|Queue limit reached|No connections available)/.test(error.message)) return 'away';
  if (/closed state/.test(error.message)) return 'away';
  return 'bug';
}

/** Whether a statement failed because a unique key is taken. */
export function isDuplicateKey(error: unknown): boolean {
  return error instanceof Error && (error as SqlError).errno === ER_DUP_ENTRY;
}

/**
 * MySQL or MariaDB as a worker thread sees it: a small pool, a deadline over everything, transactions that are
 * run again when the server reports a deadlock, and a circuit breaker. While the server is away every call
 * answers `UNAVAILABLE` at once; a background probe with backoff and jitter finds it again.
 *
 * Expected errors come back as a {@link Failure}; only bugs are thrown.
 */
export class Database {
  readonly #options: DatabaseOptions;
  readonly #pool: Pool;
  #down: { readonly reason: string; retryAt: number } | null = null;
  #closed = false;

  constructor(options: DatabaseOptions) {
    this.#options = options;
    this.#pool = this.#createPool();
  }

  /** What one call may take, ms. */
  get timeoutMs(): number {
    return this.#options.timeoutMs;
  }

  /** Runs plain reads; each statement sees what is committed when it starts. */
  async read<T>(work: (sql: Sql) => Promise<T>): Promise<T | Failure> {
    return this.#attempt(work);
  }

  /**
   * Runs `work` in a transaction. A returned {@link Failure} rolls back. `work` may run more than once (after a
   * deadlock, or on a connection that turned out to be dead) and must have no effects of its own.
   */
  async transaction<T>(work: (sql: Transaction) => Promise<T | Failure>): Promise<T | Failure> {
    return this.#attempt(async (session) => {
      session.later('START TRANSACTION');
      const result = await work(session);
      if (isFailure(result)) {
        session.discard();
        await session.run('ROLLBACK');
      } else {
        session.committing = true;
        await session.run('COMMIT');
        session.committing = false;
      }
      return result;
    });
  }

  /** Ends the pool. Later calls answer `UNAVAILABLE`. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#down ??= { reason: 'closed', retryAt: 0 };
    await withTimeout(this.#pool.end(), PROBE_TIMEOUT_MS).catch(() => undefined);
  }

  async #attempt<T>(work: (session: Session) => Promise<T | Failure>): Promise<T | Failure> {
    const deadline = performance.now() + this.#options.timeoutMs;
    let lostBefore = false;
    for (let attempt = 1; ; attempt++) {
      if (this.#down !== null) return this.#unavailable();
      let session: Session | undefined;
      try {
        session = new Session(await this.#lease(deadline), deadline);
        const result = await work(session);
        session.release();
        return result;
      } catch (thrown) {
        const error: SqlError = thrown instanceof Error ? thrown : new Error(String(thrown));
        const trouble = troubleOf(error);
        if (trouble === 'bug') {
          await session?.rollback();
          throw error;
        }
        const timeLeft = deadline - performance.now();
        if (trouble === 'contention') {
          await session?.rollback();
          // Who has waited for a lock to no avail would hang in the next try until the deadline.
          const isOver = error.errno === ER_LOCK_WAIT_TIMEOUT || attempt >= MAX_ATTEMPTS || timeLeft < 100;
          if (isOver) {
            return fail('UNAVAILABLE', 'the room is too busy', { retryAfterMs: 200 + jitter(300) });
          }
          await sleep(jitter(5 * attempt));
          continue;
        }
        session?.destroy();
        if (session?.committing === true) this.#options.onDoubt?.(session.rooms);
        // A pooled connection may have died while it was idle: that says nothing of the server, so try once more.
        if (!lostBefore && !(error instanceof TimeoutError) && session?.committing !== true) {
          lostBefore = true;
          continue;
        }
        this.#markDown(error.message);
        return this.#unavailable();
      }
    }
  }

  async #lease(deadline: number): Promise<PoolConnection> {
    const waiting = this.#pool.getConnection();
    try {
      return await withTimeout(waiting, deadline - performance.now());
    } catch (error) {
      // It may still come: give it back then, or the pool would count it as in use for ever.
      waiting.then((late) => late.release()).catch(() => undefined);
      throw error;
    }
  }

  #unavailable(): Failure {
    const wait = Math.max(0, (this.#down?.retryAt ?? 0) - performance.now());
    return fail('UNAVAILABLE', 'the database can not be reached', {
      retryAfterMs: Math.ceil(500 + wait + jitter(500)),
    });
  }

  /** Another thread found the server away: callers here need not find out for themselves, one timeout each. */
  suspect(reason: string): void {
    this.#markDown(reason, true);
  }

  #markDown(reason: string, isHearsay = false): void {
    if (this.#down !== null) return;
    this.#down = { reason, retryAt: 0 };
    this.#options.onStateChange?.('down', reason, isHearsay);
    void this.#probe();
  }

  async #probe(): Promise<void> {
    // At once for the first time: one broken connection or one stuck statement is no outage.
    let delay = 0;
    for (; !this.#closed; delay = Math.min(Math.max(delay * 2, FIRST_RETRY_MS), LAST_RETRY_MS)) {
      const wait = delay / 2 + jitter(delay / 2);
      if (this.#down !== null) this.#down.retryAt = performance.now() + wait;
      await sleep(wait, undefined, { ref: false });
      if (this.#closed) return;
      try {
        const deadline = performance.now() + PROBE_TIMEOUT_MS;
        const session = new Session(await this.#lease(deadline), deadline);
        try {
          await session.rows('SELECT 1');
          session.release();
        } catch (error) {
          session.destroy();
          throw error;
        }
        this.#down = null;
        this.#options.onStateChange?.('up', '', false);
        return;
      } catch {
        // Still away. Each failed try has taken one dead connection out of the pool.
      }
    }
  }

  #createPool(): Pool {
    const { connections, timeoutMs, url } = this.#options;
    const pool = createPool({
      ...connectionOptions(url),
      multipleStatements: true,
      connectionLimit: connections,
      maxIdle: connections,
      queueLimit: connections * WAITERS_PER_CONNECTION,
      connectTimeout: timeoutMs,
      enableKeepAlive: true,
    });
    pool.pool.on('connection', (connection) => {
      // Without these settings the connection must not be used: escaping depends on the SQL mode.
      connection.query(`${SESSION};${SESSION_VARIABLES}`, (error) => {
        if (error !== null) connection.destroy();
      });
    });
    return pool;
  }
}

/** A statement that has not been sent. */
interface Waiting {
  readonly statement: string;
  readonly values: SqlValue[];
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: unknown) => void;
}

const ignore = () => undefined;

/** One leased connection under a deadline. */
class Session implements Transaction {
  readonly #connection: PoolConnection;
  readonly #deadline: number;
  readonly rooms: RoomId[] = [];
  /** COMMIT was sent and not answered: the outcome is unknown. */
  committing = false;
  #waiting: Waiting[] = [];
  #isScheduled = false;
  #over = false;

  constructor(connection: PoolConnection, deadline: number) {
    this.#connection = connection;
    this.#deadline = deadline;
  }

  touches(roomIds: readonly RoomId[]): void {
    this.rooms.push(...roomIds);
  }

  async rows<Row>(statement: string, values: SqlValue[] = []): Promise<Row[]> {
    return (await this.#enqueue(statement, values)) as Row[];
  }

  async run(statement: string, values: SqlValue[] = []): Promise<{ affectedRows: number; insertId: number }> {
    return (await this.#enqueue(statement, values)) as ResultSetHeader;
  }

  later(statement: string, values: SqlValue[] = []): void {
    this.#waiting.push({ statement, values, resolve: ignore, reject: ignore });
  }

  /** Forgets what was left for later. */
  discard(): void {
    this.#waiting = [];
  }

  release(): void {
    if (!this.#over) this.#connection.release();
    this.#over = true;
  }

  /** Cuts the connection: the only way to get rid of a statement that does not answer. */
  destroy(): void {
    if (!this.#over) this.#connection.destroy();
    this.#over = true;
  }

  /** Gives the connection back clean, or cuts it if even that fails. */
  async rollback(): Promise<void> {
    this.discard();
    try {
      await this.run('ROLLBACK');
      this.release();
    } catch {
      this.destroy();
    }
  }

  #enqueue(statement: string, values: SqlValue[]): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ statement, values, resolve, reject });
      if (this.#isScheduled) return;
      this.#isScheduled = true;
      queueMicrotask(() => void this.#flush());
    });
  }

  /** Sends what waits as one query. The server runs it in order and stops at the first error. */
  async #flush(): Promise<void> {
    this.#isScheduled = false;
    const batch = this.#waiting;
    this.#waiting = [];
    const text = batch.map(({ statement }) => statement).join(';');
    const values = batch.flatMap((waiting) => waiting.values);
    try {
      const answer = this.#connection.query(text, values);
      answer.catch(ignore);
      const [result] = await withTimeout(answer, this.#deadline - performance.now());
      const results: unknown[] = batch.length === 1 ? [result] : Object.values(result);
      for (const [i, waiting] of batch.entries()) waiting.resolve(results[i]);
    } catch (error) {
      for (const waiting of batch) waiting.reject(error);
    }
  }
}

async function withTimeout<T>(work: Promise<T>, ms: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  try {
    return await Promise.race([
      work,
      new Promise<never>((_, reject) => {
        timer = setTimeout(
          () => reject(new TimeoutError('the database did not answer in time')),
          Math.max(0, ms),
        );
      }),
    ]);
  } finally {
    clearTimeout(timer);
  }
}

/** 0 up to `ms`. */
function jitter(ms: number): number {
  return Math.random() * ms;
}
