import { type Failure, fail } from '../shared/errors.js';
import type { UserId } from '../shared/ids.js';
import type { ProtocolLimits } from '../shared/protocol/requests.js';
import type { Sql } from './store/database.js';
import { countRoomsOf } from './store/members.js';
import { findActiveUserIds } from './store/users.js';

/** What must hold of users before they become members of a room. */

/** `NOT_FOUND` unless all of them exist and are not disabled. */
export async function refuseUnknown(sql: Sql, userIds: readonly UserId[]): Promise<Failure | undefined> {
  const active = await findActiveUserIds(sql, userIds);
  const missing = userIds.find((userId) => !active.has(userId));
  return missing === undefined ? undefined : fail('NOT_FOUND', `user ${missing} does not exist`);
}

/**
 * `CONFLICT` if one of them is in as many rooms as a user may be. Counted without a lock: joins at the same moment
 * may go a few rooms over, which the bound can bear.
 */
export async function refuseTooManyRooms(
  sql: Sql,
  limits: ProtocolLimits,
  userIds: readonly UserId[],
): Promise<Failure | undefined> {
  const counts = await countRoomsOf(sql, userIds);
  const over = userIds.find((userId) => (counts.get(userId) ?? 0) >= limits.roomsPerUser);
  return over === undefined
    ? undefined
    : fail('CONFLICT', `user ${over} is in ${limits.roomsPerUser} rooms, which is the limit`);
}
