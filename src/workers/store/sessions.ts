import type { UserId } from '../../shared/ids.js';
import type { Presence } from '../../shared/protocol/objects.js';
import type { Sql, SqlValue } from './database.js';

/**
 * `chat_session`, `chat_process` and `chat_presence`: who is connected where. A session counts while its process
 * holds its lease, by the database's clock, so that a process that died or froze takes its users offline.
 */

export interface NewSession {
  readonly userId: UserId;
  readonly device: {
    readonly id: string;
    readonly name?: string | undefined;
    readonly platform?: string | undefined;
  };
  readonly processId: string;
  readonly address: string;
}

/** The session of a device, which may belong to a dead process. */
export async function findDeviceSession(
  sql: Sql,
  userId: UserId,
  deviceId: string,
): Promise<number | undefined> {
  const rows = await sql.rows<{ id: number }>(
    'SELECT id FROM chat_session WHERE user_id = ? AND device_id = ? LIMIT 1',
    [userId, Buffer.from(deviceId)],
  );
  return rows[0]?.id;
}

/** Opens a session and returns its id. Throws a duplicate key error if the device got one meanwhile. */
export async function insertSession(sql: Sql, session: NewSession): Promise<number> {
  const { insertId } = await sql.run(
    `INSERT INTO chat_session (user_id, device_id, device_name, platform, process_id, address, connected_at)
     VALUES (?, ?, ?, ?, ?, ?, UTC_TIMESTAMP(3))`,
    [
      session.userId,
      Buffer.from(session.device.id),
      session.device.name ?? null,
      session.device.platform ?? null,
      session.processId,
      session.address,
    ],
  );
  return insertId;
}

/** Whose sessions these are; ended ones are left out. */
export async function findSessions(
  sql: Sql,
  sessionIds: readonly number[],
): Promise<{ id: number; user_id: number }[]> {
  if (sessionIds.length === 0) return [];
  return sql.rows(
    `SELECT id, user_id FROM chat_session WHERE id IN (?) ORDER BY id LIMIT ${sessionIds.length}`,
    [[...sessionIds]],
  );
}

/** Ends sessions. */
export async function deleteSessions(sql: Sql, sessionIds: readonly number[]): Promise<void> {
  if (sessionIds.length === 0) return;
  await sql.run('DELETE FROM chat_session WHERE id IN (?)', [[...sessionIds]]);
}

/** Those of the users who have a session on a live process, `except` these sessions. */
export async function findOnline(
  sql: Sql,
  userIds: readonly number[],
  except: readonly number[] = [],
): Promise<Set<number>> {
  if (userIds.length === 0) return new Set();
  const rows = await sql.rows<{ user_id: number }>(
    `SELECT DISTINCT s.user_id FROM chat_session s JOIN chat_process p ON p.id = s.process_id
      WHERE s.user_id IN (?) AND s.id NOT IN (?) AND p.lease_until > UTC_TIMESTAMP(3)
      LIMIT ${userIds.length}`,
    [[...userIds], except.length === 0 ? [0] : [...except]],
  );
  return new Set(rows.map((row) => row.user_id));
}

/**
 * Notes that users are active now and locks their presence until the transaction ends: of two sessions of a user
 * that end at once, the second must see that the first is gone. Returns the new version per user.
 */
export async function lockPresence(
  sql: Sql,
  userIds: readonly number[],
  at: Date,
): Promise<Map<number, number>> {
  if (userIds.length === 0) return new Map();
  const sorted = [...new Set(userIds)].sort((a, b) => a - b);
  await sql.run(
    `INSERT INTO chat_presence (user_id, last_active_at, version) VALUES ?
     ON DUPLICATE KEY UPDATE last_active_at = VALUES(last_active_at), version = version + 1`,
    [sorted.map((userId): SqlValue[] => [userId, at, 1])],
  );
  const rows = await sql.rows<{ user_id: number; version: number }>(
    `SELECT user_id, version FROM chat_presence WHERE user_id IN (?) LIMIT ${sorted.length}`,
    [sorted],
  );
  return new Map(rows.map((row) => [row.user_id, row.version]));
}

/** The presence of users, in the order asked for. For an online user `lastActiveAt` is `now`. */
export async function readPresences(sql: Sql, userIds: readonly number[], now: Date): Promise<Presence[]> {
  if (userIds.length === 0) return [];
  const online = await findOnline(sql, userIds);
  const rows = await sql.rows<{ user_id: number; last_active_at: Date }>(
    `SELECT user_id, last_active_at FROM chat_presence WHERE user_id IN (?) LIMIT ${userIds.length}`,
    [[...userIds]],
  );
  const lastActive = new Map(rows.map((row) => [row.user_id, row.last_active_at.getTime()]));
  return userIds.map((userId) =>
    online.has(userId)
      ? { userId, state: 'online', lastActiveAt: now.getTime() }
      : { userId, state: 'offline', lastActiveAt: lastActive.get(userId) ?? null },
  );
}

/** What a process says of itself with its lease. */
export interface ProcessInfo {
  readonly id: string;
  readonly host: string;
  readonly pid: number;
  readonly tcpAddress: string;
  readonly connections: number;
}

/** Registers the process or renews its lease for `leaseSeconds` from now. */
export async function renewLease(sql: Sql, info: ProcessInfo, leaseSeconds: number): Promise<void> {
  await sql.run(
    `INSERT INTO chat_process (id, host, pid, tcp_address, connections, started_at, lease_until)
     VALUES (?, ?, ?, ?, ?, UTC_TIMESTAMP(3), UTC_TIMESTAMP(3) + INTERVAL ? SECOND)
     ON DUPLICATE KEY UPDATE connections = VALUES(connections), lease_until = VALUES(lease_until)`,
    [info.id, info.host, info.pid, info.tcpAddress, info.connections, leaseSeconds],
  );
}

/** The ids of processes whose lease ran out, locked against another sweeper. */
export async function findDeadProcesses(sql: Sql): Promise<string[]> {
  const rows = await sql.rows<{ id: string }>(
    'SELECT id FROM chat_process WHERE lease_until <= UTC_TIMESTAMP(3) ORDER BY id LIMIT 100 FOR UPDATE',
  );
  return rows.map((row) => row.id);
}

/** The sessions of processes. */
export async function findSessionsOf(sql: Sql, processIds: readonly string[]): Promise<number[]> {
  if (processIds.length === 0) return [];
  const rows = await sql.rows<{ id: number }>(
    'SELECT id FROM chat_session WHERE process_id IN (?) ORDER BY id LIMIT 100000',
    [[...processIds]],
  );
  return rows.map((row) => row.id);
}

/** The sessions of a process that are older than `seconds`: their logins are over. */
export async function findSettledSessions(sql: Sql, processId: string, seconds: number): Promise<number[]> {
  const rows = await sql.rows<{ id: number }>(
    `SELECT id FROM chat_session
      WHERE process_id = ? AND connected_at < UTC_TIMESTAMP(3) - INTERVAL ? SECOND LIMIT 100000`,
    [processId, seconds],
  );
  return rows.map((row) => row.id);
}

/** Removes processes that are gone; their sessions must be gone already. */
export async function deleteProcesses(sql: Sql, processIds: readonly string[]): Promise<void> {
  if (processIds.length === 0) return;
  await sql.run('DELETE FROM chat_process WHERE id IN (?)', [[...processIds]]);
}

/** The sessions of this process whose user was disabled since. */
export async function findDisabledSessions(
  sql: Sql,
  processId: string,
): Promise<{ id: number; user_id: number }[]> {
  return sql.rows(
    `SELECT s.id, s.user_id FROM chat_session s JOIN chat_user u ON u.id = s.user_id
      WHERE s.process_id = ? AND u.disabled_at IS NOT NULL LIMIT 1000`,
    [processId],
  );
}
