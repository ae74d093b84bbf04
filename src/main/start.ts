import { existsSync } from 'node:fs';
import { join, relative } from 'node:path';
import { ConfigError, loadConfig } from '../shared/config.js';
import { jwtSecret } from '../shared/secret.js';
import { addDemoUsers } from '../workers/store/accounts.js';
import { MigrationError, migrate } from '../workers/store/migrate.js';
import { listenerPort } from '../workers/store/who.js';
import { keepEmbeddedDatabase } from './embedded-database.js';
import { address, greeted } from './hello.js';
import { lockDataDirectory } from './instance-lock.js';
import { startProcessManager } from './process-manager.js';
import { StartError } from './start-error.js';

/** `npm start`: everything in the foreground, on an embedded database unless `CHAT_MYSQL_URL` names one. */

const root = join(import.meta.dirname, '../../..');
const say = (line: string): void => void process.stdout.write(`${line}\n`);

/** What has been started, to be stopped in the opposite order. */
const running: (() => Promise<void>)[] = [];

let stopping = false;
const stopped = new Promise<void>((resolve) => {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      if (!stopping) say('Stopping …');
      stopping = true;
      resolve();
    });
  }
});

async function start(): Promise<void> {
  const dotenv = join(root, '.env');
  if (existsSync(dotenv)) process.loadEnvFile(dotenv);
  const config = loadConfig(process.env, root);
  await lockDataDirectory(config.CHAT_DATA_DIR);
  if (config.CHAT_AUTH === 'jwt' && config.CHAT_JWT_JWKS === undefined) jwtSecret(config);

  const embedded = config.CHAT_MYSQL_URL === undefined;
  let databaseFailed: Promise<never> = new Promise(() => {});
  let url = config.CHAT_MYSQL_URL ?? '';
  if (embedded) {
    const database = await keepEmbeddedDatabase(config.CHAT_DATA_DIR, say);
    running.push(database.stop);
    ({ url, failed: databaseFailed } = database);
    if (stopping) return;
    await migrate(url);
    if (await addDemoUsers(url)) say('Created the demo users mina, jun, sora, hyun and bora.');
  }
  if (stopping) return;

  const manager = await startProcessManager(config.CHAT_DATA_DIR, (text, stream) => {
    process[stream === 'out' ? 'stdout' : 'stderr'].write(text);
  });
  running.push(manager.stop);
  if (stopping) return;
  const { apps } = await import(join(root, 'ecosystem.config.js'));
  // Everything, the database included, has to be down within 10 s here; the logs go to our stdout.
  const foreground = { kill_timeout: 7_000, out_file: '/dev/null', error_file: '/dev/null' };
  const pid = await Promise.race([
    manager.start({ ...apps[0], ...foreground, env: { CHAT_MYSQL_URL: url } }),
    stopped,
  ]);
  if (pid === undefined) return;
  const port = config.CHAT_TCP_PORT || (await listenerPort(url, pid));
  await greeted(config.CHAT_TCP_HOST, port, config.tls !== null);

  const at = address(config.CHAT_TCP_HOST, port);
  const data = relative(process.cwd(), join(config.CHAT_DATA_DIR, 'mysql')) || '.';
  say(
    `sarangbang is ready: ${config.tls === null ? 'tcp' : 'tls'} ${at}, ${embedded ? `embedded database in ${data}` : 'database of CHAT_MYSQL_URL'}`,
  );
  say('  In another terminal:');
  say('  npx sarangbang token mina     prints a token to log in with');
  say(`  nc ${at.replace(/:(\d+)$/, ' $1').padEnd(26)} is a client: the README has a conversation to paste`);
  say('  npx sarangbang load           five simulated users chat for 10 s');
  await Promise.race([stopped, databaseFailed]);
}

try {
  await start();
} catch (error) {
  process.exitCode = 1;
  const expected = [StartError, ConfigError, MigrationError].some((kind) => error instanceof kind);
  process.stderr.write(`${error instanceof Error ? (expected ? error.message : error.stack) : error}\n`);
}
for (const stop of running.reverse()) await stop();
process.exit();
