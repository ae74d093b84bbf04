import { EventEmitter } from 'node:events';
import { connect as connectTcp, type Socket } from 'node:net';
import { type ConnectionOptions, connect as connectTls } from 'node:tls';
import type { CloseReason } from '../shared/closes.js';
import type { ErrorCode, Issue } from '../shared/errors.js';
import type { EventData, EventType } from '../shared/protocol/events.js';
import type { OkData, RequestData, RequestId, RequestType } from '../shared/protocol/requests.js';

/** The `error` object of PROTOCOL 2: in a reply, or with `id` null before the server closes. */
export interface WireError {
  readonly code: ErrorCode | CloseReason;
  readonly message: string;
  readonly retryable: boolean;
  readonly retryAfterMs?: number;
  readonly issues?: readonly Issue[];
  readonly traceId?: string;
}

/** One event as it came. */
export interface EventOf<T extends EventType> {
  readonly type: T;
  readonly data: EventData<T>;
}
/** Any event as it came. */
export type ChatEvent = { [T in EventType]: EventOf<T> }[EventType];

/** A reply as it came. */
export type Reply =
  | { readonly type: 'ok'; readonly id: RequestId; readonly data: unknown }
  | { readonly type: 'error'; readonly id: RequestId | null; readonly error: WireError };

/** What the server answered instead of `ok`, or why it ended the connection. */
export class ProtocolError extends Error implements WireError {
  override readonly name = 'ProtocolError';
  readonly code: ErrorCode | CloseReason;
  readonly retryable: boolean;
  /** ms after which to try again, where the server said so. */
  readonly retryAfterMs?: number;
  readonly issues?: readonly Issue[];
  readonly traceId?: string;

  constructor(error: WireError) {
    super(error.message);
    this.code = error.code;
    this.retryable = error.retryable;
    if (error.retryAfterMs !== undefined) this.retryAfterMs = error.retryAfterMs;
    if (error.issues !== undefined) this.issues = error.issues;
    if (error.traceId !== undefined) this.traceId = error.traceId;
  }
}

/** The connection ended before the awaited thing came: for a request, its outcome is unknown. */
export class ConnectionLost extends Error {
  override readonly name = 'ConnectionLost';
  /** The last `error` with `id` null that the server sent, if any. */
  readonly last: ProtocolError | null;

  constructor(waitingFor: string, last: ProtocolError | null, cause: Error | undefined) {
    const reason =
      last !== null ? `${last.code}: ${last.message}` : (cause?.message ?? 'closed by the other side');
    super(`connection lost while waiting for ${waitingFor} (${reason})`, cause && { cause });
    this.last = last;
  }
}

/** Nothing came in time. For a request, its outcome is unknown. */
export class TimedOut extends Error {
  override readonly name = 'TimedOut';
  constructor(waitingFor: string, ms: number) {
    super(`no ${waitingFor} within ${ms} ms`);
  }
}

export interface ConnectOptions {
  readonly host: string;
  readonly port: number;
  /** `true` for TLS with the defaults of Node, or the options of `tls.connect`. */
  readonly tls?: boolean | ConnectionOptions;
  /** Source address, e.g. `127.0.0.2`, when one address has too few ports. */
  readonly localAddress?: string;
  /** ms to connect and get `hello`. Default 10,000. */
  readonly timeoutMs?: number;
  /**
   * How many events {@link ChatClient.events} keeps at least; the oldest go when there are twice as many. 0
   * keeps none. Default: all.
   */
  readonly keepEvents?: number;
}

export interface RequestOptions<T extends RequestType> {
  /** ms to wait for the reply. Default 10,000. */
  readonly timeoutMs?: number;
  /**
   * Called with the data of `ok` while its line is read, before any later line: an event that came in the same
   * packet is seen after it. The promise of the request resolves only when the whole packet was read.
   */
  readonly onOk?: (data: OkData<T>) => void;
}

/** How a connection ended. */
export interface Closed {
  /** The last `error` with `id` null that the server sent, if any. */
  readonly error: ProtocolError | null;
  /** What the operating system said, if it was not an orderly end. */
  readonly cause: Error | undefined;
}

/** Default time for a reply or an event, ms. */
const PATIENCE_MS = 10_000;

interface Pending {
  readonly type: RequestType;
  /** `performance.now()` ms. */
  readonly deadline: number;
  readonly timeoutMs: number;
  // Methods, because their parameters compare both ways: the promise of `request` has the type that belongs to
  // the request, and what the server sent is trusted, not checked, as checking every line would cost too much.
  onOk?(data: unknown): void;
  resolve(data: unknown): void;
  reject(error: Error): void;
}

type Frame = Reply | ChatEvent;

/**
 * A client of the protocol over TCP, for `load`, `doctor` and the tests. It shows the protocol as it is: it
 * doesn't reconnect, retry, answer heartbeats or hide a reply that nobody asked for.
 */
export class ChatClient {
  /** The socket, for tests that stop reading or break the connection. */
  readonly socket: Socket;
  /** Events in the order they came, oldest first, `hello` included. See {@link ConnectOptions.keepEvents}. */
  readonly events: ChatEvent[] = [];
  /** Replies to nothing that {@link request} sent: to raw frames, or a second reply to one request. */
  readonly unmatched: Reply[] = [];
  /** Resolves when the connection is gone. Never rejects. */
  readonly closed: Promise<Closed>;

  readonly #pending = new Map<RequestId, Pending>();
  readonly #emitter = new EventEmitter().setMaxListeners(0);
  readonly #keepEvents: number;
  #nextId = 1;
  /** Start of a line whose end has not come yet. */
  #partial: Buffer[] = [];
  /** One timer for all requests, set for the earliest deadline known when it was set. */
  #timer: NodeJS.Timeout | undefined;
  #timerAt = Number.POSITIVE_INFINITY;
  #lastError: ProtocolError | null = null;
  #cause: Error | undefined;
  #gone = false;
  #hello: EventData<'hello'> | undefined;

  private constructor(socket: Socket, keepEvents: number) {
    this.socket = socket;
    this.#keepEvents = keepEvents;
    socket.setNoDelay(true);
    socket.on('data', (chunk: Buffer) => this.#receive(chunk));
    socket.on('error', (error) => {
      this.#cause = error;
    });
    this.closed = new Promise((resolve) => {
      socket.on('close', () => {
        this.#end();
        resolve({ error: this.#lastError, cause: this.#cause });
      });
    });
  }

  /**
   * Connects and waits for `hello`.
   * @throws {ProtocolError} if the server refuses the connection with an `error`
   * @throws {ConnectionLost} if nobody listens or the connection ends before `hello`
   * @throws {TimedOut}
   */
  static async connect(options: ConnectOptions): Promise<ChatClient> {
    const { host, port, localAddress, tls = false } = options;
    const address = { host, port, ...(localAddress !== undefined && { localAddress }) };
    const socket =
      tls === false ? connectTcp(address) : connectTls({ ...address, ...(tls === true ? undefined : tls) });
    const client = new ChatClient(socket, options.keepEvents ?? Number.POSITIVE_INFINITY);
    try {
      // Not from `events`, which may keep none.
      await client.#once('hello', 'hello', options.timeoutMs ?? PATIENCE_MS);
      return client;
    } catch (error) {
      socket.destroy();
      throw error instanceof ConnectionLost && error.last !== null ? error.last : error;
    }
  }

  /** What the server said first. */
  get hello(): EventData<'hello'> {
    if (this.#hello === undefined) throw new Error('no hello yet');
    return this.#hello;
  }

  /** Whether the connection has ended. */
  get isClosed(): boolean {
    return this.#gone;
  }

  /** The last `error` with `id` null that the server sent, if any. */
  get lastError(): ProtocolError | null {
    return this.#lastError;
  }

  /**
   * Sends a request and resolves with the `data` of its `ok`.
   * @throws {ProtocolError} with what the server answered instead
   * @throws {ConnectionLost} if the connection ends first
   * @throws {TimedOut} after `timeoutMs` (10,000 by default)
   */
  request<T extends RequestType>(
    type: T,
    ...[data, options]: Record<string, never> extends RequestData<T>
      ? [data?: RequestData<T>, options?: RequestOptions<T>]
      : [data: RequestData<T>, options?: RequestOptions<T>]
  ): Promise<OkData<T>> {
    return new Promise((resolve, reject) => {
      if (this.#gone) {
        reject(new ConnectionLost(`the reply to ${type}`, this.#lastError, this.#cause));
        return;
      }
      const id = this.#nextId++;
      const timeoutMs = options?.timeoutMs ?? PATIENCE_MS;
      const deadline = performance.now() + timeoutMs;
      this.#pending.set(id, {
        type,
        deadline,
        timeoutMs,
        resolve,
        reject,
        ...(options?.onOk && { onOk: options.onOk }),
      });
      if (deadline < this.#timerAt) this.#setTimer(deadline);
      this.socket.write(`${JSON.stringify({ id, type, data })}\n`);
    });
  }

  /** `auth.login` with a token, or with a user id where the server is in open mode. */
  login(
    who: { readonly token: string } | { readonly userId: number },
    device: RequestData<'auth.login'>['device'],
    options?: RequestOptions<'auth.login'>,
  ): Promise<OkData<'auth.login'>> {
    return this.request('auth.login', { ...who, device }, options);
  }

  /** Sends bytes as they are. What is answered to them is found with {@link waitForReply}. */
  sendRaw(bytes: string | Uint8Array): void {
    this.socket.write(bytes);
  }

  /**
   * The next reply with this `id` (null: the server could not read one) that belongs to no {@link request}; one
   * that is there already counts. Each is returned once.
   * @throws {ConnectionLost}
   * @throws {TimedOut}
   */
  waitForReply(id: RequestId | null, timeoutMs = PATIENCE_MS): Promise<Reply> {
    const take = (): Reply | undefined => {
      const index = this.unmatched.findIndex((reply) => reply.id === id);
      return index < 0 ? undefined : this.unmatched.splice(index, 1)[0];
    };
    return this.#await('unmatched', `reply with id ${JSON.stringify(id)}`, timeoutMs, take);
  }

  /** Calls `fn` with every later event of that type; returns what stops it. */
  on<T extends EventType>(type: T, fn: (data: EventData<T>) => void): () => void {
    const name = `event ${type}`;
    this.#emitter.on(name, fn);
    return () => this.#emitter.off(name, fn);
  }

  /**
   * The first event of that type that fits; events that came before and are still in {@link events} count.
   * @throws {ConnectionLost}
   * @throws {TimedOut}
   */
  waitFor<T extends EventType>(
    type: T,
    fits: (data: EventData<T>) => boolean = () => true,
    timeoutMs = PATIENCE_MS,
  ): Promise<EventData<T>> {
    for (const event of this.events) {
      if (isOf(event, type) && fits(event.data)) return Promise.resolve(event.data);
    }
    return this.#await(`event ${type}`, `event ${type}`, timeoutMs, (data?: EventData<T>) =>
      data !== undefined && fits(data) ? data : undefined,
    );
  }

  /** Ends the connection in order, without `auth.logout`, and waits until it is gone. */
  async close(): Promise<Closed> {
    this.socket.end();
    // A server that doesn't close its side, or isn't read, must not keep a test waiting.
    this.socket.resume();
    const cut = setTimeout(() => this.socket.destroy(), 2000);
    const closed = await this.closed;
    clearTimeout(cut);
    return closed;
  }

  /** Breaks the connection at once, as a phone does that loses its network. */
  destroy(): void {
    this.socket.destroy();
  }

  /** As {@link socket.resetAndDestroy}: the server sees ECONNRESET. */
  reset(): void {
    this.socket.resetAndDestroy();
  }

  #once<T extends EventType>(type: T, what: string, timeoutMs: number): Promise<EventData<T>> {
    return this.#await(`event ${type}`, what, timeoutMs, (data?: EventData<T>) => data);
  }

  /** Waits until `take`, called now and with each thing emitted under `name`, returns something. */
  #await<A, R>(
    name: string,
    what: string,
    timeoutMs: number,
    take: (argument?: A) => R | undefined,
  ): Promise<R> {
    return new Promise((resolve, reject) => {
      const there = take();
      if (there !== undefined) {
        resolve(there);
        return;
      }
      const stop = () => {
        clearTimeout(timer);
        this.#emitter.off(name, look);
        this.#emitter.off('gone', gone);
      };
      const look = (argument: A) => {
        const found = take(argument);
        if (found === undefined) return;
        stop();
        resolve(found);
      };
      const gone = () => {
        stop();
        reject(new ConnectionLost(what, this.#lastError, this.#cause));
      };
      const timer = setTimeout(() => {
        stop();
        reject(new TimedOut(what, timeoutMs));
      }, timeoutMs);
      if (this.#gone) {
        gone();
        return;
      }
      this.#emitter.on(name, look);
      this.#emitter.on('gone', gone);
    });
  }

  #receive(chunk: Buffer): void {
    let start = 0;
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, start)) {
      if (this.#partial.length > 0) {
        this.#partial.push(chunk.subarray(start, end));
        const line = Buffer.concat(this.#partial);
        this.#partial = [];
        this.#line(line.toString('utf8'));
      } else {
        this.#line(chunk.toString('utf8', start, end));
      }
      start = end + 1;
    }
    if (start < chunk.length) this.#partial.push(start === 0 ? chunk : chunk.subarray(start));
  }

  #line(line: string): void {
    let frame: Frame;
    try {
      frame = JSON.parse(line);
    } catch (error) {
      // The server broke the protocol: nothing after this line can be trusted.
      this.socket.destroy(
        new Error(`the server sent what is not JSON: ${line.slice(0, 200)}`, { cause: error }),
      );
      return;
    }
    if (frame.type === 'ok' || frame.type === 'error') this.#reply(frame);
    else this.#event(frame);
  }

  #reply(reply: Reply): void {
    if (reply.id !== null) {
      const pending = this.#pending.get(reply.id);
      if (pending !== undefined) {
        this.#pending.delete(reply.id);
        if (reply.type === 'ok') {
          pending.onOk?.(reply.data);
          pending.resolve(reply.data);
        } else pending.reject(new ProtocolError(reply.error));
        return;
      }
    } else if (reply.type === 'error') {
      this.#lastError = new ProtocolError(reply.error);
    }
    this.unmatched.push(reply);
    this.#emitter.emit('unmatched');
  }

  #event(event: ChatEvent): void {
    if (event.type === 'hello') this.#hello = event.data;
    if (this.#keepEvents > 0) {
      this.events.push(event);
      if (this.events.length >= 2 * this.#keepEvents) {
        this.events.splice(0, this.events.length - this.#keepEvents);
      }
    }
    this.#emitter.emit(`event ${event.type}`, event.data);
  }

  #setTimer(deadline: number): void {
    clearTimeout(this.#timer);
    this.#timerAt = deadline;
    this.#timer = setTimeout(() => this.#expire(), Math.max(1, deadline - performance.now() + 1));
  }

  #expire(): void {
    const now = performance.now();
    let next = Number.POSITIVE_INFINITY;
    for (const [id, { type, deadline, timeoutMs, reject }] of this.#pending) {
      if (deadline <= now) {
        this.#pending.delete(id);
        reject(new TimedOut(`reply to ${type}`, timeoutMs));
      } else if (deadline < next) {
        next = deadline;
      }
    }
    this.#timerAt = Number.POSITIVE_INFINITY;
    if (next < Number.POSITIVE_INFINITY) this.#setTimer(next);
  }

  #end(): void {
    this.#gone = true;
    clearTimeout(this.#timer);
    for (const { type, reject } of this.#pending.values()) {
      reject(new ConnectionLost(`the reply to ${type}`, this.#lastError, this.#cause));
    }
    this.#pending.clear();
    this.#emitter.emit('gone');
    this.#emitter.removeAllListeners();
  }
}

function isOf<T extends EventType>(
  event: { readonly type: string; readonly data: unknown },
  type: T,
): event is EventOf<T> {
  return event.type === type;
}
