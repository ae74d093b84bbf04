import { createConnection, type RowDataPacket } from 'mysql2/promise';
import t from 'tap';
import { connectionOptions } from '../src/workers/store/connection-options.js';
import { MigrationError, migrate, pendingMigrations } from '../src/workers/store/migrate.js';
import { createEmptyDatabase } from './support/database.js';

/** Runs statements on the database and returns the rows of the last one. */
async function query(url: string, ...statements: string[]): Promise<RowDataPacket[]> {
  const connection = await createConnection(connectionOptions(url));
  try {
    let result: RowDataPacket[] = [];
    for (const statement of statements) {
      const [rows] = await connection.query<RowDataPacket[]>(statement);
      result = rows;
    }
    return result;
  } finally {
    connection.destroy();
  }
}

t.test('an empty database gets all tables, and only once', async (t) => {
  const { url } = await createEmptyDatabase(t);
  const pending = await pendingMigrations(url);
  t.ok(pending.length >= 1, 'there is something to do');
  t.match(pending[0], /^001 /);
  t.same(await migrate(url), { applied: pending.length });
  t.same(await pendingMigrations(url), []);
  t.same(await migrate(url), { applied: 0 }, 'a second time there is nothing to do');
  const tables = await query(
    url,
    'SELECT TABLE_NAME AS name FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE()',
  );
  t.ok(tables.length > 5);
  t.same(
    tables.filter(({ name }) => !String(name).startsWith('chat_')),
    [],
    'every table starts with chat_',
  );
});

t.test('processes that start at the same moment do not get into each other', async (t) => {
  const { url } = await createEmptyDatabase(t);
  const pending = await pendingMigrations(url);
  const results = await Promise.all(Array.from({ length: 4 }, () => migrate(url)));
  t.same(
    results.map(({ applied }) => applied).sort((a, b) => a - b),
    [0, 0, 0, pending.length],
    'one has done everything',
  );
});

t.test('a view of the site over its own users stays in the place of chat_user', async (t) => {
  const { url } = await createEmptyDatabase(t);
  await query(
    url,
    'CREATE TABLE members (no BIGINT PRIMARY KEY, login VARCHAR(64), nick VARCHAR(100), photo VARCHAR(512), quit_at DATETIME)',
    "INSERT INTO members VALUES (7, 'gildong', '홍길동', NULL, NULL)",
    `CREATE VIEW chat_user AS
       SELECT no AS id, login AS username, nick AS display_name, photo AS avatar_path, quit_at AS disabled_at FROM members`,
  );
  await migrate(url);
  t.match(await query(url, 'SELECT id, username, display_name FROM chat_user'), [
    { id: 7, username: 'gildong', display_name: '홍길동' },
  ]);
  t.same(await migrate(url), { applied: 0 });
});

t.test('a migration that was interrupted is run again', async (t) => {
  const { url } = await createEmptyDatabase(t);
  await migrate(url);
  // DDL commits by itself: this is what a process leaves that was killed after the last statement.
  await query(url, 'DELETE FROM chat_schema_version WHERE version > 0');
  await t.resolves(migrate(url));
  t.same(await pendingMigrations(url), []);
});

t.test('a migration that was edited after it was applied stops the start', async (t) => {
  const { url } = await createEmptyDatabase(t);
  await migrate(url);
  await query(url, "UPDATE chat_schema_version SET md5 = 'another' WHERE version = 1");
  await t.rejects(migrate(url), MigrationError);
});
