import { badField, type Failure, isFailure } from '../shared/errors.js';
import { id } from '../shared/ids.js';
import { eventLine } from '../shared/protocol/events.js';
import { errorLine, okLine } from '../shared/protocol/replies.js';
import { refuseNonMember } from './access.js';
import { deliveredMark } from './commands/message-delivered.js';
import { readMark } from './commands/message-read.js';
import type { Request, WorkerContext } from './context.js';
import type { Sql, Transaction } from './store/database.js';
import { findOrdinals } from './store/entries.js';
import { findMarks, type Marks, raiseMarks } from './store/members.js';
import { findHeads, findRoom } from './store/rooms.js';

/** One of the two requests that move a member's high-water marks. */
export type MarkRequest =
  | { readonly type: 'message.read'; readonly request: Request<'message.read'> }
  | { readonly type: 'message.delivered'; readonly request: Request<'message.delivered'> };

type Result =
  | { readonly mark: MarkRequest; readonly ok: object; readonly receipt: Marks | undefined }
  | { readonly mark: MarkRequest; readonly failure: Failure }
  | { readonly mark: MarkRequest; readonly outside: true };

/**
 * All marks of a batch in one transaction, as a room of a hundred answers every message with a hundred of them.
 * Returns those that are still to be answered, with {@link refuseMark}: nobody else waits for that look.
 */
export async function moveMarks(
  ctx: WorkerContext,
  requests: readonly MarkRequest[],
): Promise<MarkRequest[]> {
  const results = await ctx.db.transaction((sql) => move(sql, requests));
  if (isFailure(results)) {
    for (const { request } of requests) {
      ctx.effects.reply(request.caller.connection, errorLine(request.id, results));
    }
    return [];
  }
  const outsiders: MarkRequest[] = [];
  for (const result of results) {
    const { caller, id: requestId, data } = result.mark.request;
    if ('ok' in result) {
      ctx.effects.reply(caller.connection, okLine(requestId, result.ok));
      if (result.receipt !== undefined) {
        const { delivered_seq: deliveredSeq, read_seq: readSeq } = result.receipt;
        const { roomId } = data;
        const line = eventLine('receipt', { roomId, userId: caller.userId, deliveredSeq, readSeq });
        ctx.effects.receipt(id.room(roomId), caller.connection, line);
      }
    } else if ('failure' in result) {
      ctx.effects.reply(caller.connection, errorLine(requestId, result.failure));
    } else {
      outsiders.push(result.mark);
    }
  }
  return outsiders;
}

/** Answers a mark of a user who is not in the room. */
export async function refuseMark(ctx: WorkerContext, { request }: MarkRequest): Promise<void> {
  const { caller, id: requestId, data } = request;
  const roomId = id.room(data.roomId);
  const refusal = await ctx.db.read(async (sql) =>
    refuseNonMember(sql, roomId, caller.userId, await findRoom(sql, roomId)),
  );
  ctx.effects.reply(caller.connection, errorLine(requestId, refusal));
}

async function move(sql: Transaction, requests: readonly MarkRequest[]): Promise<Result[]> {
  const roomIds = [...new Set(requests.map(({ request }) => id.room(request.data.roomId)))];
  // One round trip; the heads are read after the marks are locked, so that a head is never older than a mark.
  const [marks, rooms, ordinals] = await Promise.all([
    lockMarks(sql, requests),
    findHeads(sql, roomIds),
    readOrdinals(sql, requests),
  ]);
  const members = new Map(marks.map((row) => [`${row.room_id} ${row.user_id}`, row]));
  const heads = new Map(rooms.map((head) => [head.id, head]));
  const raised = new Map<string, Marks>();

  const results = requests.map((mark): Result => {
    const { caller, data } = mark.request;
    const key = `${data.roomId} ${caller.userId}`;
    const before = members.get(key);
    const head = heads.get(data.roomId);
    if (before === undefined || head === undefined) return { mark, outside: true };
    if (data.seq > head.last_seq) {
      return { mark, failure: badField('data.seq', `the room has ${head.last_seq} entries`) };
    }
    const kind = mark.type === 'message.read' ? readMark : deliveredMark;
    const after = kind.move(before, data.seq, ordinals.get(`${data.roomId} ${data.seq}`) ?? 0);
    const moved = after.read_seq !== before.read_seq || after.delivered_seq !== before.delivered_seq;
    members.set(key, after);
    if (moved) raised.set(key, after);
    return { mark, ok: kind.ok(after, head), receipt: moved ? after : undefined };
  });
  raiseMarks(sql, [...raised.values()]);
  return results;
}

async function lockMarks(sql: Sql, requests: readonly MarkRequest[]): Promise<Marks[]> {
  const pairs = new Map(
    requests.map(({ request: { data, caller } }) => [
      `${data.roomId} ${caller.userId}`,
      { roomId: id.room(data.roomId), userId: caller.userId },
    ]),
  );
  return findMarks(sql, [...pairs.values()], true);
}

async function readOrdinals(sql: Sql, requests: readonly MarkRequest[]): Promise<Map<string, number>> {
  const places = new Map(
    requests
      .filter(({ type }) => type === 'message.read')
      .map(({ request: { data } }) => [
        `${data.roomId} ${data.seq}`,
        { roomId: id.room(data.roomId), seq: id.seq(data.seq) },
      ]),
  );
  const rows = await findOrdinals(sql, [...places.values()]);
  return new Map(rows.map((row) => [`${row.room_id} ${row.seq}`, row.ordinal]));
}
