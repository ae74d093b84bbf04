import { fail } from '../shared/errors.js';
import { log } from '../shared/log.js';
import { errorLine } from '../shared/protocol/replies.js';
import { REPLIED, type Request, type WorkerContext } from './context.js';

/** `AUTH_FAILED` ends the connection (PROTOCOL 3); the reply and the log say why. */
export function authFailed(
  ctx: WorkerContext,
  { caller, id: requestId }: Request<'auth.login'> | Request<'auth.refresh'>,
  message: string,
): typeof REPLIED {
  const { connection, remote, userId } = caller;
  log.connection.warn(userId === 0 ? 'login refused' : 'refresh refused', {
    connection,
    // A connection that is logged in has its address in the line of its login.
    remote: remote || undefined,
    user: userId || undefined,
    reason: message,
  });
  ctx.effects.reply(connection, errorLine(requestId, fail('AUTH_FAILED', message)));
  ctx.effects.close(connection, 'AUTH_FAILED');
  return REPLIED;
}
