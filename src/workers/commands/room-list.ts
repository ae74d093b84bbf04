import { badField, isFailure } from '../../shared/errors.js';
import type { Command } from '../context.js';
import { decodeCursor, encodeCursor } from '../cursor.js';
import { listPublicRooms, listRoomsOf } from '../store/rooms.js';

export const roomList: Command<'room.list'> = async (ctx, { caller, data }) => {
  const { scope, query = '', cursor, limit = 100 } = data;
  const place = cursor === undefined ? undefined : decodeCursor(cursor, 1);
  if (cursor !== undefined && place === undefined) {
    return badField('data.cursor', 'is not a cursor of this list');
  }
  const one = limit + 1;
  const maxBytes = ctx.maxReplyBytes;
  const found = await ctx.db.read((sql) =>
    scope === 'mine'
      ? listRoomsOf(sql, caller.userId, { query, afterId: place?.[0] ?? 0, limit: one, maxBytes })
      : listPublicRooms(sql, caller.userId, {
          query,
          beforeId: place?.[0] ?? Number.MAX_SAFE_INTEGER,
          limit: one,
          maxBytes,
        }),
  );
  if (isFailure(found)) return found;
  const rooms = found.slice(0, limit);
  const last = rooms.at(-1);
  return { rooms, nextCursor: found.length > limit && last !== undefined ? encodeCursor([last.id]) : null };
};
