import { fail, isFailure } from '../../shared/errors.js';
import { id } from '../../shared/ids.js';
import { log } from '../../shared/log.js';
import type { System } from '../../shared/protocol/objects.js';
import { okLine } from '../../shared/protocol/replies.js';
import { lockOwnGroup } from '../access.js';
import { type Command, REPLIED } from '../context.js';
import { refuseUnknown } from '../membership.js';
import { appendSystem, emitEntries, removedNotices } from '../room-entries.js';
import { deleteMember, findBanned, insertBan } from '../store/members.js';
import { updateRoom } from '../store/rooms.js';

/** With `ban` the user need not be in the room: who left can be kept out too. */
export const roomKick: Command<'room.kick'> = async (ctx, { caller, id: requestId, data }) => {
  const roomId = id.room(data.roomId);
  const userId = id.user(data.userId);
  const event = data.ban === true ? 'banned' : 'kicked';
  const kicked = await ctx.db.transaction(async (sql) => {
    const room = await lockOwnGroup(sql, roomId, caller.userId);
    if (isFailure(room)) return room;
    if (userId === caller.userId) return fail('FORBIDDEN', 'the owner can leave, not kick themselves');
    const wasMember = await deleteMember(sql, roomId, userId);
    const at = new Date();
    if (data.ban === true) {
      const refusal = await refuseUnknown(sql, [userId]);
      if (refusal !== undefined && !wasMember) return refusal;
      const isBanned = (await findBanned(sql, roomId, [userId])).has(userId);
      if (isBanned) return { messages: [], wasMember };
      await insertBan(sql, roomId, { userId, by: caller.userId, at });
    } else if (!wasMember) {
      return fail('NOT_FOUND', `user ${userId} is not in room ${roomId}`);
    }
    if (wasMember) {
      room.member_count--;
      await updateRoom(sql, room);
    }
    const system: System = { event, actorId: caller.userId, subjectIds: [userId] };
    return { messages: appendSystem(sql, room, [system], at), wasMember };
  });
  if (isFailure(kicked)) return kicked;
  const { messages, wasMember } = kicked;
  if (messages.length === 0) return {};

  emitEntries(ctx.effects, roomId, messages, {
    connection: caller.connection,
    reply: okLine(requestId, {}),
    first: wasMember ? removedNotices(roomId, [userId], event, caller.userId) : [],
  });
  log.room.info(event, { room: roomId, user: userId, by: caller.userId });
  return REPLIED;
};
