import { fail, isFailure } from '../../shared/errors.js';
import { id } from '../../shared/ids.js';
import { log } from '../../shared/log.js';
import { eventLine } from '../../shared/protocol/events.js';
import { okLine } from '../../shared/protocol/replies.js';
import { lockGroup } from '../access.js';
import { type Command, REPLIED } from '../context.js';
import { refuseTooManyRooms, refuseUnknown } from '../membership.js';
import { addedNotices, appendSystem } from '../room-entries.js';
import { findBanned, findMarks, insertMembers } from '../store/members.js';
import { updateRoom } from '../store/rooms.js';

/** All or nothing: one unknown, banned or surplus user refuses the whole invitation. */
export const roomInvite: Command<'room.invite'> = async (ctx, { caller, id: requestId, data }) => {
  const roomId = id.room(data.roomId);
  const wanted = [...new Set(data.userIds)].map(id.user);
  const invited = await ctx.db.transaction(async (sql) => {
    const room = await lockGroup(sql, roomId, caller.userId);
    if (isFailure(room)) return room;
    const members = await findMarks(
      sql,
      wanted.map((userId) => ({ roomId, userId })),
      false,
    );
    const inside = new Set(members.map((member) => member.user_id));
    const fresh = wanted.filter((userId) => !inside.has(userId));
    if (fresh.length === 0) return { fresh, message: undefined, notices: [] };
    const unknown = await refuseUnknown(sql, fresh);
    if (unknown !== undefined) return unknown;
    const [banned] = await findBanned(sql, roomId, fresh);
    if (banned !== undefined) return fail('CONFLICT', `user ${banned} is banned; the owner can lift that`);
    if (room.member_count + fresh.length > room.member_limit) {
      return fail(
        'ROOM_FULL',
        `room ${roomId} takes ${room.member_limit} members and has ${room.member_count}`,
      );
    }
    const tooMany = await refuseTooManyRooms(sql, ctx.limits, fresh);
    if (tooMany !== undefined) return tooMany;
    const at = new Date();
    const system = { event: 'invited', actorId: caller.userId, subjectIds: fresh } as const;
    const [message] = appendSystem(sql, room, [system], at);
    await insertMembers(sql, roomId, fresh, { at, seq: id.seq(room.last_seq), ordinal: room.last_ordinal });
    room.member_count += fresh.length;
    await updateRoom(sql, room);
    return { fresh, message, notices: await addedNotices(sql, roomId, fresh) };
  });
  if (isFailure(invited)) return invited;

  const { fresh, message, notices } = invited;
  if (message === undefined) return { invited: [] };
  ctx.effects.room({
    roomId,
    seq: id.seq(message.seq),
    connection: caller.connection,
    reply: okLine(requestId, { invited: fresh }),
    event: eventLine('message', message),
    notices,
  });
  log.room.info('invited', { room: roomId, by: caller.userId, users: fresh.join(',') });
  return REPLIED;
};
