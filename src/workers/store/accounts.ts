import { randomBytes, type ScryptOptions, scrypt } from 'node:crypto';
import { promisify } from 'node:util';
import type { Connection, ResultSetHeader, RowDataPacket } from 'mysql2/promise';
import { connectionOptions } from './connection-options.js';
import { withConnection } from './with-connection.js';

/**
 * The user directory as an administrator sees it: `chat_user` while it is a table of this program, and
 * `chat_credential` beside it. The chat server itself only reads the directory, see users.ts.
 */

/** A user with what only administrators see. */
export interface Account {
  readonly id: number;
  readonly username: string;
  readonly displayName: string;
  readonly avatarPath: string | null;
  readonly disabledAt: number | null;
}

/** Accounts that {@link listAccounts} returns at most. */
export const ACCOUNTS_LISTED = 10_000;

/** The users of an embedded database, with the ids 1 to 5. */
const DEMO_USERS = [
  [1, 'mina', '미나'],
  [2, 'jun', '준'],
  [3, 'sora', '소라'],
  [4, 'hyun', '현'],
  [5, 'bora', '보라'],
];

interface AccountRow extends RowDataPacket {
  id: number;
  username: string;
  display_name: string;
  avatar_path: string | null;
  disabled_at: Date | null;
}

const COLUMNS = 'id, username, display_name, avatar_path, disabled_at';

function toAccount(row: AccountRow): Account {
  return {
    id: row.id,
    username: row.username,
    displayName: row.display_name,
    avatarPath: row.avatar_path,
    disabledAt: row.disabled_at?.getTime() ?? null,
  };
}

/** Whether the site has put a view of its own users in the place of the table. */
export async function usersAreAView(connection: Connection): Promise<boolean> {
  const [rows] = await connection.query<RowDataPacket[]>(
    `SELECT TABLE_TYPE AS type FROM information_schema.TABLES
      WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'chat_user' LIMIT 1`,
  );
  return rows[0]?.type === 'VIEW';
}

/** Adds a user, with a password for the API server if one is given. `null`: the name is taken. */
export async function addAccount(
  connection: Connection,
  user: { readonly username: string; readonly displayName: string; readonly password: string | undefined },
): Promise<Account | null> {
  const hash = user.password === undefined ? null : await passwordHash(user.password);
  await connection.beginTransaction();
  try {
    const [{ insertId }] = await connection.query<ResultSetHeader>(
      'INSERT INTO chat_user (username, display_name) VALUES (?, ?)',
      [user.username, user.displayName],
    );
    if (hash !== null) {
      await connection.query(
        'INSERT INTO chat_credential (user_id, password_hash, changed_at) VALUES (?, ?, UTC_TIMESTAMP(3))',
        [insertId, hash],
      );
    }
    await connection.commit();
  } catch (error) {
    await connection.rollback();
    if (error instanceof Error && 'code' in error && error.code === 'ER_DUP_ENTRY') return null;
    throw error;
  }
  return findAccount(connection, user.username);
}

/** The account of that name, whether disabled or not. */
export async function findAccount(connection: Connection, username: string): Promise<Account | null> {
  const [rows] = await connection.query<AccountRow[]>(
    `SELECT ${COLUMNS} FROM chat_user WHERE username = ? LIMIT 1`,
    [username],
  );
  return rows[0] === undefined ? null : toAccount(rows[0]);
}

/** The first {@link ACCOUNTS_LISTED} accounts by id. */
export async function listAccounts(connection: Connection): Promise<Account[]> {
  const [rows] = await connection.query<AccountRow[]>(
    `SELECT ${COLUMNS} FROM chat_user ORDER BY id LIMIT ${ACCOUNTS_LISTED}`,
  );
  return rows.map(toAccount);
}

/** The enabled account with the lowest id. */
export async function firstEnabledAccount(connection: Connection): Promise<Account | null> {
  const [rows] = await connection.query<AccountRow[]>(
    `SELECT ${COLUMNS} FROM chat_user WHERE disabled_at IS NULL ORDER BY id LIMIT 1`,
  );
  return rows[0] === undefined ? null : toAccount(rows[0]);
}

/** Disables the account of that name: it cannot log in any more. Disabling again keeps the first time. */
export async function disableAccount(connection: Connection, username: string): Promise<Account | null> {
  await connection.query(
    'UPDATE chat_user SET disabled_at = UTC_TIMESTAMP(3) WHERE username = ? AND disabled_at IS NULL',
    [username],
  );
  return findAccount(connection, username);
}

/** Fills an empty user table with the five users of the README. Returns whether it did. */
export async function addDemoUsers(url: string): Promise<boolean> {
  return withConnection(connectionOptions(url), async (connection) => {
    if (await usersAreAView(connection)) return false;
    const [rows] = await connection.query<RowDataPacket[]>('SELECT 1 FROM chat_user LIMIT 1');
    if (rows.length > 0) return false;
    await connection.query('INSERT INTO chat_user (id, username, display_name) VALUES ?', [DEMO_USERS]);
    return true;
  });
}

/** scrypt with 32 MiB and about 0.1 s per guess. */
const SCRYPT = { N: 2 ** 15, r: 8, p: 1, maxmem: 64 * 1024 * 1024 };

/** A salted scrypt hash in the PHC string format, which says how it was made. */
export async function passwordHash(password: string): Promise<string> {
  const salt = randomBytes(16);
  const derive = promisify<string, Buffer, number, ScryptOptions, Buffer>(scrypt);
  const hash = await derive(password.normalize('NFC'), salt, 32, SCRYPT);
  const text = (bytes: Buffer) => bytes.toString('base64').replace(/=+$/, '');
  return `$scrypt$ln=${Math.log2(SCRYPT.N)},r=${SCRYPT.r},p=${SCRYPT.p}$${text(salt)}$${text(hash)}`;
}
