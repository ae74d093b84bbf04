import type { EffectWriter } from '../shared/effects.js';
import { type ConnectionId, id, type RoomId, type UserId } from '../shared/ids.js';
import { eventLine } from '../shared/protocol/events.js';
import type { Message, Room, System } from '../shared/protocol/objects.js';
import type { Sql, Transaction } from './store/database.js';
import { insertEntries } from './store/entries.js';
import { advanceRooms, type LockedRoom, viewRoomForMembers, viewRooms } from './store/rooms.js';

/** System messages, and the notices that go to users along with an entry. */

/** Appends system messages to a locked room, in order, and moves its head. `room` is brought up to date. */
export function appendSystem(
  sql: Transaction,
  room: LockedRoom,
  systems: readonly System[],
  at: Date,
): Message[] {
  const roomId = id.room(room.id);
  const messages = systems.map(
    (system, i): Message => ({
      roomId,
      seq: room.last_seq + 1 + i,
      kind: 'system',
      senderId: null,
      sentAt: at.getTime(),
      system,
    }),
  );
  insertEntries(
    sql,
    messages.map((message) => ({
      roomId,
      seq: id.seq(message.seq),
      ordinal: room.last_ordinal,
      kind: 'system',
      senderId: null,
      clientMessageId: null,
      replyTo: null,
      body: JSON.stringify(message.system),
      sentAt: at,
    })),
  );
  room.last_seq += systems.length;
  advanceRooms(sql, [{ roomId, lastSeq: id.seq(room.last_seq), lastOrdinal: room.last_ordinal }]);
  return messages;
}

/** A {@link Notice} as a worker writes it. */
export interface NoticeLine {
  readonly userId: UserId;
  readonly change: 'add' | 'remove' | 'none';
  readonly line: string;
}

/** Room for the last message in an event that all members get; it is left out if it is longer. */
const LAST_MESSAGE_BYTES = 16 * 1024;

/** Tells new members of the room, as each sees it: `room.added`. */
export async function addedNotices(
  sql: Sql,
  roomId: RoomId,
  userIds: readonly number[],
): Promise<NoticeLine[]> {
  const notices: NoticeLine[] = [];
  for (const userId of userIds) {
    const room = (await viewRooms(sql, id.user(userId), [roomId], LAST_MESSAGE_BYTES)).get(roomId);
    if (room !== undefined && room.role !== null) notices.push(addedNotice(id.user(userId), room));
  }
  return notices;
}

export function addedNotice(userId: UserId, room: Room): NoticeLine {
  return { userId, change: 'add', line: eventLine('room.added', { room }) };
}

/**
 * Answers with a room that the user is in already. Should one of their connections not know, because what would have
 * told it is lost with the answer to a COMMIT, it does now.
 */
export function replyAlreadyIn(
  effects: EffectWriter,
  room: Room,
  { userId, connection, reply }: { userId: UserId; connection: ConnectionId; reply: string },
): void {
  effects.room({
    roomId: id.room(room.id),
    seq: id.seq(room.lastSeq),
    connection,
    reply,
    notices: [addedNotice(userId, room)],
  });
}

/** Tells the members that the room changed, as each sees it: `room.updated`. */
export async function updatedNotices(sql: Sql, roomId: RoomId): Promise<NoticeLine[]> {
  const views = await viewRoomForMembers(sql, roomId);
  return views.map(({ userId, room }) => ({
    userId: id.user(userId),
    change: 'none',
    line: eventLine('room.updated', { room }),
  }));
}

/** Tells users that they are in the room no more: `room.removed`. */
export function removedNotices(
  roomId: RoomId,
  userIds: readonly number[],
  reason: 'left' | 'kicked' | 'banned' | 'deleted',
  actorId: UserId,
): NoticeLine[] {
  const line = eventLine('room.removed', { roomId, reason, actorId });
  return userIds.map((userId) => ({ userId: id.user(userId), change: 'remove', line }));
}

/** Puts the entries of one command among the effects: the first carries `first`, the last one `last` and the reply. */
export function emitEntries(
  effects: EffectWriter,
  roomId: RoomId,
  messages: readonly Message[],
  extra: {
    readonly connection: ConnectionId;
    readonly reply: string;
    readonly first?: readonly NoticeLine[];
    readonly last?: readonly NoticeLine[];
  },
): void {
  messages.forEach((message, i) => {
    const isLast = i === messages.length - 1;
    effects.room({
      roomId,
      seq: id.seq(message.seq),
      event: eventLine('message', message),
      // The origin stands with every entry: it gets no notices of what it did itself.
      connection: extra.connection,
      reply: isLast ? extra.reply : undefined,
      notices: [...(i === 0 ? (extra.first ?? []) : []), ...(isLast ? (extra.last ?? []) : [])],
    });
  });
}
