import { fail, isFailure } from '../../shared/errors.js';
import { id } from '../../shared/ids.js';
import { log } from '../../shared/log.js';
import type { System } from '../../shared/protocol/objects.js';
import { okLine } from '../../shared/protocol/replies.js';
import { lockOwnGroup } from '../access.js';
import { type Command, REPLIED } from '../context.js';
import { appendSystem, emitEntries, updatedNotices } from '../room-entries.js';
import { isMember } from '../store/members.js';
import { updateRoom, viewRoom } from '../store/rooms.js';

export const roomTransfer: Command<'room.transfer'> = async (ctx, { caller, id: requestId, data }) => {
  const roomId = id.room(data.roomId);
  const userId = id.user(data.userId);
  const transferred = await ctx.db.transaction(async (sql) => {
    const room = await lockOwnGroup(sql, roomId, caller.userId);
    if (isFailure(room)) return room;
    if (!(await isMember(sql, roomId, userId))) {
      return fail('NOT_FOUND', `user ${userId} is not in room ${roomId}`);
    }
    if (userId === caller.userId)
      return { messages: [], notices: [], view: await viewRoom(sql, userId, roomId) };
    room.owner_id = userId;
    await updateRoom(sql, room);
    const system: System = { event: 'owner_changed', actorId: caller.userId, subjectIds: [userId] };
    const messages = appendSystem(sql, room, [system], new Date());
    const view = await viewRoom(sql, caller.userId, roomId);
    return { messages, view, notices: await updatedNotices(sql, roomId) };
  });
  if (isFailure(transferred)) return transferred;
  const { messages, notices, view: room } = transferred;
  if (room === undefined) throw new Error(`room ${roomId} vanished under its lock`);
  if (messages.length === 0) return { room };
  emitEntries(ctx.effects, roomId, messages, {
    connection: caller.connection,
    reply: okLine(requestId, { room }),
    last: notices,
  });
  log.room.info('transferred', { room: roomId, from: caller.userId, to: userId });
  return REPLIED;
};
