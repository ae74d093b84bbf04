import type { ConnectionOptions } from 'mysql2/promise';
import { connectionOptions } from './connection-options.js';
import { withConnection } from './with-connection.js';

/**
 * What is done to a whole database server rather than to the tables of the chat; only on servers that this program
 * started itself.
 */

/** The name of the database in the URL, and how to connect without it. */
function serverAndDatabase(url: string): { server: ConnectionOptions; database: string | undefined } {
  const { database, ...server } = connectionOptions(url);
  return { server, database };
}

/** Makes the database that the URL names, if it is not there. */
export async function createDatabase(url: string): Promise<void> {
  const { server, database } = serverAndDatabase(url);
  await withConnection(server, (connection) =>
    connection.query('CREATE DATABASE IF NOT EXISTS ?? CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci', [
      database,
    ]),
  );
}

/** Drops the database that the URL names. */
export async function dropDatabase(url: string): Promise<void> {
  const { server, database } = serverAndDatabase(url);
  await withConnection(server, (connection) => connection.query('DROP DATABASE IF EXISTS ??', [database]));
}

/** Resolves when the server accepts a login. Rejects like a connection attempt. */
export async function pingServer(url: string): Promise<void> {
  await withConnection(serverAndDatabase(url).server, (connection) => connection.ping());
}

/** Asks the server to stop; it still answers for a moment afterwards. */
export async function shutDownServer(url: string): Promise<void> {
  await withConnection(serverAndDatabase(url).server, (connection) => connection.query('SHUTDOWN')).catch(
    (error) => {
      // It may cut the connection before the goodbye.
      if (!(error instanceof Error && 'fatal' in error && error.fatal)) throw error;
    },
  );
}
