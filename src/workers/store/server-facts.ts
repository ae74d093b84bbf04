import type { Connection, RowDataPacket } from 'mysql2/promise';

/** What `sarangbang doctor` wants to know about the database server. */
export interface ServerFacts {
  readonly kind: 'MariaDB' | 'MySQL';
  readonly version: string;
  /** Bytes of the longest statement. */
  readonly maxAllowedPacket: number;
}

interface FactsRow extends RowDataPacket {
  version: string;
  max_allowed_packet: number;
}

export async function serverFacts(connection: Connection): Promise<ServerFacts> {
  const [rows] = await connection.query<FactsRow[]>(
    'SELECT VERSION() AS version, @@max_allowed_packet AS max_allowed_packet LIMIT 1',
  );
  const { version = '', max_allowed_packet: maxAllowedPacket = 0 } = rows[0] ?? {};
  return {
    kind: version.includes('MariaDB') ? 'MariaDB' : 'MySQL',
    version: /^[\d.]+/.exec(version)?.[0] ?? version,
    maxAllowedPacket,
  };
}
