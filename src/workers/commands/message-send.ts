import type { EffectWriter } from '../../shared/effects.js';
import { type Failure, fail, isFailure } from '../../shared/errors.js';
import { id, type RoomId } from '../../shared/ids.js';
import { log } from '../../shared/log.js';
import { eventLine } from '../../shared/protocol/events.js';
import type { Image } from '../../shared/protocol/objects.js';
import { errorLine, okLine } from '../../shared/protocol/replies.js';
import type { RequestData } from '../../shared/protocol/requests.js';
import { refuseNonMember } from '../access.js';
import type { Request, WorkerContext } from '../context.js';
import { type Database, isDuplicateKey, type Sql, type Transaction } from '../store/database.js';
import { type EntryRow, findSent, insertEntries, type NewEntry, toMessage } from '../store/entries.js';
import { findMarks, type Marks, raiseMarks } from '../store/members.js';
import { advanceRooms, findRoom, type LockedRoom, lockRooms } from '../store/rooms.js';

type Send = Request<'message.send'>;

/** What became of one send. */
type Result =
  | { readonly send: Send; readonly entry: NewEntry }
  | { readonly send: Send; readonly original: { readonly seq: number; readonly sentAt: number } }
  | { readonly send: Send; readonly failure: Failure }
  /** Room or membership is missing: which error that is, is looked up after the transaction. */
  | { readonly send: Send; readonly outside: true };

/**
 * All sends of a batch in one transaction: lock the rooms in id order, check membership, give out `seq`, one
 * multi-row insert, move the rooms' heads and the senders' marks, commit. The first try assumes that no send is a
 * repetition; if the unique key says otherwise, a second one looks the repeated ones up.
 *
 * Returns the sends that are still to be answered, with {@link refuseOutsider}: nobody else waits for that look.
 */
export async function sendMessages(ctx: WorkerContext, sends: readonly Send[]): Promise<Send[]> {
  const results = await storeOnce(ctx.db, sends);
  if (isFailure(results)) {
    for (const { caller, id: requestId } of sends) {
      ctx.effects.reply(caller.connection, errorLine(requestId, results));
    }
    return [];
  }
  const outsiders: Send[] = [];
  for (const result of results) {
    if ('entry' in result) emitEntry(ctx, result.send, result.entry);
    else if ('original' in result) replyOriginal(ctx.effects, result.send, result.original);
    else if ('failure' in result) replyFailure(ctx.effects, result.send, result.failure);
    else outsiders.push(result.send);
  }
  return outsiders;
}

async function storeOnce(db: Database, sends: readonly Send[]): Promise<Result[] | Failure> {
  try {
    return await db.transaction((sql) => store(sql, sends, false));
  } catch (error) {
    // A `clientMessageId` is stored already.
    if (!isDuplicateKey(error)) throw error;
    return db.transaction((sql) => store(sql, sends, true));
  }
}

async function store(sql: Transaction, sends: readonly Send[], lookup: boolean): Promise<Result[]> {
  const roomIds = [...new Set(sends.map((send) => id.room(send.data.roomId)))].sort((a, b) => a - b);
  // One round trip; the server reads the members after it has locked the rooms.
  const [locked, members, stored] = await Promise.all([
    lockRooms(sql, roomIds),
    findSenders(sql, sends),
    lookup ? findStored(sql, sends) : new Map<string, EntryRow>(),
  ]);
  const rooms = new Map(locked.map((room) => [room.id, room]));

  const sentAt = new Date();
  const fresh = new Map<string, NewEntry>();
  const marks = new Map<string, Marks>();
  const results = sends.map((send): Result => {
    const { data, caller } = send;
    const room = rooms.get(data.roomId);
    if (room === undefined || !members.has(`${data.roomId} ${caller.userId}`)) return { send, outside: true };
    const content = contentOf(data);
    const key = keyOf(send);
    const before = stored.get(key);
    if (before !== undefined) return repetition(send, content, before);
    const twin = fresh.get(key);
    if (twin !== undefined) return inBatchRepetition(send, content, twin);
    if (content.replyTo !== null && content.replyTo > room.last_seq) {
      return { send, failure: fail('NOT_FOUND', `room ${room.id} has no message ${content.replyTo}`) };
    }
    const entry = append(room, send, content, sentAt);
    fresh.set(key, entry);
    // Sending counts as reading: everything up to the sender's own entry.
    marks.set(`${entry.roomId} ${caller.userId}`, {
      room_id: entry.roomId,
      user_id: caller.userId,
      read_seq: entry.seq,
      read_ordinal: entry.ordinal,
      delivered_seq: entry.seq,
    });
    return { send, entry };
  });

  if (fresh.size > 0) {
    insertEntries(sql, [...fresh.values()]);
    const moved = new Set([...fresh.values()].map((entry) => entry.roomId));
    const heads = locked
      .map((room) => ({
        roomId: id.room(room.id),
        lastSeq: id.seq(room.last_seq),
        lastOrdinal: room.last_ordinal,
      }))
      .filter((head) => moved.has(head.roomId));
    advanceRooms(sql, heads);
    raiseMarks(sql, [...marks.values()]);
  }
  return results;
}

/** The pairs `room user` of senders who are in the room. No membership changes while the room is locked. */
async function findSenders(sql: Sql, sends: readonly Send[]): Promise<Set<string>> {
  const pairs = new Map(
    sends.map(({ data, caller }) => [
      `${data.roomId} ${caller.userId}`,
      { roomId: id.room(data.roomId), userId: caller.userId },
    ]),
  );
  const rows = await findMarks(sql, [...pairs.values()], false);
  return new Set(rows.map((row) => `${row.room_id} ${row.user_id}`));
}

async function findStored(sql: Sql, sends: readonly Send[]): Promise<Map<string, EntryRow>> {
  const rows = await findSent(
    sql,
    sends.map(({ data, caller }) => ({
      roomId: id.room(data.roomId),
      senderId: caller.userId,
      clientMessageId: data.clientMessageId,
    })),
  );
  return new Map(
    rows.map((row) => [`${row.room_id} ${row.sender_id} ${row.client_message_id?.toString('utf8')}`, row]),
  );
}

function keyOf({ data, caller }: Send): string {
  return `${data.roomId} ${caller.userId} ${data.clientMessageId}`;
}

type Content = Pick<NewEntry, 'kind' | 'body' | 'replyTo'>;

/** What makes two sends with one key the same message. */
function contentOf(data: RequestData<'message.send'>): Content {
  if (data.kind === 'text') {
    return {
      kind: 'text',
      body: data.text,
      replyTo: data.replyTo === undefined ? null : id.seq(data.replyTo),
    };
  }
  return { kind: 'image', body: imageBody(data.image), replyTo: null };
}

/** The stored form of an image: fields in one order, whatever order the client had. */
function imageBody({ path, thumbnailPath, width, height, bytes, mimeType, caption }: Image): string {
  return JSON.stringify({ path, thumbnailPath, width, height, bytes, mimeType, caption });
}

function append(room: LockedRoom, send: Send, content: Content, sentAt: Date): NewEntry {
  room.last_seq++;
  room.last_ordinal++;
  return {
    roomId: id.room(room.id),
    seq: id.seq(room.last_seq),
    ordinal: room.last_ordinal,
    ...content,
    senderId: send.caller.userId,
    clientMessageId: send.data.clientMessageId,
    sentAt,
  };
}

function repetition(send: Send, content: Content, before: EntryRow): Result {
  const isSame =
    before.kind === content.kind && before.body === content.body && before.reply_to === content.replyTo;
  if (isSame) return { send, original: { seq: before.seq, sentAt: before.sent_at.getTime() } };
  return { send, failure: conflict(send) };
}

/** The same key twice in one batch: the second is answered as the repetition it is. */
function inBatchRepetition(send: Send, content: Content, twin: NewEntry): Result {
  const isSame = twin.kind === content.kind && twin.body === content.body && twin.replyTo === content.replyTo;
  if (isSame) return { send, original: { seq: twin.seq, sentAt: twin.sentAt.getTime() } };
  return { send, failure: conflict(send) };
}

function conflict(send: Send): Failure {
  return fail('CONFLICT', `clientMessageId ${JSON.stringify(send.data.clientMessageId)} has another content`);
}

function emitEntry(ctx: WorkerContext, { caller, id: requestId }: Send, entry: NewEntry): void {
  const { roomId, seq } = entry;
  const message = toMessage({
    room_id: roomId,
    seq,
    kind: entry.kind,
    sender_id: entry.senderId,
    client_message_id: entry.clientMessageId === null ? null : Buffer.from(entry.clientMessageId),
    reply_to: entry.replyTo,
    body: entry.body,
    sent_at: entry.sentAt,
  });
  const event = eventLine('message', message);
  ctx.effects.room({
    roomId,
    seq,
    connection: caller.connection,
    replaces: true,
    reply: okLine(requestId, { roomId, seq, sentAt: entry.sentAt.getTime(), duplicate: false }),
    event,
  });
  if (log.message.debugging) {
    log.message.debug('stored', {
      room: roomId,
      seq,
      sender: entry.senderId,
      connection: caller.connection,
      kind: entry.kind,
      key: entry.clientMessageId,
      size: event.length,
      text: ctx.logText ? entry.body : undefined,
    });
  }
}

function replyOriginal(
  effects: EffectWriter,
  { caller, id: requestId, data }: Send,
  { seq, sentAt }: { seq: number; sentAt: number },
): void {
  effects.reply(caller.connection, okLine(requestId, { roomId: data.roomId, seq, sentAt, duplicate: true }));
}

function replyFailure(effects: EffectWriter, { caller, id: requestId }: Send, failure: Failure): void {
  effects.reply(caller.connection, errorLine(requestId, failure));
}

/**
 * The sender is not in the room. A repetition of something sent while they were still finds its original: the
 * client only wants to know what became of it.
 */
export async function refuseOutsider(ctx: WorkerContext, send: Send): Promise<void> {
  const roomId: RoomId = id.room(send.data.roomId);
  const { userId } = send.caller;
  const answer = await ctx.db.read(async (sql) => {
    const before = (await findStored(sql, [send])).get(keyOf(send));
    return before ?? refuseNonMember(sql, roomId, userId, await findRoom(sql, roomId));
  });
  if (isFailure(answer)) return replyFailure(ctx.effects, send, answer);
  const result = repetition(send, contentOf(send.data), answer);
  if ('original' in result) replyOriginal(ctx.effects, send, result.original);
  else if ('failure' in result) replyFailure(ctx.effects, send, result.failure);
}
