import { fail, isFailure } from '../../shared/errors.js';
import { log } from '../../shared/log.js';
import { errorLine } from '../../shared/protocol/replies.js';
import { type Command, REPLIED } from '../context.js';
import { findActiveUser } from '../store/users.js';

export const authRefresh: Command<'auth.refresh'> = async (ctx, { caller, id, data }) => {
  if (ctx.limits.auth === 'open') return fail('CONFLICT', 'open mode has no tokens to refresh');
  const identity = await ctx.auth.verify(data.token);
  if (isFailure(identity) && identity.failure !== 'AUTH_FAILED') return identity;
  const refuse = (message: string): typeof REPLIED => {
    log.connection.warn('refresh refused', {
      connection: caller.connection,
      user: caller.userId,
      reason: message,
    });
    ctx.effects.reply(caller.connection, errorLine(id, fail('AUTH_FAILED', message)));
    ctx.effects.close(caller.connection, 'AUTH_FAILED');
    return REPLIED;
  };
  if (isFailure(identity)) return refuse(identity.message);
  if (identity.userId !== caller.userId) return refuse('the token is of another user');
  const user = await ctx.db.read((sql) => findActiveUser(sql, caller.userId));
  if (user === undefined) return refuse('the user is unknown or disabled');
  if (isFailure(user)) return user;
  ctx.effects.renewed(caller.connection, identity.expiresAt);
  return { tokenExpiresAt: identity.expiresAt };
};
