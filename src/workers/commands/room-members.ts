import { badField, isFailure } from '../../shared/errors.js';
import { id } from '../../shared/ids.js';
import type { Member } from '../../shared/protocol/objects.js';
import { readableRoom } from '../access.js';
import type { Command } from '../context.js';
import { decodeCursor, encodeCursor } from '../cursor.js';
import { listMembers, type MemberRow } from '../store/members.js';
import { readPresences } from '../store/sessions.js';

/** The end of the year 9999: MySQL refuses to compare with a DATETIME beyond it. */
const LAST_TIME = Date.UTC(10_000, 0) - 1;

export const roomMembers: Command<'room.members'> = async (ctx, { caller, data }) => {
  const { cursor, limit = 200 } = data;
  const roomId = id.room(data.roomId);
  const place = cursor === undefined ? [0, 0] : decodeCursor(cursor, 2);
  const [joinedAt = 0, userId = 0] = place ?? [];
  if (place === undefined || joinedAt > LAST_TIME)
    return badField('data.cursor', 'is not a cursor of this list');
  return ctx.db.read(async (sql) => {
    const room = await readableRoom(sql, roomId, caller.userId);
    if (isFailure(room)) return room;
    const rows = await listMembers(sql, roomId, { joinedAt: new Date(joinedAt), userId }, limit + 1);
    const page = rows.slice(0, limit);
    const presences = await readPresences(
      sql,
      page.map((row) => row.user_id),
      new Date(),
    );
    const members = page.map((row, i): Member => {
      const presence = presences[i] ?? { userId: row.user_id, state: 'offline', lastActiveAt: null };
      return {
        user: userOf(row),
        role: room.owner_id === row.user_id ? 'owner' : 'member',
        joinedAt: row.joined_at.getTime(),
        readSeq: row.read_seq,
        deliveredSeq: row.delivered_seq,
        presence,
      };
    });
    const last = page.at(-1);
    const nextCursor =
      rows.length > limit && last !== undefined
        ? encodeCursor([last.joined_at.getTime(), last.user_id])
        : null;
    return { members, nextCursor };
  });
};

/** A user that the site has removed from its directory is still a member, without a name. */
function userOf(row: MemberRow): Member['user'] {
  return {
    id: row.user_id,
    username: row.username ?? '',
    displayName: row.display_name ?? '',
    avatarPath: row.avatar_path,
  };
}
