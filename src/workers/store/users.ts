import type { UserId } from '../../shared/ids.js';
import type { User } from '../../shared/protocol/objects.js';
import type { Sql, SqlValue } from './database.js';

/** `chat_user`: the user directory, a table or the site's own view. Only read here. */

export interface UserRow {
  id: number;
  username: string;
  display_name: string;
  avatar_path: string | null;
}

/** Quotes what LIKE would take for a pattern. The escape character is `!`, as `\` depends on the SQL mode. */
export function likeText(text: string): string {
  return text.replace(/[!%_]/g, '!$&');
}

/**
 * A name to be searched. In a site's view it may have any character set and collation, which do not compare with what
 * the user typed. No index is lost, as the other side of the search begins with a wildcard.
 */
export function searchable(column: string): string {
  return `CONVERT(${column} USING utf8mb4) COLLATE utf8mb4_unicode_ci`;
}

export function toUser(row: UserRow): User {
  return { id: row.id, username: row.username, displayName: row.display_name, avatarPath: row.avatar_path };
}

/** Users by id, disabled ones included: they stay the authors of what they wrote. */
export async function findUsers(sql: Sql, userIds: readonly number[]): Promise<UserRow[]> {
  if (userIds.length === 0) return [];
  return sql.rows<UserRow>(
    `SELECT id, username, display_name, avatar_path FROM chat_user WHERE id IN (?) LIMIT ${userIds.length}`,
    [[...userIds]],
  );
}

/** Those of the ids that exist and are not disabled. */
export async function findActiveUserIds(sql: Sql, userIds: readonly number[]): Promise<Set<number>> {
  if (userIds.length === 0) return new Set();
  const rows = await sql.rows<{ id: number }>(
    `SELECT id FROM chat_user WHERE id IN (?) AND disabled_at IS NULL LIMIT ${userIds.length}`,
    [[...userIds]],
  );
  return new Set(rows.map((row) => row.id));
}

/** The user who logs in, or `undefined` if unknown or disabled. */
export async function findActiveUser(sql: Sql, userId: UserId): Promise<UserRow | undefined> {
  const rows = await sql.rows<UserRow>(
    `SELECT id, username, display_name, avatar_path FROM chat_user
      WHERE id = ? AND disabled_at IS NULL LIMIT 1`,
    [userId],
  );
  return rows[0];
}

/** A page of the directory by id: username prefix or part of the display name; disabled users are left out. */
export async function listUsers(sql: Sql, query: string, afterId: number, limit: number): Promise<UserRow[]> {
  const values: SqlValue[] = [afterId];
  let filter = '';
  if (query !== '') {
    filter = `AND (${searchable('username')} LIKE ? ESCAPE '!' OR ${searchable('display_name')} LIKE ? ESCAPE '!')`;
    values.push(`${likeText(query)}%`, `%${likeText(query)}%`);
  }
  return sql.rows<UserRow>(
    `SELECT id, username, display_name, avatar_path FROM chat_user
      WHERE id > ? AND disabled_at IS NULL ${filter}
      ORDER BY id LIMIT ${limit}`,
    values,
  );
}
