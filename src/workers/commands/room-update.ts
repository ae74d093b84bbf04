import { fail, isFailure } from '../../shared/errors.js';
import { id } from '../../shared/ids.js';
import { log } from '../../shared/log.js';
import { okLine } from '../../shared/protocol/replies.js';
import { lockOwnGroup } from '../access.js';
import { type Command, REPLIED } from '../context.js';
import { appendSystem, emitEntries, updatedNotices } from '../room-entries.js';
import { updateRoom, viewRoom } from '../store/rooms.js';

/** Only a new name leaves an entry in the stream; the other changes are told by `room.updated` alone. */
export const roomUpdate: Command<'room.update'> = async (ctx, { caller, id: requestId, data }) => {
  const roomId = id.room(data.roomId);
  const updated = await ctx.db.transaction(async (sql) => {
    const room = await lockOwnGroup(sql, roomId, caller.userId);
    if (isFailure(room)) return room;
    const renamed = data.name !== undefined && data.name !== room.name;
    if (data.memberLimit !== undefined && data.memberLimit < room.member_count) {
      return fail('CONFLICT', `room ${roomId} has ${room.member_count} members`);
    }
    room.name = data.name ?? room.name;
    room.visibility = data.visibility ?? room.visibility;
    room.member_limit = data.memberLimit ?? room.member_limit;
    await updateRoom(sql, room);
    const systems =
      renamed && room.name !== null
        ? [{ event: 'renamed', actorId: caller.userId, name: room.name } as const]
        : [];
    const messages = systems.length === 0 ? [] : appendSystem(sql, room, systems, new Date());
    const view = await viewRoom(sql, caller.userId, roomId);
    return { messages, view, lastSeq: room.last_seq, notices: await updatedNotices(sql, roomId) };
  });
  if (isFailure(updated)) return updated;

  const { messages, notices, lastSeq, view: room } = updated;
  const reply = okLine(requestId, { room });
  const { connection } = caller;
  if (messages.length > 0) emitEntries(ctx.effects, roomId, messages, { connection, reply, last: notices });
  else ctx.effects.room({ roomId, seq: id.seq(lastSeq), connection, reply, notices });
  log.room.info('updated', {
    room: roomId,
    by: caller.userId,
    name: data.name,
    visibility: data.visibility,
    memberLimit: data.memberLimit,
  });
  return REPLIED;
};
