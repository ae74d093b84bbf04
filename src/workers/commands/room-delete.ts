import { isFailure } from '../../shared/errors.js';
import { id } from '../../shared/ids.js';
import { log } from '../../shared/log.js';
import { okLine } from '../../shared/protocol/replies.js';
import { lockOwnGroup } from '../access.js';
import { type Command, REPLIED } from '../context.js';
import { removedNotices } from '../room-entries.js';
import { deleteMembers } from '../store/members.js';
import { deleteRoom } from '../store/rooms.js';

export const roomDelete: Command<'room.delete'> = async (ctx, { caller, id: requestId, data }) => {
  const roomId = id.room(data.roomId);
  const deleted = await ctx.db.transaction(async (sql) => {
    const room = await lockOwnGroup(sql, roomId, caller.userId);
    if (isFailure(room)) return room;
    const memberIds = await deleteMembers(sql, roomId);
    await deleteRoom(sql, roomId, new Date());
    return { memberIds, lastSeq: room.last_seq };
  });
  if (isFailure(deleted)) return deleted;
  const { memberIds, lastSeq } = deleted;
  ctx.effects.room({
    roomId,
    seq: id.seq(lastSeq),
    connection: caller.connection,
    reply: okLine(requestId, {}),
    notices: removedNotices(roomId, memberIds, 'deleted', caller.userId),
  });
  log.room.info('deleted', { room: roomId, by: caller.userId });
  return REPLIED;
};
