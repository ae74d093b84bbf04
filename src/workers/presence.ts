import type { EffectWriter } from '../shared/effects.js';
import { id, type UserId } from '../shared/ids.js';
import { log } from '../shared/log.js';
import { eventLine } from '../shared/protocol/events.js';
import type { Transaction } from './store/database.js';
import { deleteSessions, findOnline, findSessions, lockPresence } from './store/sessions.js';

/** A user who went offline with the end of a session. */
export interface WentOffline {
  readonly userId: UserId;
  readonly version: number;
  /** ms since the epoch. */
  readonly at: number;
}

export function presenceLine(userId: UserId, state: 'online' | 'offline', at: number): string {
  return eventLine('presence', { userId, state, lastActiveAt: at });
}

/** Ends sessions and finds who is offline now. Sessions that ended before are left out. */
export async function endSessions(sql: Transaction, sessionIds: readonly number[]): Promise<WentOffline[]> {
  const sessions = await findSessions(sql, sessionIds);
  if (sessions.length === 0) return [];
  const userIds = [...new Set(sessions.map((session) => session.user_id))];
  const now = new Date();
  const versions = await lockPresence(sql, userIds, now);
  await deleteSessions(
    sql,
    sessions.map((session) => session.id),
  );
  const online = await findOnline(sql, userIds);
  return userIds
    .filter((userId) => !online.has(userId))
    .map((userId) => ({ userId: id.user(userId), version: versions.get(userId) ?? 0, at: now.getTime() }));
}

/** Tells those who watch. */
export function announceOffline(effects: EffectWriter, gone: readonly WentOffline[]): void {
  for (const { userId, version, at } of gone) {
    effects.presence(userId, version, presenceLine(userId, 'offline', at));
    log.presence.info('offline', { user: userId });
  }
}
