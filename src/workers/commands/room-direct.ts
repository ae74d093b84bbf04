import { badField, isFailure } from '../../shared/errors.js';
import { id, type UserId } from '../../shared/ids.js';
import { log } from '../../shared/log.js';
import { okLine } from '../../shared/protocol/replies.js';
import { type Command, REPLIED } from '../context.js';
import { refuseTooManyRooms, refuseUnknown } from '../membership.js';
import { addedNotices, replyAlreadyIn } from '../room-entries.js';
import { isDuplicateKey, type Transaction } from '../store/database.js';
import { insertMembers } from '../store/members.js';
import { findDirectRoom, insertRoom, viewRoom } from '../store/rooms.js';

/** The unique key over the pair decides who was first: whoever comes second finds the room of the first. */
export const roomDirect: Command<'room.direct'> = async (ctx, { caller, id: requestId, data }) => {
  const me = caller.userId;
  const other = id.user(data.userId);
  if (other === me) return badField('data.userId', 'must be another user');
  const pair = { low: id.user(Math.min(me, other)), high: id.user(Math.max(me, other)) };

  const result = await ctx.db.transaction(async (sql) => {
    const found = await findDirectRoom(sql, pair.low, pair.high);
    if (found !== undefined)
      return { room: await viewRoom(sql, me, id.room(found)), created: false, notices: [] };
    const refusal =
      (await refuseUnknown(sql, [other])) ?? (await refuseTooManyRooms(sql, ctx.limits, [me, other]));
    if (refusal !== undefined) return refusal;
    const made = await createDirect(sql, me, pair);
    if (made === undefined) {
      const first = await findDirectRoom(sql, pair.low, pair.high);
      return { room: await viewRoom(sql, me, id.room(first ?? 0)), created: false, notices: [] };
    }
    const roomId = id.room(made);
    return {
      room: await viewRoom(sql, me, roomId),
      created: true,
      notices: await addedNotices(sql, roomId, [me, other]),
    };
  });
  if (isFailure(result)) return result;

  const { room, created, notices } = result;
  if (room === undefined) throw new Error('a direct room was found and is not there');
  if (!created) {
    const reply = okLine(requestId, { room, created });
    replyAlreadyIn(ctx.effects, room, { userId: me, connection: caller.connection, reply });
    return REPLIED;
  }
  ctx.effects.room({
    roomId: id.room(room.id),
    seq: id.seq(0),
    connection: caller.connection,
    reply: okLine(requestId, { room, created }),
    notices,
  });
  log.room.info('created', { room: room.id, kind: 'direct', members: `${me},${other}` });
  return REPLIED;
};

/** The new room's id, or `undefined` if the other one's request has committed first. */
async function createDirect(
  sql: Transaction,
  createdBy: UserId,
  pair: { low: UserId; high: UserId },
): Promise<number | undefined> {
  const createdAt = new Date();
  let roomId: number;
  try {
    roomId = await insertRoom(sql, {
      kind: 'direct',
      name: null,
      visibility: 'private',
      ownerId: null,
      memberCount: 2,
      memberLimit: 2,
      createdBy,
      clientRoomId: null,
      direct: pair,
      createdAt,
    });
  } catch (error) {
    if (isDuplicateKey(error)) return undefined;
    throw error;
  }
  sql.touches([id.room(roomId)]);
  const joined = { at: createdAt, seq: id.seq(0), ordinal: 0 };
  await insertMembers(sql, id.room(roomId), [pair.low, pair.high], joined);
  return roomId;
}
