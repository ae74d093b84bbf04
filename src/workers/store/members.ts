import type { RoomId, Seq, UserId } from '../../shared/ids.js';
import type { Sql, SqlValue, Transaction } from './database.js';

/** `chat_member` and `chat_ban`: who is in a room, how far they have read, who must stay out. */

export interface Marks {
  room_id: number;
  user_id: number;
  read_seq: number;
  read_ordinal: number;
  delivered_seq: number;
}

/** The marks of members; pairs that are no membership are left out. With `lock` the rows are locked in key order. */
export async function findMarks(
  sql: Sql,
  pairs: readonly { roomId: RoomId; userId: UserId }[],
  lock: boolean,
): Promise<Marks[]> {
  if (pairs.length === 0) return [];
  // The optimizer may prefer the key by user: several times slower, and it would lock in that key's order.
  return sql.rows<Marks>(
    `SELECT room_id, user_id, read_seq, read_ordinal, delivered_seq FROM chat_member FORCE INDEX (PRIMARY)
      WHERE (room_id, user_id) IN (?)
      ORDER BY room_id, user_id LIMIT ${pairs.length} ${lock ? 'FOR UPDATE' : ''}`,
    [pairs.map((pair): SqlValue[] => [pair.roomId, pair.userId])],
  );
}

/** Whether the user is in the room. */
export async function isMember(sql: Sql, roomId: RoomId, userId: UserId): Promise<boolean> {
  return (await findMarks(sql, [{ roomId, userId }], false)).length > 0;
}

/**
 * Moves marks forward, never back, with the next round trip. Every row must exist and be protected from removal (by the room's lock or
 * its own): the upsert would bring a removed member back.
 */
export function raiseMarks(sql: Transaction, marks: readonly Marks[]): void {
  if (marks.length === 0) return;
  // Key order, as in findMarks: two batches that raise the same rows wait for each other in one direction only.
  const rows = [...marks]
    .sort((a, b) => a.room_id - b.room_id || a.user_id - b.user_id)
    .map((m): SqlValue[] => [m.room_id, m.user_id, m.read_seq, m.read_ordinal, m.delivered_seq]);
  sql.later(
    `INSERT INTO chat_member (room_id, user_id, read_seq, read_ordinal, delivered_seq) VALUES ?
     ON DUPLICATE KEY UPDATE
       read_seq = GREATEST(read_seq, VALUES(read_seq)),
       read_ordinal = GREATEST(read_ordinal, VALUES(read_ordinal)),
       delivered_seq = GREATEST(delivered_seq, VALUES(delivered_seq))`,
    [rows],
  );
}

/** Adds members to a locked room. What came before they did is not unread for them. */
export async function insertMembers(
  sql: Sql,
  roomId: RoomId,
  userIds: readonly UserId[],
  joined: { at: Date; seq: Seq; ordinal: number },
): Promise<void> {
  await sql.run(
    `INSERT INTO chat_member (room_id, user_id, joined_at, read_seq, read_ordinal, delivered_seq) VALUES ?`,
    [
      userIds.map((userId): SqlValue[] => [
        roomId,
        userId,
        joined.at,
        joined.seq,
        joined.ordinal,
        joined.seq,
      ]),
    ],
  );
}

/** Removes a member from a locked room; false if they were not in it. */
export async function deleteMember(sql: Sql, roomId: RoomId, userId: UserId): Promise<boolean> {
  const { affectedRows } = await sql.run('DELETE FROM chat_member WHERE room_id = ? AND user_id = ?', [
    roomId,
    userId,
  ]);
  return affectedRows > 0;
}

/** Removes all members of a locked room and returns who they were. */
export async function deleteMembers(sql: Sql, roomId: RoomId): Promise<number[]> {
  const rows = await sql.rows<{ user_id: number }>(
    'SELECT user_id FROM chat_member WHERE room_id = ? ORDER BY user_id LIMIT 10000',
    [roomId],
  );
  await sql.run('DELETE FROM chat_member WHERE room_id = ?', [roomId]);
  return rows.map((row) => row.user_id);
}

/** The member who is longest in the room, other than `exceptId`. */
export async function findLongestStanding(
  sql: Sql,
  roomId: RoomId,
  exceptId: UserId,
): Promise<number | undefined> {
  const rows = await sql.rows<{ user_id: number }>(
    `SELECT user_id FROM chat_member WHERE room_id = ? AND user_id <> ?
      ORDER BY joined_at, user_id LIMIT 1`,
    [roomId, exceptId],
  );
  return rows[0]?.user_id;
}

/** The ids of the rooms that a user is in; the room itself may be gone. */
export async function findRoomIdsOf(sql: Sql, userId: UserId): Promise<number[]> {
  const rows = await sql.rows<{ room_id: number }>(
    'SELECT room_id FROM chat_member WHERE user_id = ? ORDER BY room_id LIMIT 100000',
    [userId],
  );
  return rows.map((row) => row.room_id);
}

/** How many rooms each of the users is in; users in none are left out. */
export async function countRoomsOf(sql: Sql, userIds: readonly UserId[]): Promise<Map<number, number>> {
  if (userIds.length === 0) return new Map();
  const rows = await sql.rows<{ user_id: number; rooms: number }>(
    `SELECT user_id, COUNT(*) AS rooms FROM chat_member WHERE user_id IN (?)
      GROUP BY user_id LIMIT ${userIds.length}`,
    [[...userIds]],
  );
  return new Map(rows.map((row) => [row.user_id, row.rooms]));
}

export interface MemberRow {
  user_id: number;
  joined_at: Date;
  read_seq: number;
  delivered_seq: number;
  username: string | null;
  display_name: string | null;
  avatar_path: string | null;
}

/** A page of members, the longest-standing first, after the place `(joinedAt, userId)`. */
export async function listMembers(
  sql: Sql,
  roomId: RoomId,
  after: { joinedAt: Date; userId: number },
  limit: number,
): Promise<MemberRow[]> {
  return sql.rows<MemberRow>(
    `SELECT m.user_id, m.joined_at, m.read_seq, m.delivered_seq, u.username, u.display_name, u.avatar_path
       FROM chat_member m LEFT JOIN chat_user u ON u.id = m.user_id
      WHERE m.room_id = ? AND (m.joined_at > ? OR (m.joined_at = ? AND m.user_id > ?))
      ORDER BY m.joined_at, m.user_id LIMIT ${limit}`,
    [roomId, after.joinedAt, after.joinedAt, after.userId],
  );
}

/** Those of the users who are banned from the room. */
export async function findBanned(sql: Sql, roomId: RoomId, userIds: readonly number[]): Promise<Set<number>> {
  if (userIds.length === 0) return new Set();
  const rows = await sql.rows<{ user_id: number }>(
    `SELECT user_id FROM chat_ban WHERE room_id = ? AND user_id IN (?) LIMIT ${userIds.length}`,
    [roomId, [...userIds]],
  );
  return new Set(rows.map((row) => row.user_id));
}

/** Bans a user who is not banned yet; the caller holds the room's lock and has looked. */
export async function insertBan(
  sql: Sql,
  roomId: RoomId,
  ban: { userId: UserId; by: UserId; at: Date },
): Promise<void> {
  await sql.run('INSERT INTO chat_ban (room_id, user_id, banned_by, banned_at) VALUES (?, ?, ?, ?)', [
    roomId,
    ban.userId,
    ban.by,
    ban.at,
  ]);
}

/** Lifts a ban; false if there was none. */
export async function deleteBan(sql: Sql, roomId: RoomId, userId: UserId): Promise<boolean> {
  const { affectedRows } = await sql.run('DELETE FROM chat_ban WHERE room_id = ? AND user_id = ?', [
    roomId,
    userId,
  ]);
  return affectedRows > 0;
}
