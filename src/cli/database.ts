import type { Connection } from 'mysql2/promise';
import { embeddedDatabaseUrl } from '../main/embedded-database.js';
import type { Config } from '../shared/config.js';
import { connectionOptions } from '../workers/store/connection-options.js';
import { withConnection } from '../workers/store/with-connection.js';
import { Problem } from './problem.js';

/** The database of the server: the configured one, or the embedded one of the data directory. */
export function databaseUrl(config: Config): string {
  return config.CHAT_MYSQL_URL ?? embeddedDatabaseUrl(config.CHAT_DATA_DIR);
}

/** Runs a command on a connection to the server's database and closes it. */
export async function withDatabase<T>(
  config: Config,
  work: (connection: Connection) => Promise<T>,
): Promise<T> {
  try {
    return await withConnection(connectionOptions(databaseUrl(config)), work);
  } catch (error) {
    const explanation = explain(error, config);
    if (explanation === null) throw error;
    throw new Problem(explanation);
  }
}

/** What a person can do about an error of the database; null when that is nothing. */
export function explain(error: unknown, config: Config): string | null {
  if (!(error instanceof Error) || !('code' in error)) return null;
  const embedded = config.CHAT_MYSQL_URL === undefined;
  switch (error.code) {
    case 'ENOENT':
    case 'ECONNREFUSED':
      return embedded
        ? 'The embedded database is not running: start it with `npm start` in another terminal, or set CHAT_MYSQL_URL.'
        : `Nothing answers at the address in CHAT_MYSQL_URL (${error.message}).`;
    case 'ENOTFOUND':
    case 'ETIMEDOUT':
    case 'EHOSTUNREACH':
      return `The address in CHAT_MYSQL_URL can't be reached (${error.message}).`;
    case 'ER_ACCESS_DENIED_ERROR':
    case 'ER_DBACCESS_DENIED_ERROR':
    case 'ER_BAD_DB_ERROR':
      return `The server in CHAT_MYSQL_URL refuses: ${error.message}.`;
    case 'ER_NO_SUCH_TABLE':
      return 'The tables of the chat are not in the database: start the server once, it makes them.';
    case 'ER_TABLEACCESS_DENIED_ERROR':
      return `The database user lacks a right: ${error.message}.`;
    default:
      return null;
  }
}
