import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ConfigError, loadConfig, unknownSettings } from '../shared/config.js';
import { log } from '../shared/log.js';
import { embeddedDatabaseUrl } from './embedded-database.js';
import { closeLogFiles, openLogFiles } from './log-files.js';
import { ChatServer } from './server.js';
import { StartError } from './start-error.js';

/** The entry of a chat process, run by PM2: configuration, log, server, ready, signals. */

const root = join(import.meta.dirname, '../../..');
/** How long the last lines may take to the disk, ms. */
const LOG_FLUSH_MS = 1000;
let server: ChatServer | undefined;
let isEnding = false;

/** Every way out leads through here: stop, flush the log, exit. Only the first call counts. */
async function end(exitCode: number): Promise<void> {
  if (isEnding) return;
  isEnding = true;
  try {
    await server?.stop();
    log.server.info('stopped', { exitCode });
  } catch (error) {
    log.server.error('stop failed', {}, error);
    exitCode = 1;
  }
  await Promise.race([closeLogFiles(), sleep(LOG_FLUSH_MS)]);
  process.exit(exitCode);
}

/** In PM2's cluster mode a process that fails stays alive unless it ends itself. */
function crash(event: string, error: unknown): void {
  // What fails on the way out is not worth a second way out.
  if (isEnding) return;
  log.server.error(event, {}, error);
  void end(1);
}

async function start(): Promise<void> {
  const dotenv = join(root, '.env');
  if (existsSync(dotenv)) process.loadEnvFile(dotenv);
  const config = loadConfig(process.env, root);
  const instance = process.env.NODE_APP_INSTANCE ?? '0';
  openLogFiles({ dir: config.CHAT_LOG_DIR, name: `chat-${instance}`, level: config.CHAT_LOG_LEVEL });
  // Who reads our output may go before we do. The files have every line.
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined);
  for (const name of unknownSettings(process.env)) log.server.warn('unknown setting', { name });

  process.on('uncaughtException', (error) => crash('uncaught exception', error));
  process.on('unhandledRejection', (reason) => crash('unhandled rejection', reason));
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => void end(0));
  // PM2 says it this way where there are no signals.
  process.on('message', (message) => {
    if (message === 'shutdown') void end(0);
  });

  server = await ChatServer.start(config, config.CHAT_MYSQL_URL ?? embeddedDatabaseUrl(config.CHAT_DATA_DIR));
  const { host, port } = server.address;
  log.server.info('ready', {
    process: server.processId,
    pid: process.pid,
    address: `${host}:${port}`,
    tls: config.tls !== null,
    auth: config.CHAT_AUTH,
    threads: config.CHAT_WORKER_THREADS,
  });
  process.send?.('ready');
}

/** In words for whoever started it; with a stack only if it is a bug. */
function whyItFailed(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const isExpected = error instanceof ConfigError || error instanceof StartError || 'syscall' in error;
  return isExpected ? error.message : (error.stack ?? error.message);
}

try {
  await start();
} catch (error) {
  // Both ways, as it may be the log that can not be opened.
  process.stderr.write(`${whyItFailed(error)}\n`);
  log.server.error('start failed', { reason: whyItFailed(error) });
  await end(1);
}
