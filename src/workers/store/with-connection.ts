import { type Connection, type ConnectionOptions, createConnection } from 'mysql2/promise';

/** Runs `work` on a connection of its own: closed in order when it went well, cut when it did not. */
export async function withConnection<T>(
  options: ConnectionOptions,
  work: (connection: Connection) => Promise<T>,
): Promise<T> {
  const connection = await createConnection(options);
  try {
    const result = await work(connection);
    await connection.end();
    return result;
  } catch (error) {
    connection.destroy();
    throw error;
  }
}
