import type { RoomId, Seq, UserId } from '../../shared/ids.js';
import type { Image, Message, System } from '../../shared/protocol/objects.js';
import type { Sql, SqlValue, Transaction } from './database.js';

/** `chat_entry`: the streams of the rooms. */

/** The columns of an entry that make a {@link Message}. */
export interface EntryRow {
  room_id: number;
  seq: number;
  kind: 'text' | 'image' | 'system';
  sender_id: number | null;
  client_message_id: Buffer | null;
  reply_to: number | null;
  body: string;
  sent_at: Date;
}

const COLUMNS = 'room_id, seq, kind, sender_id, client_message_id, reply_to, body, sent_at';

/** An entry to insert. */
export interface NewEntry {
  readonly roomId: RoomId;
  readonly seq: Seq;
  /** How many text and image entries the room has up to and with this one. */
  readonly ordinal: number;
  readonly kind: EntryRow['kind'];
  readonly senderId: UserId | null;
  readonly clientMessageId: string | null;
  readonly replyTo: Seq | null;
  /** The text, or the JSON of the image or system object. */
  readonly body: string;
  readonly sentAt: Date;
}

/** The object that clients get for an entry. */
export function toMessage(row: EntryRow): Message {
  const message: Message = {
    roomId: row.room_id,
    seq: row.seq,
    kind: row.kind,
    senderId: row.sender_id,
    sentAt: row.sent_at.getTime(),
  };
  if (row.client_message_id !== null) message.clientMessageId = row.client_message_id.toString('utf8');
  // The body was written by this program from validated data, so it is what its kind says.
  if (row.kind === 'text') message.text = row.body;
  else if (row.kind === 'image') message.image = JSON.parse(row.body) as Image;
  else message.system = JSON.parse(row.body) as System;
  if (row.reply_to !== null) message.replyTo = row.reply_to;
  return message;
}

/**
 * Inserts entries in one statement, with the next round trip. The caller holds the locks of their rooms. A taken
 * `client_message_id` fails the transaction with a duplicate key error.
 */
export function insertEntries(sql: Transaction, entries: readonly NewEntry[]): void {
  const rows = entries.map((entry): SqlValue[] => [
    entry.roomId,
    entry.seq,
    entry.ordinal,
    entry.kind,
    entry.senderId,
    entry.clientMessageId,
    entry.replyTo,
    entry.body,
    entry.sentAt,
  ]);
  sql.later(
    `INSERT INTO chat_entry
       (room_id, seq, ordinal, kind, sender_id, client_message_id, reply_to, body, sent_at)
     VALUES ?`,
    [rows],
  );
}

/** The stored entries of these keys: what a repeated `message.send` is compared with. */
export async function findSent(
  sql: Sql,
  keys: readonly { roomId: RoomId; senderId: UserId; clientMessageId: string }[],
): Promise<EntryRow[]> {
  if (keys.length === 0) return [];
  // The keys are bound as bytes: against a VARBINARY column a string of the session's character set would
  // be compared after a conversation that can't use the index.
  return sql.rows<EntryRow>(
    `SELECT ${COLUMNS} FROM chat_entry
      WHERE (room_id, sender_id, client_message_id) IN (?)
      LIMIT ${keys.length}`,
    [keys.map((key): SqlValue[] => [key.roomId, key.senderId, Buffer.from(key.clientMessageId)])],
  );
}

/** Single entries of rooms. */
export async function findEntries(
  sql: Sql,
  places: readonly { roomId: RoomId; seq: Seq }[],
): Promise<EntryRow[]> {
  if (places.length === 0) return [];
  return sql.rows<EntryRow>(
    `SELECT ${COLUMNS} FROM chat_entry WHERE (room_id, seq) IN (?) LIMIT ${places.length}`,
    [places.map((place): SqlValue[] => [place.roomId, place.seq])],
  );
}

/** The ordinals of single entries, for the read marks. */
export async function findOrdinals(
  sql: Sql,
  places: readonly { roomId: RoomId; seq: Seq }[],
): Promise<{ room_id: number; seq: number; ordinal: number }[]> {
  if (places.length === 0) return [];
  return sql.rows(
    `SELECT room_id, seq, ordinal FROM chat_entry WHERE (room_id, seq) IN (?) LIMIT ${places.length}`,
    [places.map((place): SqlValue[] => [place.roomId, place.seq])],
  );
}

/** Which part of a stream to read; ascending by `seq` in every case. */
export interface PageRequest {
  readonly afterSeq?: number | undefined;
  readonly beforeSeq?: number | undefined;
  readonly limit: number;
  /** From the end backwards (the latest), or from the start. */
  readonly latest: boolean;
}

/**
 * Reads a page, one row more than `limit` to know whether there is more. The page ends early when it holds more
 * than `maxBytes` of text, but never before its first entry: a client always gets on.
 */
export async function readPage(
  sql: Sql,
  roomId: RoomId,
  page: PageRequest,
  maxBytes: number,
): Promise<{ rows: EntryRow[]; hasMore: boolean; bytes: number }> {
  const bounds: SqlValue[] = [roomId, page.afterSeq ?? 0, page.beforeSeq ?? Number.MAX_SAFE_INTEGER];
  const limit = page.limit + 1;
  const read = await sql.rows<EntryRow>(
    `SELECT ${COLUMNS} FROM chat_entry
      WHERE room_id = ? AND seq > ? AND seq < ?
      ORDER BY seq ${page.latest ? 'DESC' : 'ASC'}
      LIMIT ${limit}`,
    bounds,
  );
  let bytes = 0;
  let count = 0;
  for (const row of read) {
    if (count === page.limit) break;
    // JSON of text is at most a few bytes longer than its UTF-8; three bytes per unit is the worst of that.
    bytes += row.body.length * 3 + 200;
    if (bytes > maxBytes && count > 0) break;
    count++;
  }
  const rows = read.slice(0, count);
  if (page.latest) rows.reverse();
  return { rows, hasMore: read.length > count, bytes };
}
