import { fail, isFailure } from '../../shared/errors.js';
import { authFailed } from '../auth-failed.js';
import type { Command } from '../context.js';
import { findActiveUser } from '../store/users.js';

export const authRefresh: Command<'auth.refresh'> = async (ctx, request) => {
  const { caller, data } = request;
  if (ctx.limits.auth === 'open') return fail('CONFLICT', 'open mode has no tokens to refresh');
  const identity = await ctx.auth.verify(data.token);
  if (isFailure(identity)) {
    return identity.failure === 'AUTH_FAILED' ? authFailed(ctx, request, identity.message) : identity;
  }
  if (identity.userId !== caller.userId) return authFailed(ctx, request, 'the token is of another user');
  const user = await ctx.db.read((sql) => findActiveUser(sql, caller.userId));
  if (user === undefined) return authFailed(ctx, request, 'the user is unknown or disabled');
  if (isFailure(user)) return user;
  ctx.effects.renewed(caller.connection, identity.expiresAt);
  return { tokenExpiresAt: identity.expiresAt };
};
