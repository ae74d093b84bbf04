import { id, type RoomId, type Seq, type UserId } from '../../shared/ids.js';
import type { Message, Room } from '../../shared/protocol/objects.js';
import type { Sql, SqlValue, Transaction } from './database.js';
import { type EntryRow, findEntries, toMessage } from './entries.js';
import { likeText, searchable } from './users.js';

/** `chat_room` and the view of it that one user has. */

interface RoomColumns {
  id: number;
  kind: 'group' | 'direct';
  name: string | null;
  visibility: 'public' | 'private';
  owner_id: number | null;
  member_count: number;
  member_limit: number;
  last_seq: number;
  last_ordinal: number;
}

/** A room under its lock. */
export interface LockedRoom extends RoomColumns {
  direct_low: number | null;
  direct_high: number | null;
}

const LOCK_COLUMNS =
  'id, kind, name, visibility, owner_id, member_count, member_limit, last_seq, last_ordinal, direct_low, direct_high';

/**
 * Locks rooms in id order: every transaction that takes room locks takes them in this order and before any
 * member row, so two of them can't wait for each other. Rooms that are gone are left out.
 */
export async function lockRooms(sql: Transaction, roomIds: readonly RoomId[]): Promise<LockedRoom[]> {
  sql.touches(roomIds);
  return sql.rows<LockedRoom>(
    `SELECT ${LOCK_COLUMNS} FROM chat_room
      WHERE id IN (?) AND deleted_at IS NULL
      ORDER BY id LIMIT ${roomIds.length} FOR UPDATE`,
    [[...roomIds]],
  );
}

/** What is left of the room's row for a reader: no lock. */
export async function findRoom(sql: Sql, roomId: RoomId): Promise<LockedRoom | undefined> {
  const rows = await sql.rows<LockedRoom>(
    `SELECT ${LOCK_COLUMNS} FROM chat_room WHERE id = ? AND deleted_at IS NULL LIMIT 1`,
    [roomId],
  );
  return rows[0];
}

/** Moves the heads of locked rooms to the last entries inserted: one statement for all, with the next round trip. */
export function advanceRooms(
  sql: Transaction,
  heads: readonly { roomId: RoomId; lastSeq: Seq; lastOrdinal: number }[],
): void {
  // CASE rather than a join with a values list, which MySQL and MariaDB spell differently.
  const branch = 'WHEN ? THEN ? '.repeat(heads.length);
  const values: SqlValue[] = [];
  for (const head of heads) values.push(head.roomId, head.lastSeq);
  for (const head of heads) values.push(head.roomId, head.lastOrdinal);
  values.push(heads.map((head) => head.roomId));
  sql.later(
    `UPDATE chat_room SET last_seq = CASE id ${branch}END, last_ordinal = CASE id ${branch}END WHERE id IN (?)`,
    values,
  );
}

/** A new room's columns. */
export interface NewRoom {
  readonly kind: 'group' | 'direct';
  readonly name: string | null;
  readonly visibility: 'public' | 'private';
  readonly ownerId: UserId | null;
  readonly memberCount: number;
  readonly memberLimit: number;
  readonly createdBy: UserId;
  readonly clientRoomId: string | null;
  readonly direct: { readonly low: UserId; readonly high: UserId } | null;
  readonly createdAt: Date;
}

/** Inserts a room. Throws a duplicate key error when the pair or the `clientRoomId` has one already. */
export async function insertRoom(sql: Sql, room: NewRoom): Promise<number> {
  const { insertId } = await sql.run(
    `INSERT INTO chat_room
       (kind, name, visibility, owner_id, member_count, member_limit, created_by, client_room_id,
        direct_low, direct_high, created_at)
     VALUES (?)`,
    [
      [
        room.kind,
        room.name,
        room.visibility,
        room.ownerId,
        room.memberCount,
        room.memberLimit,
        room.createdBy,
        room.clientRoomId === null ? null : Buffer.from(room.clientRoomId),
        room.direct?.low ?? null,
        room.direct?.high ?? null,
        room.createdAt,
      ],
    ],
  );
  return insertId;
}

/** Writes what membership and owner commands change in a locked room. */
export async function updateRoom(
  sql: Sql,
  room: Pick<LockedRoom, 'id' | 'name' | 'visibility' | 'owner_id' | 'member_count' | 'member_limit'>,
): Promise<void> {
  await sql.run(
    `UPDATE chat_room SET name = ?, visibility = ?, owner_id = ?, member_count = ?, member_limit = ? WHERE id = ?`,
    [room.name, room.visibility, room.owner_id, room.member_count, room.member_limit, room.id],
  );
}

/** Marks a room as gone. Its entries stay, and so does its `clientRoomId`. */
export async function deleteRoom(sql: Sql, roomId: RoomId, at: Date): Promise<void> {
  await sql.run('UPDATE chat_room SET deleted_at = ?, member_count = 0 WHERE id = ?', [at, roomId]);
}

/** The room that a `clientRoomId` of this user made, also when it is gone. */
export async function findByClientRoomId(
  sql: Sql,
  userId: UserId,
  clientRoomId: string,
): Promise<number | undefined> {
  const rows = await sql.rows<{ id: number }>(
    'SELECT id FROM chat_room WHERE created_by = ? AND client_room_id = ? LIMIT 1',
    [userId, Buffer.from(clientRoomId)],
  );
  return rows[0]?.id;
}

/** The direct room of two users, `low` < `high`. */
export async function findDirectRoom(sql: Sql, low: UserId, high: UserId): Promise<number | undefined> {
  const rows = await sql.rows<{ id: number }>(
    'SELECT id FROM chat_room WHERE direct_low = ? AND direct_high = ? LIMIT 1',
    [low, high],
  );
  return rows[0]?.id;
}

/** The heads of rooms, also of those that are gone: what a router compares its position with. */
export async function findHeads(
  sql: Sql,
  roomIds: readonly RoomId[],
): Promise<{ id: number; last_seq: number; last_ordinal: number }[]> {
  if (roomIds.length === 0) return [];
  return sql.rows(
    `SELECT id, last_seq, last_ordinal FROM chat_room WHERE id IN (?) LIMIT ${roomIds.length}`,
    [[...roomIds]],
  );
}

/** The same, after every transaction that has locked one of them is over. */
export async function awaitHeads(
  sql: Transaction,
  roomIds: readonly RoomId[],
): Promise<{ id: number; last_seq: number; owner_id: number | null; deleted_at: Date | null }[]> {
  if (roomIds.length === 0) return [];
  // FOR SHARE in the words that MariaDB knows too. In id order, as the locks for writing.
  return sql.rows(
    `SELECT id, last_seq, owner_id, deleted_at FROM chat_room WHERE id IN (?)
      ORDER BY id LIMIT ${roomIds.length} LOCK IN SHARE MODE`,
    [[...roomIds]],
  );
}

/**
 * A longer body of a last message is read apart, and only if the reply has room for it: a thousand rooms with the
 * longest texts would be hundreds of megabytes.
 */
const LONG_BODY_BYTES = 4096;
/** What a message takes in a reply beside its text, and how much escaping may add to that. */
const MESSAGE_BYTES = 800;
const ESCAPED = 2;

interface RoomViewRow extends RoomColumns {
  created_at: Date;
  member_id: number | null;
  read_seq: number | null;
  read_ordinal: number | null;
  delivered_seq: number | null;
  peer_id: number | null;
  peer_username: string | null;
  peer_display_name: string | null;
  peer_avatar_path: string | null;
  entry_kind: EntryRow['kind'] | null;
  entry_sender_id: number | null;
  entry_client_message_id: Buffer | null;
  entry_reply_to: number | null;
  /** null also when it is a long one. */
  entry_body: string | null;
  entry_bytes: number | null;
  entry_sent_at: Date | null;
}

// One statement, so that last_seq and the last message are of the same moment.
const VIEW = `
  SELECT r.id, r.kind, r.name, r.visibility, r.owner_id, r.member_count, r.member_limit, r.created_at,
         r.last_seq, r.last_ordinal,
         m.user_id AS member_id, m.read_seq, m.read_ordinal, m.delivered_seq,
         p.id AS peer_id, p.username AS peer_username, p.display_name AS peer_display_name,
         p.avatar_path AS peer_avatar_path,
         e.kind AS entry_kind, e.sender_id AS entry_sender_id, e.client_message_id AS entry_client_message_id,
         e.reply_to AS entry_reply_to, e.sent_at AS entry_sent_at, OCTET_LENGTH(e.body) AS entry_bytes,
         CASE WHEN OCTET_LENGTH(e.body) <= ${LONG_BODY_BYTES} THEN e.body END AS entry_body
    FROM chat_room r`;
const VIEW_JOINS = `
    LEFT JOIN chat_user p
      ON r.kind = 'direct' AND p.id = CASE r.direct_low WHEN m.user_id THEN r.direct_high ELSE r.direct_low END
    LEFT JOIN chat_entry e ON e.room_id = r.id AND e.seq = r.last_seq AND m.user_id IS NOT NULL`;

function toRoom(row: RoomViewRow): Room {
  const isMember = row.member_id !== null;
  const room: Room = {
    id: row.id,
    kind: row.kind,
    name: row.name,
    visibility: row.visibility,
    ownerId: row.owner_id,
    memberCount: row.member_count,
    memberLimit: row.member_limit,
    createdAt: row.created_at.getTime(),
    lastSeq: row.last_seq,
    lastMessage: null,
    role: isMember ? (row.owner_id === row.member_id ? 'owner' : 'member') : null,
    readSeq: row.read_seq ?? 0,
    deliveredSeq: row.delivered_seq ?? 0,
    unread: isMember ? row.last_ordinal - (row.read_ordinal ?? 0) : 0,
  };
  if (row.entry_kind !== null && row.entry_sent_at !== null && row.entry_body !== null) {
    room.lastMessage = toMessage({
      room_id: row.id,
      seq: row.last_seq,
      kind: row.entry_kind,
      sender_id: row.entry_sender_id,
      client_message_id: row.entry_client_message_id,
      reply_to: row.entry_reply_to,
      body: row.entry_body,
      sent_at: row.entry_sent_at,
    });
  }
  if (row.peer_id !== null) {
    room.peer = {
      id: row.peer_id,
      username: row.peer_username ?? '',
      displayName: row.peer_display_name ?? '',
      avatarPath: row.peer_avatar_path,
    };
  }
  return room;
}

/**
 * The rooms of the rows, with their last messages as far as those fit into `maxBytes`; the others have none, and
 * the history has them.
 */
async function toRooms(sql: Sql, rows: readonly RoomViewRow[], maxBytes: number): Promise<Room[]> {
  let bytes = 0;
  const rooms: Room[] = [];
  const long: RoomViewRow[] = [];
  for (const row of rows) {
    const room = toRoom(row);
    if (row.entry_bytes !== null) bytes += row.entry_bytes * ESCAPED + MESSAGE_BYTES;
    if (bytes > maxBytes) room.lastMessage = null;
    else if (row.entry_bytes !== null && row.entry_body === null) long.push(row);
    rooms.push(room);
  }
  if (long.length > 0) {
    const messages = await findMessages(
      sql,
      long.map((row) => ({ roomId: id.room(row.id), seq: id.seq(row.last_seq) })),
    );
    for (const room of rooms) room.lastMessage ??= messages.get(room.id) ?? null;
  }
  return rooms;
}

/** One message of each of these rooms, by the room. */
async function findMessages(
  sql: Sql,
  places: readonly { roomId: RoomId; seq: Seq }[],
): Promise<Map<number, Message>> {
  const rows = await findEntries(sql, places);
  return new Map(rows.map((row) => [row.room_id, toMessage(row)]));
}

/** These rooms as the user sees them; those that the user is not in come too, without messages. */
export async function viewRooms(
  sql: Sql,
  userId: UserId,
  roomIds: readonly number[],
  maxBytes: number,
): Promise<Map<number, Room>> {
  if (roomIds.length === 0) return new Map();
  const rows = await sql.rows<RoomViewRow>(
    `${VIEW}
    LEFT JOIN chat_member m ON m.room_id = r.id AND m.user_id = ?
    ${VIEW_JOINS}
   WHERE r.id IN (?) AND r.deleted_at IS NULL
   LIMIT ${roomIds.length}`,
    [userId, [...roomIds]],
  );
  return new Map((await toRooms(sql, rows, maxBytes)).map((room) => [room.id, room]));
}

/** One room as this user sees it, or `undefined` if it is gone. */
export async function viewRoom(sql: Sql, userId: UserId, roomId: RoomId): Promise<Room | undefined> {
  return (await viewRooms(sql, userId, [roomId], Number.POSITIVE_INFINITY)).get(roomId);
}

/** One room as each of its members sees it: what `room.updated` carries. */
export async function viewRoomForMembers(
  sql: Sql,
  roomId: RoomId,
): Promise<{ userId: number; room: Room }[]> {
  const rows = await sql.rows<RoomViewRow>(
    `${VIEW}
    JOIN chat_member m ON m.room_id = r.id
    ${VIEW_JOINS}
   WHERE r.id = ?
   LIMIT 10000`,
    [roomId],
  );
  return rows.map((row) => ({ userId: row.member_id ?? 0, room: toRoom(row) }));
}

/**
 * The rooms a user is in, by id, after `afterId`. `query` is a part of the name, or of the other one's name in
 * a direct room.
 */
export async function listRoomsOf(
  sql: Sql,
  userId: UserId,
  {
    query = '',
    afterId = 0,
    limit,
    maxBytes,
  }: { query?: string; afterId?: number; limit: number; maxBytes: number },
): Promise<Room[]> {
  const values: SqlValue[] = [userId, afterId];
  let filter = '';
  if (query !== '') {
    filter = `AND (r.name LIKE ? ESCAPE '!' OR ${searchable('p.username')} LIKE ? ESCAPE '!'
                OR ${searchable('p.display_name')} LIKE ? ESCAPE '!')`;
    const part = `%${likeText(query)}%`;
    values.push(part, part, part);
  }
  const rows = await sql.rows<RoomViewRow>(
    `${VIEW}
    JOIN chat_member m ON m.room_id = r.id AND m.user_id = ?
    ${VIEW_JOINS}
   WHERE m.room_id > ? AND r.deleted_at IS NULL ${filter}
   ORDER BY m.room_id LIMIT ${limit}`,
    values,
  );
  return toRooms(sql, rows, maxBytes);
}

/** The public rooms, the newest first, below `beforeId`. */
export async function listPublicRooms(
  sql: Sql,
  userId: UserId,
  { query, beforeId, limit, maxBytes }: { query: string; beforeId: number; limit: number; maxBytes: number },
): Promise<Room[]> {
  const values: SqlValue[] = [userId, beforeId];
  if (query !== '') values.push(`%${likeText(query)}%`);
  const rows = await sql.rows<RoomViewRow>(
    `${VIEW}
    LEFT JOIN chat_member m ON m.room_id = r.id AND m.user_id = ?
    ${VIEW_JOINS}
   WHERE r.visibility = 'public' AND r.deleted_at IS NULL AND r.id < ?
     ${query === '' ? '' : `AND r.name LIKE ? ESCAPE '!'`}
   ORDER BY r.id DESC LIMIT ${limit}`,
    values,
  );
  return toRooms(sql, rows, maxBytes);
}
