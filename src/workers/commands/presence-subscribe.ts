import { isFailure } from '../../shared/errors.js';
import { id } from '../../shared/ids.js';
import { errorLine, okLine } from '../../shared/protocol/replies.js';
import { type Command, REPLIED, type Request, type WorkerContext } from '../context.js';
import { type Continuation, encodeContinuation } from '../continuations.js';
import { readPresences } from '../store/sessions.js';
import { findUsers } from '../store/users.js';

/** The router listens before {@link readSubscribed} reads, so no change falls between the two. */
export const presenceSubscribe: Command<'presence.subscribe'> = async (
  ctx,
  { caller, id: requestId, data, executed },
) => {
  const userIds = [...new Set(data.userIds)];
  ctx.effects.watch(caller.connection, userIds.map(id.user));
  ctx.effects.continue(
    caller.connection,
    executed,
    encodeContinuation({ type: 'presence.read', id: requestId, userIds }),
  );
  return REPLIED;
};

/** Second half: the state of everybody in the set. */
export async function readSubscribed(
  ctx: WorkerContext,
  { connection }: Request<'presence.subscribe'>['caller'],
  { id: requestId, userIds }: Extract<Continuation, { type: 'presence.read' }>,
): Promise<void> {
  const presences = await ctx.db.read(async (sql) => {
    const known = new Set((await findUsers(sql, userIds)).map((user) => user.id));
    return readPresences(
      sql,
      userIds.filter((userId) => known.has(userId)),
      new Date(),
    );
  });
  ctx.effects.reply(
    connection,
    isFailure(presences) ? errorLine(requestId, presences) : okLine(requestId, { presences }),
  );
}
