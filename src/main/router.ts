import type { CloseReason } from '../shared/closes.js';
import type { Effect } from '../shared/effects.js';
import { type ConnectionId, id, type RoomId, type Seq, type SessionId, type UserId } from '../shared/ids.js';
import { log } from '../shared/log.js';
import { eventLine } from '../shared/protocol/events.js';
import type { Client } from './client.js';
import { Hold } from './hold.js';
import { type RoomEffect, RoomStream, type StreamOwner } from './room-stream.js';

/** What the router asks of the rest of the main thread. */
export interface RouterPorts {
  /** Runs a continuation before the connection's other frames; those from `executed` on come after it. */
  resume(client: Client, executed: number | undefined, line: Buffer): void;
  /** An overtaking batch answered a frame. */
  overtook(client: Client, place: number): void;
  /** The batch is done with this connection. */
  freed(client: Client): void;
  /** A stream has a hole that may have to be read back. */
  holeFound(stream: RoomStream): void;
  /** These rooms may have moved without a word. */
  suspect(roomIds: readonly RoomId[]): void;
  /** A transaction has an unknown outcome: it may have moved these rooms, or opened a session. */
  inDoubt(roomIds: readonly RoomId[]): void;
  /** The session has lost its connection. `grace`: the user may come right back. */
  sessionLost(sessionId: SessionId, grace: boolean): void;
}

interface Watched {
  readonly clients: Set<Client>;
  /** Of the last presence event: an older one that comes later is dropped. */
  version: number;
}

/**
 * The routing table (connection ↔ session ↔ user ↔ room) and the one place that acts upon effects. Everything here
 * is synchronous: an effect is applied whole before the next one is looked at.
 */
export class Router implements StreamOwner {
  readonly #ports: RouterPorts;
  readonly #clients = new Map<ConnectionId, Client>();
  readonly #users = new Map<UserId, Set<Client>>();
  readonly #rooms = new Map<RoomId, RoomStream>();
  readonly #watched = new Map<UserId, Watched>();

  constructor(ports: RouterPorts) {
    this.#ports = ports;
  }

  get clients(): ReadonlyMap<ConnectionId, Client> {
    return this.#clients;
  }

  /** The stream of a room that somebody here is in. */
  stream(roomId: RoomId): RoomStream | undefined {
    return this.#rooms.get(roomId);
  }

  /** The rooms that somebody here is in. */
  get roomIds(): RoomId[] {
    return [...this.#rooms.keys()];
  }

  /** Sessions that have a connection here. */
  get sessionIds(): Set<SessionId> {
    const sessionIds = new Set<SessionId>();
    for (const { sessionId } of this.#clients.values()) sessionIds.add(sessionId);
    return sessionIds;
  }

  add(client: Client): void {
    this.#clients.set(client.id, client);
  }

  /** The connection is gone: take it out of everything. */
  remove(client: Client, reason: CloseReason): void {
    client.isClosed = true;
    this.#clients.delete(client.id);
    if (client.isLoggedIn) this.#endSession(client, reason !== 'LOGOUT' && reason !== 'SESSION_REVOKED');
  }

  /** No request of the connection is under way any more: presence that came during a subscription goes out. */
  settled(client: Client): void {
    const held = client.heldPresence;
    client.heldPresence = null;
    if (held !== null) for (const line of held) client.connection.send(line, true);
  }

  apply(effect: Effect): void {
    switch (effect.kind) {
      case 'reply':
        this.#clients.get(effect.connection)?.connection.send(effect.line);
        return;
      case 'room':
        this.#room(effect);
        return;
      case 'receipt':
        this.#receipt(effect);
        return;
      case 'typing':
        this.#typing(effect);
        return;
      case 'admit':
        this.#admit(effect);
        return;
      case 'opened':
        this.#opened(effect);
        return;
      case 'dismiss': {
        const client = this.#clients.get(effect.connection);
        if (client?.isLoggedIn) this.#endSession(client, false);
        return;
      }
      case 'renewed': {
        const client = this.#clients.get(effect.connection);
        if (client === undefined) return;
        client.expiresAt = effect.expiresAt;
        client.isExpiryAnnounced = false;
        return;
      }
      case 'watch':
        this.#watch(effect);
        return;
      case 'presence':
        this.#presence(effect);
        return;
      case 'revoke':
        for (const client of this.#users.get(effect.userId) ?? []) {
          if (client.sessionId === effect.sessionId) client.connection.close('SESSION_REVOKED');
        }
        return;
      case 'close':
        this.#clients.get(effect.connection)?.connection.close(effect.reason, effect.line ?? undefined);
        return;
      case 'suspect':
        this.#ports.inDoubt(effect.roomIds);
        return;
      case 'continue': {
        const client = this.#clients.get(effect.connection);
        if (client !== undefined) this.#ports.resume(client, effect.executed, effect.line);
        return;
      }
      case 'overtook': {
        const client = this.#clients.get(effect.connection);
        if (client !== undefined) this.#ports.overtook(client, effect.place);
        return;
      }
      case 'freed': {
        const client = this.#clients.get(effect.connection);
        if (client !== undefined) this.#ports.freed(client);
      }
    }
  }

  // --- rooms ---

  #room(effect: RoomEffect): void {
    let stream = this.#rooms.get(effect.roomId);
    if (stream === undefined) {
      // Nobody here is in the room. Somebody may be after this: then it begins here, and what was said before
      // anybody listened is looked up.
      if (!effect.notices.some((notice) => notice.change === 'add' && this.#users.has(notice.userId))) {
        this.#replyOnly(effect);
        return;
      }
      stream = this.#openStream(effect.roomId);
      stream.startAt(id.seq(effect.event === null ? effect.seq : effect.seq - 1));
      this.#ports.suspect([effect.roomId]);
    }
    stream.accept(effect);
  }

  release(stream: RoomStream, effect: RoomEffect): void {
    const origin = this.#originOf(effect);
    // Who leaves does not get the entry that says so; who joins finds it in what they are given.
    this.#takeOut(stream, effect, origin);
    if (effect.event !== null) this.#broadcast(stream, effect, effect.event, origin);
    const isReplay = effect.event !== null && stream.isReplay(effect.seq);
    if (!isReplay) this.#inform(effect, origin);
    this.#bringIn(stream, effect, origin);
    if (effect.reply !== null && !effect.replaces) origin?.connection.send(effect.reply);
    if (stream.clients.size === 0) this.#closeStream(stream);
  }

  releaseLate(stream: RoomStream, effect: RoomEffect): void {
    const origin = this.#originOf(effect);
    this.#takeOut(stream, effect, origin);
    this.#inform(effect, origin);
    this.#bringIn(stream, effect, origin);
    this.#replyOnly(effect);
    if (stream.clients.size === 0) this.#closeStream(stream);
  }

  #originOf({ connection }: RoomEffect): Client | undefined {
    return connection === 0 ? undefined : this.#clients.get(connection);
  }

  #replyOnly({ reply, connection }: RoomEffect): void {
    if (reply !== null) this.#clients.get(connection)?.connection.send(reply);
  }

  #takeOut(stream: RoomStream, { event, seq, notices }: RoomEffect, origin: Client | undefined): void {
    // What is no entry comes after the entry that it names.
    const place = event === null ? Number.POSITIVE_INFINITY : seq;
    for (const { change, userId, line } of notices) {
      if (change !== 'remove') continue;
      stream.noteRemoval(userId, place);
      for (const client of this.#users.get(userId) ?? []) {
        const upto = stream.clients.get(client);
        if (upto === undefined || upto >= place) continue;
        this.#leave(client, stream);
        if (client !== origin) client.deliver(line, stream.roomId, 'removed', place);
      }
    }
  }

  #bringIn(stream: RoomStream, { seq, notices }: RoomEffect, origin: Client | undefined): void {
    for (const { change, userId, line } of notices) {
      if (change !== 'add' || stream.isRemovedSince(userId, seq)) continue;
      for (const client of this.#users.get(userId) ?? []) {
        if (!this.#enter(client, stream, seq)) continue;
        if (client !== origin) client.deliver(line, stream.roomId, 'added', seq);
        // Others told it later than the room has gone on: what it has missed comes once more.
        if (client.hold === null) stream.rewind(seq, client);
      }
    }
  }

  #inform({ roomId, notices }: RoomEffect, origin: Client | undefined): void {
    for (const { change, userId, line } of notices) {
      if (change !== 'none') continue;
      for (const client of this.#users.get(userId) ?? []) {
        if (client !== origin) client.deliver(line, roomId, 'other');
      }
    }
  }

  /** The room was deleted at `seq`, and what said so is lost: everybody here is told. */
  deleted(stream: RoomStream, seq: Seq, actorId: UserId): void {
    const { roomId } = stream;
    const line = Buffer.from(eventLine('room.removed', { roomId, reason: 'deleted', actorId }));
    const userIds = new Set([...stream.clients.keys()].map((client) => client.userId));
    const notices = [...userIds].map((userId) => ({ userId, change: 'remove', line }) as const);
    const connection = id.connection(0);
    stream.accept({
      kind: 'room',
      roomId,
      seq,
      connection,
      replaces: false,
      reply: null,
      event: null,
      notices,
    });
  }

  holeFound(stream: RoomStream): void {
    this.#ports.holeFound(stream);
  }

  #broadcast(stream: RoomStream, effect: RoomEffect, event: Buffer, origin: Client | undefined): void {
    const { roomId, seq } = effect;
    const replaced = effect.replaces ? origin : undefined;
    for (const [client, upto] of stream.clients) {
      if (seq > upto && client !== replaced) client.deliver(event, roomId, 'entry', seq);
    }
    if (replaced !== undefined && effect.reply !== null) replaced.connection.send(effect.reply);
    if (log.message.debugging) {
      const to = [...stream.clients].filter(([, upto]) => seq > upto).map(([client]) => client.id);
      log.message.debug('released', { room: roomId, seq, size: event.length, to: to.join(',') });
    }
  }

  #receipt({ roomId, connection, line }: Extract<Effect, { kind: 'receipt' }>): void {
    for (const client of this.#rooms.get(roomId)?.clients.keys() ?? []) {
      if (client.id !== connection) client.deliver(line, roomId, 'other');
    }
  }

  #typing({ roomId, connection, reply, event, refusal }: Extract<Effect, { kind: 'typing' }>): void {
    const client = this.#clients.get(connection);
    if (client === undefined) return;
    const stream = this.#rooms.get(roomId);
    if (stream === undefined || !stream.clients.has(client)) {
      this.#ports.resume(client, undefined, refusal);
      return;
    }
    client.connection.send(reply);
    for (const other of stream.clients.keys()) {
      if (other.userId !== client.userId) other.deliver(event, roomId, 'volatile');
    }
  }

  /** Puts the connection into the room, which it has up to `upto`; false if it is in it. */
  #enter(client: Client, stream: RoomStream, upto: Seq): boolean {
    if (stream.clients.has(client)) return false;
    // During a login everything is held, and looked at when the reply is there.
    stream.clients.set(client, client.hold === null ? upto : id.seq(0));
    client.rooms.add(stream);
    return true;
  }

  #leave(client: Client, stream: RoomStream): boolean {
    client.rooms.delete(stream);
    return stream.clients.delete(client);
  }

  #openStream(roomId: RoomId): RoomStream {
    const known = this.#rooms.get(roomId);
    if (known !== undefined) return known;
    const stream = new RoomStream(roomId, this);
    this.#rooms.set(roomId, stream);
    return stream;
  }

  #closeStream(stream: RoomStream): void {
    if (this.#rooms.get(stream.roomId) !== stream) return;
    this.#rooms.delete(stream.roomId);
    // A user of this process may come in with one of them, which opens the stream anew.
    for (const effect of stream.drain()) this.#room(effect);
  }

  // --- sessions ---

  #admit({ connection, userId, sessionId, expiresAt, roomIds }: Extract<Effect, { kind: 'admit' }>): void {
    const client = this.#clients.get(connection);
    if (client === undefined) {
      // The connection went while its login was under way.
      this.#ports.sessionLost(sessionId, true);
      return;
    }
    client.userId = userId;
    client.sessionId = sessionId;
    client.expiresAt = expiresAt;
    client.hold = new Hold();
    const devices = this.#users.get(userId);
    if (devices === undefined) this.#users.set(userId, new Set([client]));
    else devices.add(client);
    for (const roomId of roomIds) this.#enter(client, this.#openStream(roomId), id.seq(0));
  }

  #opened({ connection, reply, rooms }: Extract<Effect, { kind: 'opened' }>): void {
    const client = this.#clients.get(connection);
    const hold = client?.hold;
    if (client === undefined || hold == null) return;
    client.hold = null;
    client.connection.send(reply);

    const lastSeqs = new Map<RoomId, Seq>(rooms.map(({ roomId, lastSeq }) => [roomId, lastSeq]));
    const listened = [...client.rooms].map((stream) => stream.roomId);
    const unheard: RoomId[] = [];
    for (const roomId of new Set([...listened, ...lastSeqs.keys(), ...hold.roomIds])) {
      const upto = hold.release(roomId, lastSeqs.get(roomId), (line, volatile) =>
        client.connection.send(line, volatile),
      );
      if (upto === undefined) this.#leaveUnheard(client, roomId);
      else if (this.#align(client, roomId, upto)) unheard.push(roomId);
    }
    if (unheard.length > 0) this.#ports.suspect(unheard);
  }

  /** The room was left between the two reads of the login, and that may not have been heard here. */
  #leaveUnheard(client: Client, roomId: RoomId): void {
    const stream = this.#rooms.get(roomId);
    if (stream === undefined || !this.#leave(client, stream)) return;
    if (stream.clients.size === 0) this.#closeStream(stream);
  }

  /**
   * Brings what the connection has of a room, everything up to `upto`, and where the room's stream stands together.
   * Returns whether the room was joined between the two reads of the login: nobody may have listened for it.
   */
  #align(client: Client, roomId: RoomId, upto: Seq): boolean {
    const stream = this.#openStream(roomId);
    const isUnheard = this.#enter(client, stream, upto);
    stream.clients.set(client, upto);
    stream.startAt(upto);
    if ((stream.position ?? upto) < upto) stream.knows(upto);
    // Another login said where the room stands, with a later read than ours: go back and read for this one.
    else stream.rewind(upto, client);
    return isUnheard;
  }

  #endSession(client: Client, grace: boolean): void {
    this.#ports.sessionLost(client.sessionId, grace);
    const devices = this.#users.get(client.userId);
    devices?.delete(client);
    if (devices?.size === 0) this.#users.delete(client.userId);
    for (const stream of client.rooms) {
      stream.clients.delete(client);
      if (stream.clients.size === 0) this.#closeStream(stream);
    }
    client.rooms.clear();
    this.#unwatch(client);
    client.hold = null;
    client.userId = id.user(0);
    client.sessionId = id.session(0);
    client.expiresAt = 0;
  }

  // --- presence ---

  #watch({ connection, userIds }: Extract<Effect, { kind: 'watch' }>): void {
    const client = this.#clients.get(connection);
    if (client === undefined) return;
    this.#unwatch(client);
    client.watching = new Set(userIds);
    client.heldPresence = [];
    for (const userId of userIds) {
      const watched = this.#watched.get(userId);
      if (watched === undefined) this.#watched.set(userId, { clients: new Set([client]), version: 0 });
      else watched.clients.add(client);
    }
  }

  #unwatch(client: Client): void {
    for (const userId of client.watching ?? []) {
      const watched = this.#watched.get(userId);
      watched?.clients.delete(client);
      if (watched?.clients.size === 0) this.#watched.delete(userId);
    }
    client.watching = null;
    client.heldPresence = null;
  }

  #presence({ userId, version, line }: Extract<Effect, { kind: 'presence' }>): void {
    const watched = this.#watched.get(userId);
    if (watched === undefined || version < watched.version) return;
    watched.version = version;
    for (const client of watched.clients) {
      if (client.heldPresence !== null) client.heldPresence.push(line);
      else client.connection.send(line, true);
    }
  }
}
