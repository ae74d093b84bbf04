import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { LINGER_MS, type Transport } from '../io/connection.js';
import { InputBudget } from '../io/input-budget.js';
import { listenTcp } from '../io/tcp.js';
import type { Config } from '../shared/config.js';
import type { RoomId, SessionId } from '../shared/ids.js';
import { log } from '../shared/log.js';
import { eventLine } from '../shared/protocol/events.js';
import type { ProtocolLimits } from '../shared/protocol/requests.js';
import { jwtSecret } from '../shared/secret.js';
import type { ProcessStatus, Task, TaskAnswer, WorkerSettings } from '../shared/tasks.js';
import { Dispatcher } from './dispatcher.js';
import { Gatekeeper } from './gatekeeper.js';
import { Healer } from './healer.js';
import { Liveness } from './liveness.js';
import { Router } from './router.js';
import { SessionEnds } from './session-ends.js';
import { StartError } from './start-error.js';
import { WorkerPool } from './worker-pool.js';

/** Optional parts of the protocol that this server has, told in `hello`. */
export const FEATURES: readonly string[] = [];

const LISTEN_BACKLOG = 4096;
/** What all clients together may have sent ahead of what the workers take; more where a few frames would fill it. */
const MIN_INPUT_BYTES = 64 * 1024 * 1024;
const MAINTAIN_MS = 5000;
/** Sooner after an outage: users are not online while the lease has run out. */
const MAINTAIN_RETRY_MS = 1000;
/** How often sessions are compared after something went wrong: until late COMMITs are over, and logins settled. */
const RECONCILIATIONS = 4;
const PREPARE_RETRY_MS = 500;
/** How long the start waits for a database. */
const PREPARE_TIMEOUT_MS = 60_000;
/** How long a stop waits for requests that were accepted; what hangs longer is repeated by its client. */
const DRAIN_MS = 2500;
/** How long it then tries to take the sessions out of the database; the lease runs out otherwise. */
const RETIRE_MS = 1000;
const STOP_TICK_MS = 10;
/** Clients come back between one and this many ms after a stop, so that they don't all do at once. */
const MIN_RECONNECT_MS = 500;
const MAX_RECONNECT_MS = 5000;

/** The limits that the schemas need. */
export function protocolLimits(config: Config): ProtocolLimits {
  return {
    auth: config.CHAT_AUTH,
    maxTextChars: config.CHAT_MAX_TEXT_CHARS,
    memberLimit: config.CHAT_ROOM_MEMBER_LIMIT,
    roomsPerUser: config.CHAT_ROOMS_PER_USER,
    imagePathPrefix: config.CHAT_IMAGE_PATH_PREFIX,
  };
}

function workerSettings(config: Config, processId: string, databaseUrl: string): WorkerSettings {
  const isJwt = config.CHAT_AUTH === 'jwt';
  const wantsSecret = isJwt && (config.CHAT_JWT_JWKS === undefined || config.CHAT_JWT_SECRET !== undefined);
  return {
    processId,
    limits: protocolLimits(config),
    // A reply may be as large as half of what may wait for one connection.
    maxReplyBytes: Math.floor(config.CHAT_OUTPUT_LIMIT_BYTES / 2),
    logLevel: config.CHAT_LOG_LEVEL,
    logText: config.CHAT_LOG_TEXT,
    database: {
      url: databaseUrl,
      connections: config.CHAT_MYSQL_CONNECTIONS,
      timeoutMs: config.CHAT_MYSQL_TIMEOUT_MS,
    },
    auth: {
      secret: wantsSecret ? jwtSecret(config) : undefined,
      jwks: config.CHAT_JWT_JWKS,
      issuer: config.CHAT_JWT_ISSUER,
      audience: config.CHAT_JWT_AUDIENCE,
    },
  };
}

/** One chat process: sockets and routing here, JSON and SQL in the worker threads. */
export class ChatServer {
  readonly processId = `${hostname()
    .replace(/[^\w.-]/g, '_')
    .slice(0, 60)}.${process.pid}.${randomBytes(4).toString('hex')}`;
  readonly #config: Config;
  readonly #pool: WorkerPool;
  readonly #router: Router;
  readonly #dispatcher: Dispatcher;
  readonly #healer: Healer;
  readonly #sessionEnds: SessionEnds;
  readonly #gatekeeper: Gatekeeper;
  #liveness: Liveness | undefined;
  #transport: Transport | undefined;
  #maintenance: NodeJS.Timeout | undefined;
  /** How many times the sessions in the database are still to be compared with the connections. */
  #reconciliations = 0;
  #stopping: Promise<void> | undefined;

  private constructor(config: Config, databaseUrl: string) {
    this.#config = config;
    const settings = workerSettings(config, this.processId, databaseUrl);
    this.#pool = new WorkerPool(config.CHAT_WORKER_THREADS, settings, (message) => {
      if (message.kind === 'effects') this.#dispatcher.message(message);
    });
    this.#router = new Router({
      resume: (client, executed, line) => this.#dispatcher.resume(client, executed, line),
      overtook: (client, place) => this.#dispatcher.overtook(client, place),
      freed: (client) => this.#dispatcher.freed(client),
      holeFound: (stream) => this.#healer.holeFound(stream),
      suspect: (roomIds) => this.#healer.suspect(roomIds),
      inDoubt: (roomIds) => this.#inDoubt(roomIds),
      sessionLost: (sessionId, grace) => this.#sessionEnds.add(sessionId, grace),
    });
    this.#dispatcher = new Dispatcher(this.#pool, this.#router, {
      framesPerSecond: config.CHAT_FRAMES_PER_SECOND,
      outputLimitBytes: config.CHAT_OUTPUT_LIMIT_BYTES,
    });
    this.#healer = new Healer({
      run: (task) => this.#run(task),
      stream: (roomId) => this.#router.stream(roomId),
      deleted: (stream, seq, actorId) => this.#router.deleted(stream, seq, actorId),
      nextBatch: () => this.#dispatcher.nextBatch,
      oldestBatch: () => this.#dispatcher.oldestBatch,
    });
    this.#sessionEnds = new SessionEnds((task) => this.#run(task), config.CHAT_PRESENCE_GRACE_MS);
    this.#gatekeeper = new Gatekeeper(this.#router, this.#dispatcher, {
      maxConnections: config.CHAT_MAX_CONNECTIONS,
      connectionsPerAddress: config.CHAT_CONNECTIONS_PER_ADDRESS,
      hello: {
        protocol: 1,
        server: this.processId,
        heartbeatMs: config.CHAT_HEARTBEAT_MS,
        timeoutMs: config.CHAT_HEARTBEAT_TIMEOUT_MS,
        loginTimeoutMs: config.CHAT_LOGIN_TIMEOUT_MS,
        maxFrameBytes: config.CHAT_MAX_FRAME_BYTES,
        maxTextChars: config.CHAT_MAX_TEXT_CHARS,
        features: [...FEATURES],
      },
    });
  }

  /**
   * Prepares the database (waiting up to a minute for it), then listens.
   * @param databaseUrl as `CHAT_MYSQL_URL`, or of the embedded database
   * @throws {Error} when the database can't be prepared or the port is taken
   */
  static async start(config: Config, databaseUrl: string): Promise<ChatServer> {
    const server = new ChatServer(config, databaseUrl);
    try {
      await server.#prepare();
      await server.#listen();
      await server.#maintain();
      return server;
    } catch (error) {
      await server.stop();
      throw error;
    }
  }

  /** Where the TCP listener is. */
  get address(): { readonly host: string; readonly port: number } {
    return this.#transport?.address ?? { host: this.#config.CHAT_TCP_HOST, port: 0 };
  }

  /** Number of connections now. */
  get connections(): number {
    return this.#router.clients.size;
  }

  /** Tells the clients, finishes what was accepted, closes everything. Further calls wait for the first. */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  async #prepare(): Promise<void> {
    const giveUpAt = performance.now() + PREPARE_TIMEOUT_MS;
    for (let isFirst = true; ; isFirst = false) {
      const answer = await this.#pool.run({ kind: 'prepare' });
      if (answer.ok) return;
      if (performance.now() > giveUpAt) throw new StartError(`the database is not ready: ${answer.reason}`);
      if (isFirst) log.store.warn('waiting for the database', { reason: answer.reason });
      await sleep(PREPARE_RETRY_MS);
    }
  }

  async #listen(): Promise<void> {
    const config = this.#config;
    this.#transport = await listenTcp(
      {
        host: config.CHAT_TCP_HOST,
        port: config.CHAT_TCP_PORT,
        backlog: LISTEN_BACKLOG,
        maxFrameBytes: config.CHAT_MAX_FRAME_BYTES,
        outputLimitBytes: config.CHAT_OUTPUT_LIMIT_BYTES,
        input: new InputBudget(Math.max(MIN_INPUT_BYTES, 4 * config.CHAT_MAX_FRAME_BYTES)),
        tls: readTls(config),
        nextId: () => this.#gatekeeper.nextId(),
      },
      this.#gatekeeper,
    ).catch((error: unknown) => {
      throw listenProblem(error, config);
    });
    this.#liveness = new Liveness(this.#router.clients, {
      heartbeatTimeoutMs: config.CHAT_HEARTBEAT_TIMEOUT_MS,
      loginTimeoutMs: config.CHAT_LOGIN_TIMEOUT_MS,
    });
  }

  /** A task that can't reject: a dead thread is the same as a database that is away. */
  async #run(task: Task): Promise<TaskAnswer> {
    try {
      return await this.#pool.run(task);
    } catch (error) {
      if (this.#stopping === undefined) log.server.error('task failed', { task: task.kind }, error);
      return { ok: false, reason: 'the task failed' };
    }
  }

  /** Renews the lease and goes on doing so. */
  async #maintain(): Promise<void> {
    const { host, port } = this.address;
    const status: ProcessStatus = {
      host: hostname(),
      pid: process.pid,
      tcpAddress: `${host}:${port}`,
      connections: this.connections,
    };
    const answer = await this.#run({ kind: 'maintain', status, reconcile: this.#reconciliations > 0 });
    if (this.#stopping !== undefined) return;
    if (answer.ok && answer.sessionIds !== undefined) this.#reconcile(answer.sessionIds);
    const wait = answer.ok ? MAINTAIN_MS : MAINTAIN_RETRY_MS;
    this.#maintenance = setTimeout(() => void this.#maintain(), wait);
  }

  /** A transaction's outcome is unknown: rooms may have moved, and a login may have left a session. */
  #inDoubt(roomIds: readonly RoomId[]): void {
    this.#healer.suspect(roomIds);
    this.#reconciliations = RECONCILIATIONS;
  }

  /** Ends the sessions of this process that no connection has: their users would stay online for ever. */
  #reconcile(sessionIds: readonly SessionId[]): void {
    this.#reconciliations--;
    const connected = this.#router.sessionIds;
    for (const sessionId of sessionIds) {
      if (connected.has(sessionId) || this.#sessionEnds.has(sessionId)) continue;
      log.presence.warn('session without a connection', { session: sessionId });
      this.#sessionEnds.add(sessionId, false);
    }
  }

  /** Every step has a limit of its own; together they stay below the 7 s after which `npm start` kills the process. */
  async #stop(): Promise<void> {
    clearTimeout(this.#maintenance);
    this.#liveness?.stop();
    await this.#transport?.stopListening();
    const { clients } = this.#router;
    for (const { connection } of clients.values()) {
      connection.pause(true);
      const reconnectAfterMs = Math.round(
        MIN_RECONNECT_MS + Math.random() * (MAX_RECONNECT_MS - MIN_RECONNECT_MS),
      );
      connection.send(Buffer.from(eventLine('server.closing', { reconnectAfterMs })));
    }
    await waitUntil(() => this.#dispatcher.isIdle, DRAIN_MS);
    for (const { connection } of [...clients.values()]) connection.close('SERVER_CLOSING');
    await waitUntil(() => clients.size === 0, LINGER_MS);
    await this.#transport?.destroy();
    this.#dispatcher.stop();
    this.#healer.stop();
    this.#sessionEnds.stop();
    if (this.#transport !== undefined) {
      await Promise.race([this.#run({ kind: 'retire' }), sleep(RETIRE_MS, undefined, { ref: false })]);
    }
    await this.#pool.close();
  }
}

function readTls({ tls }: Config): { cert: string; key: string } | null {
  if (tls === null) return null;
  try {
    return { cert: readFileSync(tls.cert, 'utf8'), key: readFileSync(tls.key, 'utf8') };
  } catch (error) {
    throw new StartError(`CHAT_TLS_CERT and CHAT_TLS_KEY can not be read: ${messageOf(error)}`);
  }
}

/** Why it can not listen, in words for whoever started it. */
function listenProblem(error: unknown, { CHAT_TCP_HOST: host, CHAT_TCP_PORT: port }: Config): StartError {
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  if (code === 'EADDRINUSE') {
    return new StartError(
      `port ${port} of ${host} is taken (${code}): end the other program, or set CHAT_TCP_PORT`,
    );
  }
  if (code.startsWith('ERR_OSSL')) {
    return new StartError(`CHAT_TLS_CERT and CHAT_TLS_KEY do not do as a pair: ${messageOf(error)}`);
  }
  return new StartError(`can not listen on port ${port} of ${host}: ${messageOf(error)}`);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

async function waitUntil(condition: () => boolean, ms: number): Promise<void> {
  const giveUpAt = performance.now() + ms;
  while (!condition() && performance.now() < giveUpAt) await sleep(STOP_TICK_MS);
}
