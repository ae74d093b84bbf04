import type { Caller } from '../../shared/batch.js';
import { type Failure, fail, isFailure } from '../../shared/errors.js';
import { id } from '../../shared/ids.js';
import { log } from '../../shared/log.js';
import { eventLine } from '../../shared/protocol/events.js';
import { okLine } from '../../shared/protocol/replies.js';
import type { RequestId } from '../../shared/protocol/requests.js';
import { type Command, REPLIED, type WorkerContext } from '../context.js';
import { refuseTooManyRooms, refuseUnknown } from '../membership.js';
import { addedNotices, appendSystem, replyAlreadyIn } from '../room-entries.js';
import { isDuplicateKey } from '../store/database.js';
import { insertMembers } from '../store/members.js';
import { findByClientRoomId, insertRoom, lockRooms, viewRoom } from '../store/rooms.js';

export const roomCreate: Command<'room.create'> = async (ctx, { caller, id: requestId, data }) => {
  const { name, visibility = 'public', memberLimit = ctx.limits.memberLimit, clientRoomId } = data;
  const ownerId = caller.userId;
  const others = [...new Set(data.memberIds ?? [])].filter((userId) => userId !== ownerId).map(id.user);
  const memberIds = [ownerId, ...others];
  if (memberIds.length > memberLimit) return fail('ROOM_FULL', `the room takes ${memberLimit} members`);

  const created = await ctx.db.transaction(async (sql) => {
    if (clientRoomId !== undefined) {
      const first = await findByClientRoomId(sql, ownerId, clientRoomId);
      if (first !== undefined) return { first };
    }
    const refusal =
      (await refuseUnknown(sql, others)) ?? (await refuseTooManyRooms(sql, ctx.limits, memberIds));
    if (refusal !== undefined) return refusal;
    const at = new Date();
    let roomId: number;
    try {
      roomId = await insertRoom(sql, {
        kind: 'group',
        name,
        visibility,
        ownerId,
        memberCount: memberIds.length,
        memberLimit,
        createdBy: ownerId,
        clientRoomId: clientRoomId ?? null,
        direct: null,
        createdAt: at,
      });
    } catch (error) {
      if (clientRoomId === undefined || !isDuplicateKey(error)) throw error;
      // The same request on another connection was faster, and has committed, or this would have waited.
      return { first: (await findByClientRoomId(sql, ownerId, clientRoomId)) ?? 0 };
    }
    const [room] = await lockRooms(sql, [id.room(roomId)]);
    if (room === undefined) throw new Error(`room ${roomId} vanished in the transaction that made it`);
    const subjects = others.length === 0 ? {} : { subjectIds: others };
    const system = { event: 'created', actorId: ownerId, name, ...subjects } as const;
    const [message] = appendSystem(sql, room, [system], at);
    await insertMembers(sql, id.room(roomId), memberIds, { at, seq: id.seq(1), ordinal: 0 });
    const view = await viewRoom(sql, ownerId, id.room(roomId));
    return {
      roomId: id.room(roomId),
      message,
      view,
      notices: await addedNotices(sql, id.room(roomId), memberIds),
    };
  });
  if (isFailure(created)) return created;
  if ('first' in created) return replyFirst(ctx, caller, requestId, created.first);

  const { roomId, message, view, notices } = created;
  if (message === undefined) throw new Error('a new room has no first entry');
  ctx.effects.room({
    roomId,
    seq: id.seq(message.seq),
    connection: caller.connection,
    reply: okLine(requestId, { room: view }),
    event: eventLine('message', message),
    notices,
  });
  log.room.info('created', { room: roomId, owner: ownerId, members: memberIds.join(','), visibility });
  return REPLIED;
};

/** A repeated `clientRoomId`: the room it made, if that is still the caller's. */
async function replyFirst(
  ctx: WorkerContext,
  { userId, connection }: Caller,
  requestId: RequestId,
  roomId: number,
): Promise<Failure | typeof REPLIED> {
  const room = await ctx.db.read((sql) => viewRoom(sql, userId, id.room(roomId)));
  if (isFailure(room)) return room;
  if (room === undefined || room.role === null) {
    return fail('CONFLICT', 'the room of this clientRoomId is gone, or you left it');
  }
  replyAlreadyIn(ctx.effects, room, { userId, connection, reply: okLine(requestId, { room }) });
  return REPLIED;
}
