import { isFailure } from '../../shared/errors.js';
import type { Command } from '../context.js';
import { findUsers, toUser } from '../store/users.js';

export const userGet: Command<'user.get'> = async (ctx, { data }) => {
  const users = await ctx.db.read((sql) => findUsers(sql, [...new Set(data.userIds)]));
  return isFailure(users) ? users : { users: users.map(toUser) };
};
