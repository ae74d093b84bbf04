import { isFailure } from '../../shared/errors.js';
import { id } from '../../shared/ids.js';
import { log } from '../../shared/log.js';
import type { System } from '../../shared/protocol/objects.js';
import { okLine } from '../../shared/protocol/replies.js';
import { lockGroup } from '../access.js';
import { type Command, REPLIED } from '../context.js';
import { appendSystem, emitEntries, removedNotices, updatedNotices } from '../room-entries.js';
import { deleteMember, findLongestStanding } from '../store/members.js';
import { deleteRoom, updateRoom } from '../store/rooms.js';

export const roomLeave: Command<'room.leave'> = async (ctx, { caller, id: requestId, data }) => {
  const roomId = id.room(data.roomId);
  const userId = caller.userId;
  const left = await ctx.db.transaction(async (sql) => {
    const room = await lockGroup(sql, roomId, userId);
    if (isFailure(room)) return room;
    const at = new Date();
    const systems: System[] = [{ event: 'left', actorId: userId }];
    const heir = room.owner_id === userId ? await findLongestStanding(sql, roomId, userId) : undefined;
    if (heir !== undefined) {
      room.owner_id = heir;
      systems.push({ event: 'owner_changed', actorId: userId, subjectIds: [heir] });
    }
    const messages = appendSystem(sql, room, systems, at);
    await deleteMember(sql, roomId, userId);
    room.member_count--;
    await updateRoom(sql, room);
    if (room.member_count === 0) await deleteRoom(sql, roomId, at);
    const updated = heir === undefined ? [] : await updatedNotices(sql, roomId);
    return { messages, heir, members: room.member_count, updated };
  });
  if (isFailure(left)) return left;

  const { messages, heir, members, updated } = left;
  emitEntries(ctx.effects, roomId, messages, {
    connection: caller.connection,
    reply: okLine(requestId, {}),
    first: removedNotices(roomId, [userId], 'left', userId),
    last: updated,
  });
  log.room.info('left', { room: roomId, user: userId, members, newOwner: heir });
  if (members === 0) log.room.info('deleted', { room: roomId, by: userId, reason: 'empty' });
  return REPLIED;
};
