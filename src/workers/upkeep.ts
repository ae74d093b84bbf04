import { isFailure } from '../shared/errors.js';
import { id, type RoomId, type Seq } from '../shared/ids.js';
import { log } from '../shared/log.js';
import { eventLine } from '../shared/protocol/events.js';
import type { Message, System } from '../shared/protocol/objects.js';
import type { Task, TaskAnswer } from '../shared/tasks.js';
import type { WorkerContext } from './context.js';
import { announceOffline, endSessions } from './presence.js';
import { messageBytes } from './reply-size.js';
import {
  addedNotice,
  addedNotices,
  type NoticeLine,
  removedNotices,
  updatedNotices,
} from './room-entries.js';
import type { Sql } from './store/database.js';
import { readPage, toMessage } from './store/entries.js';
import { awaitHeads, viewRoomForMembers } from './store/rooms.js';
import {
  deleteProcesses,
  findDeadProcesses,
  findDisabledSessions,
  findSessionsOf,
  findSettledSessions,
  renewLease,
} from './store/sessions.js';

/** What workers do for the main thread itself, not for a client. */

/** Renewed every few seconds; a process that misses this long is taken for dead (PROTOCOL 8: within 30 s). */
export const LEASE_SECONDS = 15;
/** Entries of one room, and bytes of all, that one task reads back; what is left is a hole again. */
const READ_BACK_LIMIT = 100;
const READ_BACK_BYTES = 16 * 1024 * 1024;
/** More than it takes from the end of a login's transaction to the main thread. */
const LOGIN_SECONDS = 2;

const DONE: TaskAnswer = { ok: true };

/** Renews the lease and takes over what dead processes left: their users go offline. */
export async function maintain(
  ctx: WorkerContext,
  { status, reconcile }: Extract<Task, { kind: 'maintain' }>,
): Promise<TaskAnswer> {
  const renewed = await ctx.db.transaction(async (sql) => {
    await renewLease(sql, { id: ctx.processId, ...status }, LEASE_SECONDS);
    return DONE;
  });
  if (isFailure(renewed)) return { ok: false, reason: renewed.message };
  const swept = await ctx.db.transaction(async (sql) => {
    const dead = (await findDeadProcesses(sql)).filter((processId) => processId !== ctx.processId);
    const gone = await endSessions(sql, await findSessionsOf(sql, dead));
    await deleteProcesses(sql, dead);
    return { dead, gone };
  });
  if (isFailure(swept)) return { ok: false, reason: swept.message };
  for (const processId of swept.dead) log.presence.warn('process died', { process: processId });
  announceOffline(ctx.effects, swept.gone);

  const disabled = await ctx.db.read((sql) => findDisabledSessions(sql, ctx.processId));
  if (isFailure(disabled)) return { ok: false, reason: disabled.message };
  for (const session of disabled) ctx.effects.revoke(id.user(session.user_id), id.session(session.id));
  if (!reconcile) return DONE;

  // A younger one may be of a login whose transaction is not over, or that the main thread has not heard of.
  const seconds = Math.ceil(ctx.db.timeoutMs / 1000) + LOGIN_SECONDS;
  const settled = await ctx.db.read((sql) => findSettledSessions(sql, ctx.processId, seconds));
  if (isFailure(settled)) return { ok: false, reason: settled.message };
  return { ok: true, sessionIds: settled.map(id.session) };
}

export async function endSessionsTask(
  ctx: WorkerContext,
  { sessionIds }: Extract<Task, { kind: 'end-sessions' }>,
): Promise<TaskAnswer> {
  const gone = await ctx.db.transaction((sql) => endSessions(sql, sessionIds));
  if (isFailure(gone)) return { ok: false, reason: gone.message };
  announceOffline(ctx.effects, gone);
  return DONE;
}

/** The sessions and the lease of this process go, so that nobody has to wait for the lease to run out. */
export async function retire(ctx: WorkerContext): Promise<TaskAnswer> {
  const gone = await ctx.db.transaction(async (sql) => {
    const ended = await endSessions(sql, await findSessionsOf(sql, [ctx.processId]));
    await deleteProcesses(sql, [ctx.processId]);
    return ended;
  });
  return isFailure(gone) ? { ok: false, reason: gone.message } : DONE;
}

export async function readHeads(
  ctx: WorkerContext,
  { roomIds, unheard }: Extract<Task, { kind: 'heads' }>,
): Promise<TaskAnswer> {
  const read = await ctx.db.transaction(async (sql) => {
    // A COMMIT without an answer may still be on its way: its transaction holds the rooms' locks until then.
    const heads = await awaitHeads(sql, roomIds);
    const unheardOf = new Set(unheard);
    const members = [];
    for (const { id: roomId, deleted_at } of heads) {
      if (deleted_at !== null || !unheardOf.has(id.room(roomId))) continue;
      members.push(...(await viewRoomForMembers(sql, id.room(roomId))));
    }
    return { heads, members };
  });
  if (isFailure(read)) return { ok: false, reason: read.message };
  for (const { userId, room } of read.members) {
    ctx.effects.room({
      roomId: id.room(room.id),
      seq: id.seq(room.lastSeq),
      notices: [addedNotice(id.user(userId), room)],
    });
  }
  const heads = read.heads.map(({ id: roomId, last_seq, deleted_at, owner_id }) => ({
    roomId: id.room(roomId),
    lastSeq: id.seq(last_seq),
    ...(deleted_at !== null && owner_id !== null ? { deletedBy: id.user(owner_id) } : {}),
  }));
  return { ok: true, heads };
}

/** Entries that the router missed, with the same notices as when they were made. */
export async function readBack(
  ctx: WorkerContext,
  { holes }: Extract<Task, { kind: 'read-back' }>,
): Promise<TaskAnswer> {
  let budget = READ_BACK_BYTES;
  for (const { roomId, afterSeq, uptoSeq } of holes) {
    if (budget <= 0) break;
    const read = await ctx.db.read((sql) => readEntries(sql, roomId, afterSeq, uptoSeq, budget));
    if (isFailure(read)) return { ok: false, reason: read.message };
    for (const { message, notices } of read) {
      budget -= messageBytes(message);
      ctx.effects.room({ roomId, seq: id.seq(message.seq), event: eventLine('message', message), notices });
    }
    log.message.info('read back', { room: roomId, after: afterSeq, upto: uptoSeq, entries: read.length });
  }
  return DONE;
}

async function readEntries(sql: Sql, roomId: RoomId, afterSeq: Seq, uptoSeq: Seq, maxBytes: number) {
  const entries: { message: Message; notices: NoticeLine[] }[] = [];
  const page = { afterSeq, beforeSeq: uptoSeq + 1, limit: READ_BACK_LIMIT, latest: false };
  const { rows } = await readPage(sql, roomId, page, maxBytes);
  for (const row of rows) {
    const message = toMessage(row);
    const notices = message.system === undefined ? [] : await membershipNotices(sql, roomId, message.system);
    entries.push({ message, notices });
  }
  return entries;
}

/** Who a system message brought into the room or took out of it. */
async function membershipNotices(sql: Sql, roomId: RoomId, system: System): Promise<NoticeLine[]> {
  const { event, actorId, subjectIds = [] } = system;
  switch (event) {
    case 'created':
    case 'joined':
      return addedNotices(sql, roomId, [actorId, ...subjectIds]);
    case 'invited':
      return addedNotices(sql, roomId, subjectIds);
    case 'left':
      return removedNotices(roomId, [actorId], 'left', id.user(actorId));
    case 'kicked':
    case 'banned':
      return removedNotices(roomId, subjectIds, event, id.user(actorId));
    case 'renamed':
    case 'owner_changed':
      return updatedNotices(sql, roomId);
    case 'unbanned':
      return [];
  }
}
