import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import tap, { type Test } from 'tap';
import { type DatabaseServer, startEmbeddedDatabase } from '../../src/main/embedded-database.js';
import { createDatabase, dropDatabase } from '../../src/workers/store/administration.js';
import { migrate } from '../../src/workers/store/migrate.js';

/** A database server that belongs to one test, which may freeze it, kill it and start it again. */
export interface PrivateDatabase {
  /** The same over all restarts. */
  readonly url: string;
  /** The server's process while it runs. */
  readonly pid: number;
  /** Shuts it down cleanly. */
  stop(): Promise<void>;
  /** Ends it with SIGKILL, as a crash or a power failure would. */
  kill(): Promise<void>;
  /** Starts it again after {@link stop} or {@link kill}, with the same data. */
  start(): Promise<void>;
}

let serverUrl: Promise<string> | undefined;
let databases = 0;

/** The server of `npm test`; for a test file that is run by itself, one that ends with it. */
function sharedServer(): Promise<string> {
  const given = process.env.TEST_MYSQL_URL;
  serverUrl ??=
    given === undefined ? startPrivateDatabase(tap).then(({ url }) => url) : Promise.resolve(given);
  return serverUrl;
}

/** An empty database of its own for a test, without the tables; it is dropped when the test ends. */
export async function createEmptyDatabase(t: Pick<Test, 'teardown'>): Promise<{ url: string }> {
  const url = new URL(await sharedServer());
  databases += 1;
  url.pathname = `/test_${process.pid}_${databases}`;
  await createDatabase(url.href);
  t.teardown(() => dropDatabase(url.href));
  return { url: url.href };
}

/**
 * A database of its own for a test, with the tables of the chat and without any rows; it is dropped when the test
 * ends. Call it before what uses it, so that it is torn down after.
 */
export async function createTestDatabase(t: Pick<Test, 'teardown'>): Promise<{ url: string }> {
  const database = await createEmptyDatabase(t);
  await migrate(database.url);
  return database;
}

/** A server of its own for a test, with the tables of the chat in the database of its URL. */
export async function startPrivateDatabase(t: Pick<Test, 'teardown'>): Promise<PrivateDatabase> {
  const directory = mkdtempSync(join(tmpdir(), 'sarangbang-test-'));
  let server: DatabaseServer = await startEmbeddedDatabase(directory, () => {});
  t.teardown(async () => {
    await server.stop();
    rmSync(directory, { recursive: true, force: true });
  });
  await migrate(server.url);
  return {
    url: server.url,
    get pid() {
      return server.pid;
    },
    stop: () => server.stop(),
    kill: async () => {
      process.kill(server.pid, 'SIGKILL');
      await server.ended;
    },
    start: async () => {
      server = await startEmbeddedDatabase(directory, () => {});
    },
  };
}
