import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createConnection, type RowDataPacket } from 'mysql2/promise';
import t, { type Test } from 'tap';
import {
  embeddedDatabaseUrl,
  socketDirectory,
  startEmbeddedDatabase,
} from '../src/main/embedded-database.js';
import { connectionOptions } from '../src/workers/store/connection-options.js';

function dataDirectory(t: Test, ...deeper: string[]): string {
  const directory = mkdtempSync(join(tmpdir(), 'sarangbang-test-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  return join(directory, ...deeper);
}

async function query(url: string, statement: string): Promise<RowDataPacket[]> {
  const connection = await createConnection(connectionOptions(url));
  try {
    const [rows] = await connection.query<RowDataPacket[]>(statement);
    return rows;
  } finally {
    connection.destroy();
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

t.test('the first start makes a database, later ones find the data', async (t) => {
  const directory = dataDirectory(t);
  const said: string[] = [];
  const first = await startEmbeddedDatabase(directory, (line) => said.push(line));
  t.teardown(() => first.stop());
  t.match(said, ['Creating the embedded database …']);
  t.equal(first.url, embeddedDatabaseUrl(directory), 'where others look for it');
  await query(first.url, "CREATE TABLE note AS SELECT '안녕 👋' AS body");
  await first.stop();
  t.notOk(isAlive(first.pid));
  t.ok(existsSync(join(directory, 'mysql', 'data')));

  said.length = 0;
  const second = await startEmbeddedDatabase(directory, (line) => said.push(line));
  t.teardown(() => second.stop());
  t.same(said, [], 'nothing to tell');
  t.match(await query(second.url, 'SELECT body FROM note'), [{ body: '안녕 👋' }]);
  await second.stop();
  await t.resolves(second.stop(), 'stopping twice is harmless');
});

t.test('what was committed survives the kill of the server', async (t) => {
  const directory = dataDirectory(t);
  const first = await startEmbeddedDatabase(directory, () => {});
  await query(first.url, 'CREATE TABLE note (n INT PRIMARY KEY) ENGINE=InnoDB');
  await query(first.url, 'INSERT INTO note VALUES (1), (2), (3)');
  process.kill(first.pid, 'SIGKILL');
  await first.ended;
  const second = await startEmbeddedDatabase(directory, () => {});
  t.teardown(() => second.stop());
  t.match(await query(second.url, 'SELECT COUNT(*) AS notes FROM note'), [{ notes: 3 }]);
});

t.test('a server that is frozen stops all the same', async (t) => {
  const server = await startEmbeddedDatabase(dataDirectory(t), () => {});
  process.kill(server.pid, 'SIGSTOP');
  await server.stop();
  t.notOk(isAlive(server.pid));
});

t.test('a server that an earlier run left behind is replaced', async (t) => {
  const directory = dataDirectory(t);
  const left = await startEmbeddedDatabase(directory, () => {});
  const said: string[] = [];
  const next = await startEmbeddedDatabase(directory, (line) => said.push(line));
  t.teardown(() => next.stop());
  await left.ended;
  t.match(said, [/left behind/]);
  t.not(next.pid, left.pid);
  await t.resolves(query(next.url, 'SELECT 1'));
});

t.test('the path of the data directory may be longer than a socket can have', async (t) => {
  const directory = dataDirectory(t, 'a'.repeat(90), 'b'.repeat(90));
  t.teardown(() => rmSync(socketDirectory(join(directory, 'mysql'), 'mysql.sock'), { recursive: true }));
  const server = await startEmbeddedDatabase(directory, () => {});
  t.teardown(() => server.stop());
  await t.resolves(query(server.url, 'SELECT 1'));
});

t.test('a session speaks utf8mb4 and UTC, and what it commits is durable', async (t) => {
  const server = await startEmbeddedDatabase(dataDirectory(t), () => {});
  t.teardown(() => server.stop());
  const [variables] = await query(
    server.url,
    `SELECT @@character_set_connection AS charset, @@time_zone AS zone,
            @@innodb_flush_log_at_trx_commit AS flushed, @@max_allowed_packet AS packet`,
  );
  t.match(variables, { charset: 'utf8mb4', zone: '+00:00', flushed: 1, packet: 67_108_864 });
});
