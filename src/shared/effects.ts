import { CLOSES, type CloseReason } from './closes.js';
import { type ConnectionId, id, type RoomId, type Seq, type SessionId, type UserId } from './ids.js';

/**
 * What a worker asks the main thread to do: small typed values with ready-to-send lines. They cross threads
 * packed (numbers in one Float64Array, lines in one buffer): cloning an object per effect would be the largest
 * cost of a message.
 */

/** What happens to one user when an entry of a room is released, and the event that tells their devices. */
export interface Notice {
  readonly userId: UserId;
  /** `add` and `remove` change who gets the room's later entries. */
  readonly change: 'add' | 'remove' | 'none';
  readonly line: Buffer;
}

export type Effect =
  /** A reply to one connection. */
  | { readonly kind: 'reply'; readonly connection: ConnectionId; readonly line: Buffer }
  /**
   * Something that happened in a room at `seq`. With an `event` it is the entry `seq` itself, released in
   * order; without one it happens as soon as the entries up to `seq` are out. The origin connection gets `reply` and
   * no notices; with `replaces` the reply also stands for the event (`message.send`).
   */
  | {
      readonly kind: 'room';
      readonly roomId: RoomId;
      readonly seq: Seq;
      /** 0 where nobody waits for a reply. */
      readonly connection: ConnectionId;
      readonly replaces: boolean;
      readonly reply: Buffer | null;
      readonly event: Buffer | null;
      readonly notices: readonly Notice[];
    }
  /** Marks of a member moved: to the room's members but this connection. */
  | {
      readonly kind: 'receipt';
      readonly roomId: RoomId;
      readonly connection: ConnectionId;
      readonly line: Buffer;
    }
  /** A member types: `event` to the other members, `reply` to the connection; `refusal` is what to run if it is not in the room. */
  | {
      readonly kind: 'typing';
      readonly roomId: RoomId;
      readonly connection: ConnectionId;
      readonly reply: Buffer;
      readonly event: Buffer;
      readonly refusal: Buffer;
    }
  /** The token is good and the session row is there: listen to these rooms for the connection, and hold what comes. */
  | {
      readonly kind: 'admit';
      readonly connection: ConnectionId;
      readonly userId: UserId;
      readonly sessionId: SessionId;
      /** Expiry of the token, ms since the epoch; 0 = none. */
      readonly expiresAt: number;
      readonly roomIds: readonly RoomId[];
    }
  /** The rooms were read after listening began: send the reply, then what was held beyond each `lastSeq`. */
  | {
      readonly kind: 'opened';
      readonly connection: ConnectionId;
      readonly reply: Buffer;
      readonly rooms: readonly { readonly roomId: RoomId; readonly lastSeq: Seq }[];
    }
  /** The login failed after it was admitted: forget the session again. */
  | { readonly kind: 'dismiss'; readonly connection: ConnectionId }
  /** The token was refreshed. */
  | { readonly kind: 'renewed'; readonly connection: ConnectionId; readonly expiresAt: number }
  /** Replace the set of users whose presence the connection is told. */
  | { readonly kind: 'watch'; readonly connection: ConnectionId; readonly userIds: readonly UserId[] }
  /** A user went online or offline: to all who watch. */
  | {
      readonly kind: 'presence';
      readonly userId: UserId;
      /** Counts the changes of this user: an older event than the last one is dropped. */
      readonly version: number;
      readonly line: Buffer;
    }
  /** End a session wherever it is connected. */
  | { readonly kind: 'revoke'; readonly userId: UserId; readonly sessionId: SessionId }
  /** End a connection; `line` stands for the announcement if it is not empty. */
  | {
      readonly kind: 'close';
      readonly connection: ConnectionId;
      readonly reason: CloseReason;
      readonly line: Buffer | null;
    }
  /** A commit whose outcome is unknown touched these rooms: look whether they moved. */
  | { readonly kind: 'suspect'; readonly roomIds: readonly RoomId[] }
  /**
   * The request at place `executed - 1` of the connection's slot goes on in another task, after the effects
   * before this one: run `line` next, then the slot's frames from place `executed`.
   */
  | {
      readonly kind: 'continue';
      readonly connection: ConnectionId;
      readonly executed: number;
      readonly line: Buffer;
    }
  /** An overtaking batch answered the frame at this place of the connection's slot. */
  | { readonly kind: 'overtook'; readonly connection: ConnectionId; readonly place: number }
  /** All frames of the connection's slot are executed: its next ones need not wait for the rest of the batch. */
  | { readonly kind: 'freed'; readonly connection: ConnectionId };

/** Effects as they cross the thread boundary. */
export interface EffectPack {
  readonly numbers: Float64Array;
  readonly bytes: Uint8Array;
}

const OP = {
  reply: 1,
  room: 2,
  receipt: 3,
  typing: 4,
  admit: 5,
  opened: 6,
  dismiss: 7,
  renewed: 8,
  watch: 9,
  presence: 10,
  revoke: 11,
  close: 12,
  suspect: 13,
  continue: 14,
  overtook: 15,
  freed: 16,
} as const satisfies Record<Effect['kind'], number>;

const CHANGES = ['none', 'add', 'remove'] as const;
const CLOSE_REASONS = Object.keys(CLOSES) as CloseReason[];

const FIRST_BUFFER_BYTES = 16 * 1024;
/** A reply is large from so many bytes on: as many smaller ones as a batch may hold are no burden. */
const LARGE_BYTES = 4096;
/** UTF-16 code units become at most three bytes each in UTF-8. */
const MAX_BYTES_PER_UNIT = 3;

/**
 * Collects effects in a worker. Lines are given as strings and encoded straight into the one buffer that is
 * handed over. Method names are the kinds of {@link Effect}.
 */
export class EffectWriter {
  #numbers: number[] = [];
  #bytes = Buffer.allocUnsafeSlow(FIRST_BUFFER_BYTES);
  #used = 0;
  /** Large replies so far, bytes: what a connection should read before it gets more. */
  readonly #large = new Map<ConnectionId, number>();

  /** Bytes of the large replies to this connection since the writer was made. */
  largeReplies(connection: ConnectionId): number {
    return this.#large.get(connection) ?? 0;
  }

  get isEmpty(): boolean {
    return this.#numbers.length === 0;
  }

  reply(connection: ConnectionId, line: string): void {
    this.#numbers.push(OP.reply, connection);
    this.#noteLarge(connection, this.#line(line));
  }

  room(effect: {
    roomId: RoomId;
    seq: Seq;
    connection?: ConnectionId;
    replaces?: boolean;
    reply?: string | undefined;
    event?: string;
    notices?: readonly { userId: UserId; change: Notice['change']; line: string }[];
  }): void {
    const replaces = effect.replaces === true ? 1 : 0;
    this.#numbers.push(OP.room, effect.roomId, effect.seq, effect.connection ?? 0, replaces);
    const replied = this.#line(effect.reply ?? '');
    if (effect.connection !== undefined) this.#noteLarge(effect.connection, replied);
    this.#line(effect.event ?? '');
    const notices = effect.notices ?? [];
    this.#numbers.push(notices.length);
    for (const { userId, change, line } of notices) {
      this.#numbers.push(userId, CHANGES.indexOf(change));
      this.#line(line);
    }
  }

  receipt(roomId: RoomId, connection: ConnectionId, line: string): void {
    this.#numbers.push(OP.receipt, roomId, connection);
    this.#line(line);
  }

  typing(
    roomId: RoomId,
    connection: ConnectionId,
    lines: { reply: string; event: string; refusal: string },
  ): void {
    this.#numbers.push(OP.typing, roomId, connection);
    this.#line(lines.reply);
    this.#line(lines.event);
    this.#line(lines.refusal);
  }

  admit(
    connection: ConnectionId,
    session: { userId: UserId; sessionId: SessionId; expiresAt: number; roomIds: readonly RoomId[] },
  ): void {
    const { userId, sessionId, expiresAt, roomIds } = session;
    this.#numbers.push(OP.admit, connection, userId, sessionId, expiresAt);
    this.#list(roomIds);
  }

  opened(connection: ConnectionId, reply: string, rooms: readonly { roomId: RoomId; lastSeq: Seq }[]): void {
    this.#numbers.push(OP.opened, connection);
    this.#line(reply);
    this.#numbers.push(rooms.length);
    for (const { roomId, lastSeq } of rooms) this.#numbers.push(roomId, lastSeq);
  }

  dismiss(connection: ConnectionId): void {
    this.#numbers.push(OP.dismiss, connection);
  }

  renewed(connection: ConnectionId, expiresAt: number): void {
    this.#numbers.push(OP.renewed, connection, expiresAt);
  }

  watch(connection: ConnectionId, userIds: readonly UserId[]): void {
    this.#numbers.push(OP.watch, connection);
    this.#list(userIds);
  }

  presence(userId: UserId, version: number, line: string): void {
    this.#numbers.push(OP.presence, userId, version);
    this.#line(line);
  }

  revoke(userId: UserId, sessionId: SessionId): void {
    this.#numbers.push(OP.revoke, userId, sessionId);
  }

  close(connection: ConnectionId, reason: CloseReason, line = ''): void {
    this.#numbers.push(OP.close, connection, CLOSE_REASONS.indexOf(reason));
    this.#line(line);
  }

  suspect(roomIds: readonly RoomId[]): void {
    this.#numbers.push(OP.suspect);
    this.#list(roomIds);
  }

  continue(connection: ConnectionId, executed: number, line: string): void {
    this.#numbers.push(OP.continue, connection, executed);
    this.#line(line);
  }

  overtook(connection: ConnectionId, place: number): void {
    this.#numbers.push(OP.overtook, connection, place);
  }

  freed(connection: ConnectionId): void {
    this.#numbers.push(OP.freed, connection);
  }

  /** Hands over what was collected and begins anew. */
  finish(): EffectPack {
    // The bytes are cut to size, as cloning or transferring would carry the unused rest along.
    const pack = {
      numbers: Float64Array.from(this.#numbers),
      bytes: new Uint8Array(this.#bytes.subarray(0, this.#used)),
    };
    this.#numbers = [];
    this.#used = 0;
    if (this.#bytes.length > 16 * FIRST_BUFFER_BYTES)
      this.#bytes = Buffer.allocUnsafeSlow(FIRST_BUFFER_BYTES);
    return pack;
  }

  #noteLarge(connection: ConnectionId, bytes: number): void {
    if (bytes > LARGE_BYTES) this.#large.set(connection, this.largeReplies(connection) + bytes);
  }

  #list(ids: readonly number[]): void {
    this.#numbers.push(ids.length);
    for (const one of ids) this.#numbers.push(one);
  }

  /** Writes a line and returns its bytes. */
  #line(line: string): number {
    const most = line.length * MAX_BYTES_PER_UNIT;
    if (this.#bytes.length - this.#used < most) {
      const grown = Buffer.allocUnsafeSlow(Math.max(this.#bytes.length * 2, this.#used + most));
      this.#bytes.copy(grown, 0, 0, this.#used);
      this.#bytes = grown;
    }
    const length = line === '' ? 0 : this.#bytes.write(line, this.#used, 'utf8');
    this.#used += length;
    this.#numbers.push(length);
    return length;
  }
}

/** Reads a pack back, effect by effect. Lines are views of the pack's one buffer. */
export class EffectReader {
  readonly #numbers: Float64Array;
  readonly #bytes: Buffer;
  #at = 0;
  #byte = 0;

  constructor(pack: EffectPack) {
    this.#numbers = pack.numbers;
    this.#bytes = Buffer.from(pack.bytes.buffer, pack.bytes.byteOffset, pack.bytes.byteLength);
  }

  /** The next effect, or `undefined` after the last. */
  next(): Effect | undefined {
    if (this.#at >= this.#numbers.length) return undefined;
    const op = this.#number();
    switch (op) {
      case OP.reply:
        return { kind: 'reply', connection: id.connection(this.#number()), line: this.#line() };
      case OP.room: {
        const roomId = id.room(this.#number());
        const seq = id.seq(this.#number());
        const connection = id.connection(this.#number());
        const replaces = this.#number() === 1;
        const reply = this.#optionalLine();
        const event = this.#optionalLine();
        return { kind: 'room', roomId, seq, connection, replaces, reply, event, notices: this.#notices() };
      }
      case OP.receipt:
        return {
          kind: 'receipt',
          roomId: id.room(this.#number()),
          connection: id.connection(this.#number()),
          line: this.#line(),
        };
      case OP.typing:
        return {
          kind: 'typing',
          roomId: id.room(this.#number()),
          connection: id.connection(this.#number()),
          reply: this.#line(),
          event: this.#line(),
          refusal: this.#line(),
        };
      case OP.admit:
        return {
          kind: 'admit',
          connection: id.connection(this.#number()),
          userId: id.user(this.#number()),
          sessionId: id.session(this.#number()),
          expiresAt: this.#number(),
          roomIds: this.#list(id.room),
        };
      case OP.opened: {
        const connection = id.connection(this.#number());
        const reply = this.#line();
        const rooms: { roomId: RoomId; lastSeq: Seq }[] = [];
        for (let left = this.#number(); left > 0; left--) {
          rooms.push({ roomId: id.room(this.#number()), lastSeq: id.seq(this.#number()) });
        }
        return { kind: 'opened', connection, reply, rooms };
      }
      case OP.dismiss:
        return { kind: 'dismiss', connection: id.connection(this.#number()) };
      case OP.renewed:
        return { kind: 'renewed', connection: id.connection(this.#number()), expiresAt: this.#number() };
      case OP.watch:
        return { kind: 'watch', connection: id.connection(this.#number()), userIds: this.#list(id.user) };
      case OP.presence:
        return {
          kind: 'presence',
          userId: id.user(this.#number()),
          version: this.#number(),
          line: this.#line(),
        };
      case OP.revoke:
        return { kind: 'revoke', userId: id.user(this.#number()), sessionId: id.session(this.#number()) };
      case OP.close: {
        const connection = id.connection(this.#number());
        const reason = CLOSE_REASONS[this.#number()] ?? 'INTERNAL';
        return { kind: 'close', connection, reason, line: this.#optionalLine() };
      }
      case OP.suspect:
        return { kind: 'suspect', roomIds: this.#list(id.room) };
      case OP.continue:
        return {
          kind: 'continue',
          connection: id.connection(this.#number()),
          executed: this.#number(),
          line: this.#line(),
        };
      case OP.overtook:
        return { kind: 'overtook', connection: id.connection(this.#number()), place: this.#number() };
      case OP.freed:
        return { kind: 'freed', connection: id.connection(this.#number()) };
      default:
        throw new Error(`effect pack is damaged: op ${op} at ${this.#at - 1}`);
    }
  }

  #number(): number {
    return this.#numbers[this.#at++] ?? 0;
  }

  #line(): Buffer {
    const start = this.#byte;
    this.#byte += this.#number();
    return this.#bytes.subarray(start, this.#byte);
  }

  #optionalLine(): Buffer | null {
    const line = this.#line();
    return line.length === 0 ? null : line;
  }

  #list<T>(brand: (n: number) => T): T[] {
    const list: T[] = [];
    for (let left = this.#number(); left > 0; left--) list.push(brand(this.#number()));
    return list;
  }

  #notices(): Notice[] {
    const count = this.#number();
    if (count === 0) return NO_NOTICES;
    const notices: Notice[] = [];
    for (let left = count; left > 0; left--) {
      const userId = id.user(this.#number());
      const change = CHANGES[this.#number()] ?? 'none';
      notices.push({ userId, change, line: this.#line() });
    }
    return notices;
  }
}

const NO_NOTICES: Notice[] = [];
