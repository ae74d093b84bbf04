import { join } from 'node:path';
import type { Connection, RowDataPacket } from 'mysql2/promise';
import Postgrator from 'postgrator';
import { connectionOptions } from './connection-options.js';
import { withConnection } from './with-connection.js';

/** The numbered files, `<number>.do.<name>.sql`, seen from `dist/src/workers/store/`. */
const SQL_DIRECTORY = join(import.meta.dirname, '../../../../sql');

/** Seconds that a process waits for another one that is migrating. */
const LOCK_SECONDS = 300;

/** The schema of this database cannot be brought up to date; the message says why, for whoever runs the server. */
export class MigrationError extends Error {
  override readonly name = 'MigrationError';
}

/**
 * Brings the schema up to date and tells how many migrations that took. Any number of processes may call it at once:
 * an advisory lock lets one work and the others find nothing left to do.
 *
 * DDL commits by itself in MySQL, so a migration that was interrupted is run again from its first statement: each
 * statement must bear that (`IF NOT EXISTS`).
 * @throws {MigrationError} when an applied file was changed afterwards, or the lock is not free in time
 */
export async function migrate(url: string): Promise<{ applied: number }> {
  return withPostgrator(url, async (connection, postgrator) => {
    // The name is the server's, not the database's: hence the database in it. The lock ends with the connection.
    const [rows] = await connection.query<RowDataPacket[]>(
      "SELECT GET_LOCK(CONCAT('chat_migrate_', MD5(DATABASE())), ?) AS locked LIMIT 1",
      [LOCK_SECONDS],
    );
    if (rows[0]?.locked !== 1) {
      throw new MigrationError(`another process is still migrating after ${LOCK_SECONDS} s`);
    }
    const applied = await postgrator.migrate().catch((error: Error) => {
      const changed = /^MD5 checksum failed for migration \[(\d+)\]/.exec(error.message)?.[1];
      if (changed === undefined) throw error;
      throw new MigrationError(
        `migration ${changed} in sql/ is not the one that was applied to this database. Applied migrations are never ` +
          'edited: restore the file and put the change into a new one (or, if the data is of no value, delete the database).',
      );
    });
    return { applied: applied.length };
  });
}

/** The names of the migrations that {@link migrate} would apply. Changes nothing. */
export async function pendingMigrations(url: string): Promise<string[]> {
  return withPostgrator(url, async (_, postgrator) => {
    const target = await postgrator.getMaxVersion();
    const current = await postgrator.getDatabaseVersion();
    if (current >= target) return [];
    return postgrator
      .getRunnableMigrations(current, target)
      .map(({ version, name }) => `${String(version).padStart(3, '0')} ${name}`);
  });
}

async function withPostgrator<T>(
  url: string,
  work: (connection: Connection, postgrator: Postgrator) => Promise<T>,
): Promise<T> {
  const options = connectionOptions(url);
  return withConnection({ ...options, multipleStatements: true }, async (connection) => {
    // run_at is a TIMESTAMP written in UTC: in a zone with summer time one hour of the year would be refused.
    await connection.query("SET time_zone = '+00:00'");
    const run = async (sql: string) => {
      const [rows] = await connection.query(sql);
      return { rows: Array.isArray(rows) ? rows : [] };
    };
    const postgrator = new Postgrator({
      driver: 'mysql',
      ...(options.database === undefined ? {} : { database: options.database }),
      // What glob would take for a pattern may be in the path of the checkout.
      migrationPattern: join(SQL_DIRECTORY.replace(/[?*()[\]]/g, '[$&]'), '*.sql'),
      schemaTable: 'chat_schema_version',
      newline: 'LF',
      execQuery: run,
      execSqlScript: async (sql) => {
        await run(sql);
      },
    });
    return work(connection, postgrator);
  });
}
