import { isFailure } from '../../shared/errors.js';
import { id } from '../../shared/ids.js';
import { log } from '../../shared/log.js';
import type { System } from '../../shared/protocol/objects.js';
import { okLine } from '../../shared/protocol/replies.js';
import { lockOwnGroup } from '../access.js';
import { type Command, REPLIED } from '../context.js';
import { appendSystem, emitEntries } from '../room-entries.js';
import { deleteBan } from '../store/members.js';

/** Lifting a ban that is not there is harmless and leaves no entry. */
export const roomUnban: Command<'room.unban'> = async (ctx, { caller, id: requestId, data }) => {
  const roomId = id.room(data.roomId);
  const userId = id.user(data.userId);
  const messages = await ctx.db.transaction(async (sql) => {
    const room = await lockOwnGroup(sql, roomId, caller.userId);
    if (isFailure(room)) return room;
    if (!(await deleteBan(sql, roomId, userId))) return [];
    const system: System = { event: 'unbanned', actorId: caller.userId, subjectIds: [userId] };
    return appendSystem(sql, room, [system], new Date());
  });
  if (isFailure(messages)) return messages;
  if (messages.length === 0) return {};
  emitEntries(ctx.effects, roomId, messages, { connection: caller.connection, reply: okLine(requestId, {}) });
  log.room.info('unbanned', { room: roomId, user: userId, by: caller.userId });
  return REPLIED;
};
