import { fail, isFailure } from '../../shared/errors.js';
import { id, type RoomId, type UserId } from '../../shared/ids.js';
import { log } from '../../shared/log.js';
import { eventLine } from '../../shared/protocol/events.js';
import type { Message, Room } from '../../shared/protocol/objects.js';
import { okLine } from '../../shared/protocol/replies.js';
import { refuseNonMember } from '../access.js';
import { type Command, REPLIED, type WorkerContext } from '../context.js';
import { refuseTooManyRooms } from '../membership.js';
import { addedNotice, appendSystem, replyAlreadyIn } from '../room-entries.js';
import type { Sql } from '../store/database.js';
import { readPage, toMessage } from '../store/entries.js';
import { insertMembers, isMember } from '../store/members.js';
import { lockRooms, updateRoom, viewRoom } from '../store/rooms.js';

const LATEST = 100;

export const roomJoin: Command<'room.join'> = async (ctx, { caller, id: requestId, data }) => {
  const roomId = id.room(data.roomId);
  const userId = caller.userId;
  const joined = await ctx.db.transaction(async (sql) => {
    // Under the lock two joins can't both take the last place.
    const [room] = await lockRooms(sql, [roomId]);
    if (room !== undefined && (await isMember(sql, roomId, userId))) {
      if (room.kind === 'direct') return fail('FORBIDDEN', 'a direct room can not be joined');
      return { message: undefined, ...(await welcome(ctx, sql, roomId, userId)) };
    }
    const refusal = await refuseNonMember(sql, roomId, userId, room);
    if (room === undefined || refusal.failure !== 'NOT_A_MEMBER') return refusal;
    if (room.member_count >= room.member_limit) {
      return fail('ROOM_FULL', `room ${roomId} has its ${room.member_limit} members`);
    }
    const tooMany = await refuseTooManyRooms(sql, ctx.limits, [userId]);
    if (tooMany !== undefined) return tooMany;
    const at = new Date();
    const [message] = appendSystem(sql, room, [{ event: 'joined', actorId: userId }], at);
    await insertMembers(sql, roomId, [userId], {
      at,
      seq: id.seq(room.last_seq),
      ordinal: room.last_ordinal,
    });
    room.member_count++;
    await updateRoom(sql, room);
    return { message, ...(await welcome(ctx, sql, roomId, userId)) };
  });
  if (isFailure(joined)) return joined;

  const { message, room, messages } = joined;
  if (message === undefined) {
    const reply = okLine(requestId, { room, messages });
    replyAlreadyIn(ctx.effects, room, { userId, connection: caller.connection, reply });
    return REPLIED;
  }
  ctx.effects.room({
    roomId,
    seq: id.seq(message.seq),
    connection: caller.connection,
    reply: okLine(requestId, { room, messages }),
    event: eventLine('message', message),
    notices: [addedNotice(userId, room)],
  });
  log.room.info('joined', { room: roomId, user: userId, members: room.memberCount });
  return REPLIED;
};

async function welcome(
  ctx: WorkerContext,
  sql: Sql,
  roomId: RoomId,
  userId: UserId,
): Promise<{ room: Room; messages: Message[] }> {
  const room = await viewRoom(sql, userId, roomId);
  if (room === undefined) throw new Error(`room ${roomId} vanished under its lock`);
  const { rows } = await readPage(sql, roomId, { limit: LATEST, latest: true }, ctx.maxReplyBytes);
  return { room, messages: rows.map(toMessage) };
}
