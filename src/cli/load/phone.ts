import type { Room } from '../../shared/protocol/objects.js';
import { ChatClient, ConnectionLost, type ConnectOptions, ProtocolError, TimedOut } from '../client.js';
import type { Ledger } from './ledger.js';

export interface PhoneOptions {
  /** Unique among the phones of a run: part of its `clientMessageId`s. */
  readonly name: string;
  readonly deviceId: string;
  readonly userId: number;
  readonly who: { readonly token: string } | { readonly userId: number };
  readonly server: ConnectOptions;
  readonly textBytes: number;
}

/** How long a logout at the end may take, ms. */
const LOGOUT_MS = 2000;
/** First and longest wait before a reconnect, ms; each is drawn at random below a limit that doubles. */
const BACKOFF_MS = { first: 200, longest: 5000 };
/** Wait before a send that was refused for now is repeated, where the server didn't say how long, ms. */
const RETRY_MS = 500;
/** Messages typed while there is no answer; more are not typed. */
const OUTBOX_LIMIT = 1000;
/** Codes after which the server wants no reconnect. */
const FINAL = new Set(['AUTH_FAILED', 'SESSION_REVOKED']);

interface Outgoing {
  readonly key: string;
  readonly roomId: number;
  readonly text: string;
}

/**
 * One simulated user as a careful phone: it pings, reconnects with backoff and jitter, reads with `sync` what it
 * missed, repeats an unanswered send with the same `clientMessageId`, and tells the ledger everything it sees.
 */
export class Phone {
  readonly #options: PhoneOptions;
  readonly #ledger: Ledger;
  /** Rooms of this run that the phone is in. */
  readonly #rooms = new Set<number>();
  readonly #outbox = new Map<string, Outgoing>();
  readonly #timers = new Set<NodeJS.Timeout>();
  #client: ChatClient | undefined;
  #sentKeys = 0;
  /** Frames of `message.send` on the present connection. */
  #attempts = 0;
  #syncing = false;
  #syncAgain = false;
  #stopped = false;
  #reconnects = 0;
  #wait: { readonly wake: () => void } | undefined;
  /** Why the phone gave up, if it did. */
  #failure: Error | undefined;

  constructor(options: PhoneOptions, ledger: Ledger) {
    this.#options = options;
    this.#ledger = ledger;
  }

  get userId(): number {
    return this.#options.userId;
  }

  /** Connections made after the first. */
  get reconnects(): number {
    return this.#reconnects;
  }

  get failure(): Error | undefined {
    return this.#failure;
  }

  /** The connection, while there is one that is logged in. */
  get client(): ChatClient | undefined {
    return this.#client;
  }

  /** Connects and logs in; what fails here is thrown, later the phone helps itself. */
  async start(): Promise<void> {
    await this.#connect();
  }

  /** Makes a room with these users and begins to follow it. */
  async createRoom(name: string, memberIds: number[]): Promise<Room> {
    const client = this.#client;
    if (client === undefined) throw new Error('not connected');
    const { room } = await client.request(
      'room.create',
      { name, visibility: 'private', memberIds, clientRoomId: name },
      { onOk: (ok) => this.#follow(ok.room) },
    );
    return room;
  }

  /** Allows entries of this room: the login that follows finds it. */
  expectRoom(roomId: number): void {
    this.#rooms.add(roomId);
  }

  /** Sends a message into a room, or keeps it for when there is a connection. */
  send(roomId: number): void {
    if (this.#outbox.size >= OUTBOX_LIMIT || this.#failure !== undefined) return;
    const { name, textBytes, userId } = this.#options;
    const key = `${name}-${++this.#sentKeys}`;
    const message = { key, roomId, text: textOf(key, textBytes) };
    this.#outbox.set(key, message);
    this.#ledger.sent(key, userId, message.text, performance.now());
    if (this.#client !== undefined) void this.#transmit(this.#client, message);
  }

  /** Logs out and ends the connection for good. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#wait?.wake();
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
    // Without a logout the simulated users would stay online for the grace of a lost connection.
    await this.#client?.request('auth.logout', {}, { timeoutMs: LOGOUT_MS }).catch(() => undefined);
    await this.#client?.close();
  }

  async #connect(): Promise<void> {
    const { server, who, deviceId } = this.#options;
    const client = await ChatClient.connect({ ...server, keepEvents: 0 });
    try {
      client.on('message', (entry) => {
        if (!this.#rooms.has(entry.roomId)) return;
        const inOrder = this.#ledger.received(this.userId, entry, performance.now());
        if (!inOrder) void this.#sync(client);
      });
      let reconnectAfterMs: number | undefined;
      client.on('server.closing', (data) => {
        reconnectAfterMs = data.reconnectAfterMs;
      });
      const behind: number[] = [];
      await client.login(
        who,
        { id: deviceId, platform: 'load' },
        {
          onOk: ({ rooms }) => {
            this.#attempts = 0;
            for (const room of rooms) {
              if (!this.#rooms.has(room.id)) continue;
              this.#follow(room);
              if (this.#ledger.cursor(this.userId, room.id) < room.lastSeq) behind.push(room.id);
            }
          },
        },
      );
      if (this.#stopped) {
        client.destroy();
        return;
      }
      this.#client = client;
      const heartbeat = setInterval(() => this.#ping(client), client.hello.heartbeatMs);
      this.#timers.add(heartbeat);
      void client.closed.then(({ error }) => {
        clearInterval(heartbeat);
        this.#timers.delete(heartbeat);
        this.#client = undefined;
        if (error !== null && FINAL.has(error.code)) this.#failure = error;
        else if (!this.#stopped) void this.#reconnect(reconnectAfterMs);
      });
      if (behind.length > 0) void this.#sync(client);
      for (const message of this.#outbox.values()) void this.#transmit(client, message);
    } catch (error) {
      client.destroy();
      throw error;
    }
  }

  async #reconnect(firstWaitMs: number | undefined): Promise<void> {
    let limit = BACKOFF_MS.first;
    let wait = firstWaitMs ?? Math.random() * limit;
    while (!this.#stopped) {
      await this.#pause(wait);
      if (this.#stopped) return;
      try {
        await this.#connect();
        this.#reconnects++;
        return;
      } catch (error) {
        if (error instanceof ProtocolError && FINAL.has(error.code)) {
          this.#failure = error;
          return;
        }
        limit = Math.min(limit * 2, BACKOFF_MS.longest);
        const asked = error instanceof ProtocolError ? (error.retryAfterMs ?? 0) : 0;
        wait = asked + Math.random() * limit;
      }
    }
  }

  #follow(room: Room): void {
    this.#rooms.add(room.id);
    this.#ledger.connected(this.userId, room.id, room.lastSeq);
  }

  #ping(client: ChatClient): void {
    client.request('ping', {}, { timeoutMs: client.hello.timeoutMs }).catch((error: unknown) => {
      // A server that answers nothing for so long is gone, whatever TCP thinks.
      if (error instanceof TimedOut) client.destroy();
    });
  }

  async #transmit(client: ChatClient, message: Outgoing): Promise<void> {
    const { key, roomId, text } = message;
    const attempt = ++this.#attempts;
    try {
      await client.request(
        'message.send',
        { roomId, clientMessageId: key, kind: 'text', text },
        {
          onOk: (ok) => {
            this.#outbox.delete(key);
            if (!this.#ledger.acknowledged(key, ok, attempt, performance.now())) void this.#sync(client);
          },
        },
      );
    } catch (error) {
      // Repeated on the next connection.
      if (error instanceof ConnectionLost) return;
      if (error instanceof ProtocolError && !error.retryable) {
        this.#outbox.delete(key);
        this.#ledger.refused(key, `${error.code}: ${error.message}`);
        return;
      }
      const asked = error instanceof ProtocolError ? (error.retryAfterMs ?? RETRY_MS) : 0;
      this.#later(asked, () => {
        if (this.#client === client && this.#outbox.has(key)) void this.#transmit(client, message);
      });
    }
  }

  /** Reads what is missing, room by room from the cursor, until nothing is. One at a time per phone. */
  async #sync(client: ChatClient): Promise<void> {
    if (this.#syncing) {
      this.#syncAgain = true;
      return;
    }
    this.#syncing = true;
    try {
      let more = true;
      while (more && !client.isClosed) {
        this.#syncAgain = false;
        const cursors = [...this.#rooms].map((roomId) => ({
          roomId,
          afterSeq: this.#ledger.cursor(this.userId, roomId),
        }));
        const { rooms } = await client.request('sync', { cursors });
        more = this.#syncAgain;
        for (const { room, events, hasMore } of rooms) {
          const afterSeq = cursors.find((cursor) => cursor.roomId === room.id)?.afterSeq;
          if (afterSeq === undefined) continue;
          const entries = events.map((event) => event.data);
          this.#ledger.synced(this.userId, room.id, afterSeq, entries, performance.now());
          more ||= hasMore;
        }
      }
    } catch (error) {
      if (error instanceof ConnectionLost) return;
      const asked = error instanceof ProtocolError ? (error.retryAfterMs ?? RETRY_MS) : 0;
      this.#later(asked, () => void this.#sync(client));
    } finally {
      this.#syncing = false;
    }
  }

  #later(ms: number, fn: () => void): void {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      fn();
    }, ms);
    this.#timers.add(timer);
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      this.#later(ms, resolve);
      this.#wait = { wake: resolve };
    });
  }
}

// Three bytes, two, one and four per character: what an encoding mistake would break.
const FILLER = '가나다라마바사 éßñ abc 😀👍 ';
const FILLER_BYTES = Buffer.byteLength(FILLER);

/** A text of exactly `bytes` bytes in UTF-8 that begins with its key, so that no two are alike. */
export function textOf(key: string, bytes: number): string {
  const start = `${key} `;
  const room = bytes - Buffer.byteLength(start);
  if (room < 0) return key.slice(-bytes);
  const repeated = FILLER.repeat(Math.floor(room / FILLER_BYTES));
  // What is left is cut between characters and made up with dots.
  let rest = '';
  let left = room % FILLER_BYTES;
  for (const character of FILLER) {
    const size = Buffer.byteLength(character);
    if (size > left) break;
    rest += character;
    left -= size;
  }
  return start + repeated + rest + '.'.repeat(left);
}
