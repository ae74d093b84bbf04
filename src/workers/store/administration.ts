import { createConnection } from 'mysql2/promise';
import { connectionOptions } from './connection-options.js';

/**
 * What is done to a whole database server rather than to the tables of the chat; only on servers that this program
 * started itself.
 */

/** Makes the database that the URL names, if it is not there. */
export async function createDatabase(url: string): Promise<void> {
  const { database, ...server } = connectionOptions(url);
  const connection = await createConnection(server);
  try {
    await connection.query(
      'CREATE DATABASE IF NOT EXISTS ?? CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci',
      [database],
    );
  } finally {
    connection.destroy();
  }
}

/** Drops the database that the URL names. */
export async function dropDatabase(url: string): Promise<void> {
  const { database, ...server } = connectionOptions(url);
  const connection = await createConnection(server);
  try {
    await connection.query('DROP DATABASE IF EXISTS ??', [database]);
  } finally {
    connection.destroy();
  }
}

/** Resolves when the server accepts a login. Rejects like a connection attempt. */
export async function pingServer(url: string): Promise<void> {
  const { database: _, ...server } = connectionOptions(url);
  const connection = await createConnection(server);
  connection.destroy();
}

/** Asks the server to stop; it still answers for a moment afterwards. */
export async function shutDownServer(url: string): Promise<void> {
  const { database: _, ...server } = connectionOptions(url);
  const connection = await createConnection(server);
  try {
    await connection.query('SHUTDOWN');
  } finally {
    connection.destroy();
  }
}
