import { randomUUID } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { ChatClient, ConnectionLost, ProtocolError, TimedOut } from '../../src/cli/client.js';
import type { OkData } from '../../src/shared/protocol/requests.js';
import { type TestServer, tokenFor, type UserName, userIdOf } from './server.js';

/** ms that a courier waits for a reply before it takes the outcome as unknown. */
const PATIENCE_MS = 15_000;
/** ms between two tries: shorter than what the server asks for, as the tests wait for it. */
const RETRY_MS = 100;

/** A message as a courier knows it. */
export interface Sent {
  readonly roomId: number;
  readonly clientMessageId: string;
  readonly text: string;
}

/**
 * A phone as PROTOCOL wants it to be: it sends one message after the other, repeats what was not acknowledged with the
 * same `clientMessageId`, comes back when the connection is lost, and keeps books of what it was told.
 */
export class Courier {
  readonly name: UserName;
  readonly device: string;
  /** What `ok` said, by `clientMessageId`. */
  readonly acknowledged = new Map<string, { readonly sent: Sent; readonly ok: OkData<'message.send'> }>();
  /** What must not happen: entries out of order, twice or not at all on one connection, refusals. */
  readonly problems: string[] = [];
  /** How long each reply to a send or login took, ms, with the code it was answered with. */
  readonly answers: { readonly code: string; readonly ms: number; readonly at: number }[] = [];
  /** The reason for every connection that was lost. */
  readonly losses: string[] = [];
  /** What `server.closing` said on each connection. */
  readonly closings: number[] = [];
  #server: Pick<TestServer, 'port'>;
  #client: ChatClient | undefined;
  /** The last entry of each room that came on this connection. */
  readonly #positions = new Map<number, number>();
  #running: Promise<void> = Promise.resolve();
  #isStopping = false;

  constructor(server: Pick<TestServer, 'port'>, name: UserName, device: string) {
    this.#server = server;
    this.name = name;
    this.device = device;
  }

  get client(): ChatClient {
    if (this.#client === undefined) throw new Error(`${this.device} is not connected`);
    return this.#client;
  }

  /** The last entry of a room that this device got, on its present connection. */
  position(roomId: number): number {
    return this.#positions.get(roomId) ?? 0;
  }

  /** From now on this one is connected to. */
  moveTo(server: Pick<TestServer, 'port'>): void {
    this.#server = server;
  }

  /** Connects and logs in, again and again until it works or the courier is stopped. */
  async login(): Promise<void> {
    const userId = userIdOf(this.name);
    while (!this.#isStopping) {
      const startedAt = performance.now();
      try {
        const client = await ChatClient.connect({ host: '127.0.0.1', port: this.#server.port });
        this.#client = client;
        client.on('message', ({ roomId, seq }) => this.#arrived(roomId, seq));
        client.on('server.closing', ({ reconnectAfterMs }) => this.closings.push(reconnectAfterMs));
        void client.closed.then(({ error, cause }) => {
          if (!this.#isStopping) this.losses.push(error?.code ?? cause?.message ?? 'closed');
        });
        await client.login(
          { token: await tokenFor(userId) },
          { id: this.device },
          {
            timeoutMs: PATIENCE_MS,
            onOk: ({ rooms }) => {
              this.#positions.clear();
              for (const room of rooms) this.#positions.set(room.id, room.lastSeq);
            },
          },
        );
        this.#answered('ok', startedAt);
        return;
      } catch (error) {
        this.#client?.destroy();
        this.#failed(error, startedAt);
        await sleep(RETRY_MS);
      }
    }
  }

  /** Sends to the rooms in turn until {@link stop}. */
  start(roomIds: readonly number[], pauseMs = 0): void {
    const run = async (): Promise<void> => {
      for (let n = 0; !this.#isStopping; n++) {
        const roomId = roomIds[n % roomIds.length] ?? 0;
        await this.#deliver({ roomId, clientMessageId: randomUUID(), text: `${this.device} ${n} 안녕` });
        if (pauseMs > 0) await sleep(pauseMs);
      }
    };
    this.#running = run();
  }

  /** Lets the message in hand be acknowledged and sends no more; the connection stays. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    await this.#running;
  }

  /** Sends until there is an `ok`. While stopping it still tries, but not for ever. */
  async #deliver(sent: Sent): Promise<void> {
    const { roomId, clientMessageId, text } = sent;
    const giveUpAt = performance.now() + 60_000;
    while (performance.now() < giveUpAt) {
      const startedAt = performance.now();
      try {
        const ok = await this.client.request(
          'message.send',
          { roomId, clientMessageId, kind: 'text', text },
          {
            timeoutMs: PATIENCE_MS,
            onOk: ({ seq, duplicate }) => {
              if (!duplicate) this.#arrived(roomId, seq);
            },
          },
        );
        this.#answered('ok', startedAt);
        this.acknowledged.set(clientMessageId, { sent, ok });
        return;
      } catch (error) {
        this.#failed(error, startedAt);
        if (this.#client?.isClosed !== false) {
          if (this.#isStopping) return;
          await this.login();
        } else await sleep(RETRY_MS);
      }
    }
    this.problems.push(`${this.device}: ${clientMessageId} was never acknowledged`);
  }

  #arrived(roomId: number, seq: number): void {
    const expected = this.position(roomId) + 1;
    if (seq !== expected) {
      this.problems.push(`${this.device}: room ${roomId} came with ${seq} where ${expected} was due`);
    }
    this.#positions.set(roomId, Math.max(seq, this.position(roomId)));
  }

  #answered(code: string, startedAt: number): void {
    const at = performance.now();
    this.answers.push({ code, ms: at - startedAt, at });
  }

  #failed(error: unknown, startedAt: number): void {
    if (error instanceof ProtocolError) {
      this.#answered(error.code, startedAt);
      if (!error.retryable && error.code !== 'SESSION_REVOKED') {
        this.problems.push(`${this.device}: ${error.code} ${error.message}`);
      }
    } else if (error instanceof TimedOut) {
      this.problems.push(`${this.device}: ${error.message}`);
    } else if (!(error instanceof ConnectionLost)) {
      throw error;
    }
  }
}

/** Asks every few ms whether the server is still there, and keeps the longest it took. */
export class Pinger {
  longestMs = 0;
  count = 0;
  failure: unknown;
  readonly #client: ChatClient;
  #isStopping = false;
  readonly #running: Promise<void>;

  constructor(client: ChatClient) {
    this.#client = client;
    this.#running = this.#run();
  }

  async stop(): Promise<void> {
    this.#isStopping = true;
    await this.#running;
  }

  async #run(): Promise<void> {
    while (!this.#isStopping) {
      const startedAt = performance.now();
      try {
        await this.#client.request('ping');
      } catch (error) {
        this.failure ??= error;
        return;
      }
      this.longestMs = Math.max(this.longestMs, performance.now() - startedAt);
      this.count++;
      await sleep(20);
    }
  }
}

/** Waits until a condition holds; fails with its name if that takes too long. */
export async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
  timeoutMs = 20_000,
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`still waiting after ${timeoutMs} ms until ${what}`);
    await sleep(10);
  }
}

/** Stops a process as a debugger does, and waits until none of its threads runs any more. */
export async function freeze(pid: number): Promise<void> {
  process.kill(pid, 'SIGSTOP');
  const tasks = `/proc/${pid}/task`;
  if (!existsSync(tasks)) return sleep(200);
  await until('the process has stopped', () =>
    readdirSync(tasks).every((task) => / [TtZX] /.test(readFileSync(`${tasks}/${task}/stat`, 'utf8'))),
  );
}

/** The port that a chat process has written into its log that it listens on. */
export async function listeningPort(logFile: string): Promise<number> {
  let port: string | undefined;
  // What is on standard output may still be on its way to the file.
  await until('the port is in the log', () => {
    port = / ready .*address=\S+?:(\d+)/.exec(readFileSync(logFile, 'utf8'))?.[1];
    return port !== undefined;
  });
  return Number(port);
}

/** What is wrong with the rooms' streams, compared with the couriers' books; empty when all is well. */
export async function audit(
  server: TestServer,
  couriers: readonly Courier[],
  roomIds: readonly number[],
): Promise<string[]> {
  const wrong: string[] = couriers.flatMap((courier) => courier.problems);
  const stored = new Map<string, { roomId: number; seq: number; body: string }>();
  for (const roomId of roomIds) {
    const entries = await server.sql(
      'SELECT seq, ordinal, kind, client_message_id, body FROM chat_entry WHERE room_id = ? ORDER BY seq',
      [roomId],
    );
    let ordinal = 0;
    for (const [i, entry] of entries.entries()) {
      if (entry.seq !== i + 1) wrong.push(`room ${roomId} has a hole before ${entry.seq}`);
      if (entry.kind !== 'system') ordinal++;
      if (entry.ordinal !== ordinal) wrong.push(`room ${roomId}, ${entry.seq}: ordinal ${entry.ordinal}`);
      if (entry.client_message_id === null) continue;
      const key = String(entry.client_message_id);
      if (stored.has(key)) wrong.push(`${key} is stored twice`);
      stored.set(key, { roomId, seq: Number(entry.seq), body: String(entry.body) });
    }
    const [room] = await server.sql('SELECT last_seq FROM chat_room WHERE id = ?', [roomId]);
    if (room?.last_seq !== entries.length) wrong.push(`room ${roomId}: last_seq ${room?.last_seq}`);
  }
  for (const courier of couriers) {
    for (const { sent, ok } of courier.acknowledged.values()) {
      const entry = stored.get(sent.clientMessageId);
      if (entry === undefined) wrong.push(`${sent.clientMessageId} was acknowledged and is lost`);
      else if (entry.roomId !== sent.roomId || entry.seq !== ok.seq || entry.body !== sent.text) {
        wrong.push(`${sent.clientMessageId} is not where its ok said`);
      }
    }
  }
  return wrong;
}

/** Waits until every device has got everything that is stored, without another message having to come. */
export async function caughtUp(
  server: TestServer,
  couriers: readonly Courier[],
  roomIds: readonly number[],
): Promise<void> {
  for (const roomId of roomIds) {
    const [room] = await server.sql('SELECT last_seq FROM chat_room WHERE id = ?', [roomId]);
    const lastSeq = Number(room?.last_seq);
    await until(`every device has room ${roomId} up to ${lastSeq}`, () =>
      couriers.every((courier) => courier.position(roomId) >= lastSeq),
    );
  }
}
