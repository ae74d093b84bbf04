import { fail, isFailure } from '../../shared/errors.js';
import { id, type UserId } from '../../shared/ids.js';
import { log } from '../../shared/log.js';
import { errorLine, okLine } from '../../shared/protocol/replies.js';
import type { RequestData } from '../../shared/protocol/requests.js';
import { authFailed } from '../auth-failed.js';
import { type Command, REPLIED, type Request, type WorkerContext } from '../context.js';
import type { Continuation } from '../continuations.js';
import { encodeContinuation } from '../continuations.js';
import { presenceLine } from '../presence.js';
import type { Transaction } from '../store/database.js';
import { findRoomIdsOf } from '../store/members.js';
import { listRoomsOf } from '../store/rooms.js';
import {
  deleteSessions,
  findDeviceSession,
  findOnline,
  findSessions,
  insertSession,
  lockPresence,
} from '../store/sessions.js';
import { findActiveUser, toUser } from '../store/users.js';

/** More rooms than this are not told at login; `room.list` pages through them. */
const MAX_ROOMS = 20_000;

/**
 * First half of a login: token, user, session row. The router then listens to the user's rooms and holds what comes,
 * and {@link openSession} reads the rooms: whatever is committed after that read is heard.
 */
export const authLogin: Command<'auth.login'> = async (ctx, request) => {
  const { caller, data } = request;
  if (caller.userId !== 0) return fail('CONFLICT', 'this connection is logged in already');
  const identity = await identify(ctx, data);
  if (isFailure(identity))
    return identity.failure === 'AUTH_FAILED' ? authFailed(ctx, request, identity.message) : identity;
  const { userId, expiresAt } = identity;

  const opened = await ctx.db.transaction(async (sql) => {
    const user = await findActiveUser(sql, userId);
    if (user === undefined) return { unknown: true } as const;
    return { user: toUser(user), ...(await replaceSession(sql, ctx, request, userId)) };
  });
  if (isFailure(opened)) return opened;
  if ('unknown' in opened) return authFailed(ctx, request, 'the user is unknown or disabled');

  const { user, sessionId, replacedId, online, roomIds } = opened;
  if (replacedId !== undefined) ctx.effects.revoke(userId, id.session(replacedId));
  if (online !== undefined) {
    ctx.effects.presence(userId, online.version, presenceLine(userId, 'online', online.at));
    log.presence.info('online', { user: userId });
  }
  ctx.effects.admit(caller.connection, {
    userId,
    sessionId: id.session(sessionId),
    expiresAt,
    roomIds: roomIds.map(id.room),
  });
  const { device } = data;
  log.connection.info('login', {
    connection: caller.connection,
    user: userId,
    username: user.username,
    device: device.id,
    platform: device.platform,
    session: sessionId,
    remote: caller.remote,
    rooms: roomIds.length,
  });
  const login = {
    user,
    sessionId: String(sessionId),
    device,
    ...(expiresAt === 0 ? {} : { tokenExpiresAt: expiresAt }),
  };
  ctx.effects.continue(
    caller.connection,
    request.executed,
    encodeContinuation({ type: 'session.open', id: request.id, login }),
  );
  return REPLIED;
};

/** Second half of a login. */
export async function openSession(
  ctx: WorkerContext,
  caller: Request<'auth.login'>['caller'],
  { id: requestId, login }: Extract<Continuation, { type: 'session.open' }>,
): Promise<void> {
  const opened = await ctx.db.read(async (sql) => {
    const rooms = await listRoomsOf(sql, caller.userId, { limit: MAX_ROOMS, maxBytes: ctx.maxReplyBytes });
    return { rooms, isReplaced: (await findSessions(sql, [caller.sessionId])).length === 0 };
  });
  if (isFailure(opened)) {
    ctx.effects.reply(caller.connection, errorLine(requestId, opened));
    ctx.effects.dismiss(caller.connection);
    return;
  }
  const { rooms, isReplaced } = opened;
  // The device has logged in again meanwhile. What told the router may have overtaken our own admission.
  if (isReplaced) return ctx.effects.close(caller.connection, 'SESSION_REVOKED');
  const reply = { ...login, rooms, serverAt: Date.now() };
  ctx.effects.opened(
    caller.connection,
    okLine(requestId, reply),
    rooms.map((room) => ({ roomId: id.room(room.id), lastSeq: id.seq(room.lastSeq) })),
  );
}

async function identify(ctx: WorkerContext, data: RequestData<'auth.login'>) {
  if ('token' in data) return ctx.auth.verify(data.token);
  return { userId: id.user(data.userId), expiresAt: 0 };
}

/** One session per device: the older one goes in the same transaction. */
async function replaceSession(
  sql: Transaction,
  ctx: WorkerContext,
  { caller, data }: Request<'auth.login'>,
  userId: UserId,
) {
  const at = new Date();
  const versions = await lockPresence(sql, [userId], at);
  const wasOnline = (await findOnline(sql, [userId])).has(userId);
  const replacedId = await findDeviceSession(sql, userId, data.device.id);
  if (replacedId !== undefined) await deleteSessions(sql, [replacedId]);
  const sessionId = await insertSession(sql, {
    userId,
    device: data.device,
    processId: ctx.processId,
    address: caller.remote,
  });
  const roomIds = await findRoomIdsOf(sql, userId);
  const online = wasOnline ? undefined : { version: versions.get(userId) ?? 0, at: at.getTime() };
  return { sessionId, replacedId, online, roomIds };
}
