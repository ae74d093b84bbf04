import { badField, isFailure } from '../../shared/errors.js';
import type { Command } from '../context.js';
import { decodeCursor, encodeCursor } from '../cursor.js';
import { listUsers, toUser } from '../store/users.js';

export const userList: Command<'user.list'> = async (ctx, { data }) => {
  const { query = '', cursor, limit = 100 } = data;
  const after = cursor === undefined ? [0] : decodeCursor(cursor, 1);
  if (after === undefined) return badField('data.cursor', 'is not a cursor of this list');
  const [afterId = 0] = after;
  const rows = await ctx.db.read((sql) => listUsers(sql, query, afterId, limit + 1));
  if (isFailure(rows)) return rows;
  const users = rows.slice(0, limit).map(toUser);
  const last = users.at(-1);
  return { users, nextCursor: rows.length > limit && last !== undefined ? encodeCursor([last.id]) : null };
};
