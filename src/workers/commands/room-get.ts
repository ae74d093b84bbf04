import { isFailure } from '../../shared/errors.js';
import { id } from '../../shared/ids.js';
import { refuseNonMember } from '../access.js';
import type { Command } from '../context.js';
import { findRoom, viewRoom } from '../store/rooms.js';

/** A public room can be looked at before joining; anything else only by its members. */
export const roomGet: Command<'room.get'> = async (ctx, { caller, data }) => {
  const roomId = id.room(data.roomId);
  return ctx.db.read(async (sql) => {
    const room = await viewRoom(sql, caller.userId, roomId);
    if (room !== undefined && room.role !== null) return { room };
    const refusal = await refuseNonMember(sql, roomId, caller.userId, await findRoom(sql, roomId));
    return room !== undefined && isFailure(refusal) && refusal.failure === 'NOT_A_MEMBER'
      ? { room }
      : refusal;
  });
};
