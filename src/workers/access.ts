import { type Failure, fail } from '../shared/errors.js';
import type { RoomId, UserId } from '../shared/ids.js';
import type { Sql, Transaction } from './store/database.js';
import { findBanned, isMember } from './store/members.js';
import { findRoom, type LockedRoom, lockRooms } from './store/rooms.js';

/** The error of PROTOCOL 3 for a user who is not in the room: what they may know of it decides which. */
export async function refuseNonMember(
  sql: Sql,
  roomId: RoomId,
  userId: UserId,
  room: LockedRoom | undefined,
): Promise<Failure> {
  const unknown = fail('NOT_FOUND', `room ${roomId} does not exist`);
  if (room === undefined || room.kind === 'direct') return unknown;
  if ((await findBanned(sql, roomId, [userId])).has(userId)) {
    return fail('FORBIDDEN', `you are banned from room ${roomId}`);
  }
  return room.visibility === 'private' ? unknown : fail('NOT_A_MEMBER', `you have not joined room ${roomId}`);
}

/** The room if the user is in it, without a lock: for reading. */
export async function readableRoom(sql: Sql, roomId: RoomId, userId: UserId): Promise<LockedRoom | Failure> {
  const room = await findRoom(sql, roomId);
  if (room !== undefined && (await isMember(sql, roomId, userId))) return room;
  return refuseNonMember(sql, roomId, userId, room);
}

/** The locked room if the user is in it, and it is a group: everything that changes a room starts here. */
export async function lockGroup(
  sql: Transaction,
  roomId: RoomId,
  userId: UserId,
): Promise<LockedRoom | Failure> {
  const [room] = await lockRooms(sql, [roomId]);
  if (room === undefined || !(await isMember(sql, roomId, userId))) {
    return refuseNonMember(sql, roomId, userId, room);
  }
  if (room.kind === 'direct') return fail('FORBIDDEN', 'a direct room stays as it is');
  return room;
}

/** The same for what only the owner may do. */
export async function lockOwnGroup(
  sql: Transaction,
  roomId: RoomId,
  userId: UserId,
): Promise<LockedRoom | Failure> {
  const room = await lockGroup(sql, roomId, userId);
  if ('failure' in room || room.owner_id === userId) return room;
  return fail('FORBIDDEN', `only the owner of room ${roomId} may do that`);
}
