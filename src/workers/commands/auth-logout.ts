import { isFailure } from '../../shared/errors.js';
import { okLine } from '../../shared/protocol/replies.js';
import { type Command, REPLIED } from '../context.js';
import { announceOffline, endSessions } from '../presence.js';

/** The session row goes before the reply, so that who asks after it sees the user offline. */
export const authLogout: Command<'auth.logout'> = async (ctx, { caller, id }) => {
  const gone = await ctx.db.transaction((sql) => endSessions(sql, [caller.sessionId]));
  // Without a database the client still gets out: the main thread ends the session when the database is back.
  if (!isFailure(gone)) announceOffline(ctx.effects, gone);
  ctx.effects.reply(caller.connection, okLine(id, {}));
  ctx.effects.close(caller.connection, 'LOGOUT');
  return REPLIED;
};
