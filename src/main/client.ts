import type { Connection } from '../io/connection.js';
import { type ConnectionId, id, type RoomId, type SessionId, type UserId } from '../shared/ids.js';
import type { Hold, LineKind } from './hold.js';
import type { RoomStream } from './room-stream.js';

/** A frame that was taken from a connection and has not been executed. */
export interface Frame {
  readonly bytes: Uint8Array;
  /** Written by a worker, not by the client. */
  readonly continuation: boolean;
  /** An overtaking batch has looked at it: it needs the database and keeps its place. */
  seen: boolean;
}

/** A connection as the core knows it: a plain record, one per connection, without closures. */
export class Client {
  readonly connection: Connection;
  readonly openedAt = performance.now();

  /** 0 until the login is admitted. */
  userId: UserId = id.user(0);
  sessionId: SessionId = id.session(0);
  /** Expiry of the token, ms since the epoch; 0 = none. */
  expiresAt = 0;
  isExpiryAnnounced = false;
  /** The rooms whose entries the connection gets. */
  readonly rooms = new Set<RoomStream>();
  hold: Hold | null = null;
  /** Whose presence the connection is told. */
  watching: ReadonlySet<UserId> | null = null;
  /** Not null while the states of `watching` are being read. */
  heldPresence: Buffer[] | null = null;

  /** Frames taken and not in a batch. */
  frames: Frame[] = [];
  /** Frames in the batch that is under way, as a continuation may give them back. */
  inFlight: Frame[] | null = null;
  /** The number of that batch, or of the last one. */
  batch = 0;
  /** Frames in the overtaking batch that is under way. */
  overtaking: Frame[] | null = null;
  isQueued = false;
  /** A frame over the limit came; nothing after it is taken. */
  isOversized = false;
  isClosed = false;
  /** Since when requests wait because replies are not read, and how much waited then; 0 = they don't. */
  unreadSince = 0;
  unreadBytes = 0;
  /** Of the token bucket for `CHAT_FRAMES_PER_SECOND`. */
  tokens = Number.POSITIVE_INFINITY;
  refilledAt = 0;

  constructor(connection: Connection) {
    this.connection = connection;
  }

  get id(): ConnectionId {
    return this.connection.id;
  }

  get isLoggedIn(): boolean {
    return this.userId !== 0;
  }

  /** No request of the connection is waiting or under way. */
  get isIdle(): boolean {
    return this.inFlight === null && this.frames.length === 0 && !this.connection.readable;
  }

  /** A line of a room, with `seq` if it stands at an entry: now, or after the login's reply. */
  deliver(line: Buffer, roomId: RoomId, kind: LineKind, seq = Number.POSITIVE_INFINITY): void {
    if (this.hold !== null) this.hold.add(line, roomId, kind, seq);
    else this.connection.send(line, kind === 'volatile');
  }
}
