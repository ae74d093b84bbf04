import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { closeSync, existsSync, lstatSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { mkdir, readFile, rename, rm } from 'node:fs/promises';
import { tmpdir, userInfo } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { createDatabase, pingServer, shutDownServer } from '../workers/store/administration.js';
import { type DatabaseProgram, databaseProgram } from './database-program.js';
import { StartError } from './start-error.js';

/** A private database server of this process. */
export interface DatabaseServer {
  /** For `CHAT_MYSQL_URL`: the database `sarangbang` as root through the Unix socket. */
  readonly url: string;
  /** The server's own process. */
  readonly pid: number;
  /** Resolves when the server has ended, asked to or not. */
  readonly ended: Promise<void>;
  /** Shuts the server down cleanly. Harmless when it has ended already. */
  stop(): Promise<void>;
}

/** Bytes of the longest path of a Unix socket that all systems take (104 with the final NUL on macOS, 108 on Linux). */
const LONGEST_SOCKET_PATH = 103;

/** ms that the recovery of a server that was killed may take. */
const START_DEADLINE = 180_000;

/** ms that a server has to shut down; longer than a clean shutdown of a database of this size ever takes. */
const STOP_DEADLINE = 8_000;

/** ms between two looks at a server that is starting or stopping. */
const LOOK_AGAIN = 20;

/**
 * The server must not outlive the process that started it, even if that is killed: the shell waits on a pipe whose
 * other end only that process holds, and the end of the pipe stops the server. SIGCONT, since a test freezes it.
 */
const KEEPER = `
exec 3<&0
"$@" </dev/null 3<&- &
server=$!
{ read -r _; kill -TERM "$server"; kill -CONT "$server"; } <&3 2>/dev/null &
keeper=$!
wait "$server"
code=$?
kill "$keeper" 2>/dev/null
exit "$code"
`;

/** The URL of the embedded database of a data directory, running or not. */
export function embeddedDatabaseUrl(dataDirectory: string): string {
  const socket = join(socketDirectory(join(dataDirectory, 'mysql'), 'mysql.sock'), 'mysql.sock');
  return `mysql://root@localhost/sarangbang?socketPath=${encodeURIComponent(socket).replaceAll('%2F', '/')}`;
}

/**
 * The directory to put sockets into: the wanted one, or, where the path would be too long for the operating system,
 * one under the system's temporary directory that belongs to this user and to the wanted directory alone.
 * @param longest the longest file name that a socket there will have
 */
export function socketDirectory(directory: string, longest: string): string {
  if (Buffer.byteLength(join(directory, longest)) <= LONGEST_SOCKET_PATH) return directory;
  const name = createHash('sha256').update(resolve(directory)).digest('hex').slice(0, 16);
  const short = join(tmpdir(), `sarangbang-${name}`);
  mkdirSync(short, { recursive: true, mode: 0o700 });
  const { uid, mode } = lstatSync(short);
  // Everyone can make directories there. One of somebody else would let them into the database.
  if ((process.getuid && uid !== process.getuid()) || (mode & 0o077) !== 0) {
    throw new StartError(`${short} belongs to another user: choose a CHAT_DATA_DIR with a shorter path`);
  }
  return short;
}

/**
 * Starts a MariaDB or MySQL server of our own, on a Unix socket that only this user can reach, with its data in
 * `<dataDirectory>/mysql`, and makes the (empty) database `sarangbang`. The first start creates the data directory;
 * a start after a crash recovers; a server that an earlier run left behind is stopped first.
 * @param say gets a line for the user before anything that may take more than a second
 * @throws {StartError} saying why the server did not start
 */
export async function startEmbeddedDatabase(
  dataDirectory: string,
  say: (line: string) => void,
): Promise<DatabaseServer> {
  const directory = join(dataDirectory, 'mysql');
  const data = join(directory, 'data');
  const log = join(directory, 'server.log');
  const url = embeddedDatabaseUrl(dataDirectory);
  const program = await databaseProgram(say);
  // Temporary files of its own: a server that starts deletes those that it finds in the system's, ours included.
  await mkdir(join(directory, 'tmp'), { recursive: true, mode: 0o700 });
  await stopLeftBehind(url, say);
  if (!existsSync(data)) {
    say('Creating the embedded database …');
    await initialize(program, data);
  }
  const pidFile = join(directory, 'server.pid');
  await rm(pidFile, { force: true });
  const child = launch(program.server, serverArguments(program, data, url, pidFile), log);
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  await accepting(url, child, ended, log, say);
  await createDatabase(url);
  return {
    url,
    pid: Number(await readFile(pidFile, 'utf8')),
    ended,
    stop: () => stop(child, ended),
  };
}

/** A server of an earlier run that is still there, because the run was killed a moment ago or its keeper with it. */
async function stopLeftBehind(url: string, say: (line: string) => void): Promise<void> {
  if (!(await accepts(url))) return;
  say('Stopping the database server that an earlier run left behind …');
  await shutDownServer(url);
  const deadline = Date.now() + STOP_DEADLINE;
  while (await accepts(url)) {
    if (Date.now() > deadline) {
      throw new StartError('a database server runs on the data directory already and does not stop');
    }
    await delay(LOOK_AGAIN);
  }
}

async function initialize(program: DatabaseProgram, data: string): Promise<void> {
  // Under another name until it is whole, so that an interrupted first start leaves nothing that looks finished.
  const draft = `${data}.new`;
  await rm(draft, { recursive: true, force: true });
  const user = asRoot();
  const temporary = join(dirname(data), 'tmp');
  try {
    await promisify(execFile)(
      program.installer ?? program.server,
      program.kind === 'mariadb'
        ? [
            '--no-defaults',
            `--datadir=${draft}`,
            `--tmpdir=${temporary}`,
            '--auth-root-authentication-method=normal',
            '--skip-test-db',
            ...user,
          ]
        : ['--no-defaults', '--initialize-insecure', `--datadir=${draft}`, `--tmpdir=${temporary}`, ...user],
    );
  } catch (error) {
    const output = error instanceof Error && 'stderr' in error ? `\n${error.stderr}` : '';
    throw new StartError(
      `the embedded database could not be created by ${program.installer ?? program.server}${output}\n` +
        'If it says "permission denied", AppArmor may confine mysqld to /var/lib/mysql: install mariadb-server instead.',
    );
  }
  await rename(draft, data);
}

function serverArguments(program: DatabaseProgram, data: string, url: string, pidFile: string): string[] {
  return [
    '--no-defaults',
    `--datadir=${data}`,
    `--tmpdir=${join(dirname(data), 'tmp')}`,
    `--socket=${new URL(url).searchParams.get('socketPath')}`,
    `--pid-file=${pidFile}`,
    ...asRoot(),
    '--skip-networking',
    '--skip-name-resolve',
    '--skip-log-bin',
    '--character-set-server=utf8mb4',
    '--collation-server=utf8mb4_unicode_ci',
    '--default-time-zone=+00:00',
    // What is acknowledged survives a power failure.
    '--innodb-flush-log-at-trx-commit=1',
    '--innodb-doublewrite=ON',
    '--max-allowed-packet=64M',
    '--max-connections=400',
    '--local-infile=OFF',
    '--performance-schema=OFF',
    ...(program.kind === 'mysql' ? ['--mysqlx=OFF'] : []),
  ];
}

/** Both servers refuse to run as root unless told so by name. */
function asRoot(): string[] {
  return process.getuid?.() === 0 ? [`--user=${userInfo().username}`] : [];
}

function launch(server: string, args: readonly string[], logFile: string): ChildProcess {
  const log = openSync(logFile, 'w');
  try {
    // Its own process group: Ctrl-C in the terminal reaches us, and we stop the server after the chat.
    return spawn('/bin/sh', ['-c', KEEPER, 'sarangbang-database', server, ...args], {
      detached: true,
      stdio: ['pipe', log, log],
    });
  } finally {
    closeSync(log);
  }
}

async function accepting(
  url: string,
  child: ChildProcess,
  ended: Promise<void>,
  log: string,
  say: (line: string) => void,
): Promise<void> {
  let running = true;
  void ended.then(() => {
    running = false;
  });
  const started = Date.now();
  let said = 0;
  while (!(await accepts(url))) {
    const waited = Date.now() - started;
    if (!running || waited > START_DEADLINE) {
      if (running) await stop(child, ended);
      const lines = readFileSync(log, 'utf8').trim().split('\n').slice(-15);
      throw new StartError(`the embedded database did not start:\n  ${lines.join('\n  ')}`);
    }
    if (waited > 1_000 * (said === 0 ? 1 : said * 10)) {
      say('Waiting for the embedded database …');
      said += 1;
    }
    await delay(LOOK_AGAIN);
  }
}

async function accepts(url: string): Promise<boolean> {
  return pingServer(url).then(
    () => true,
    () => false,
  );
}

async function stop(child: ChildProcess, ended: Promise<void>): Promise<void> {
  child.stdin?.destroy();
  const waiting = new AbortController();
  const late = delay(STOP_DEADLINE, true, { signal: waiting.signal }).catch(() => false);
  if (await Promise.race([ended.then(() => false), late])) {
    // The group: the shell, the server and the pipe's reader. InnoDB recovers at the next start.
    if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
    await ended;
  }
  waiting.abort();
}

/**
 * {@link startEmbeddedDatabase}, and again whenever the server ends by itself: the chat reconnects.
 * @returns `stop` to end it, and `failed`, which rejects when a restart did not work
 */
export async function keepEmbeddedDatabase(
  dataDirectory: string,
  say: (line: string) => void,
): Promise<{ url: string; stop: () => Promise<void>; failed: Promise<never> }> {
  let server = await startEmbeddedDatabase(dataDirectory, say);
  let stopping = false;
  const keep = async (): Promise<never> => {
    for (;;) {
      await server.ended;
      if (stopping) return new Promise<never>(() => {});
      say('The embedded database has ended unexpectedly: starting it again …');
      server = await startEmbeddedDatabase(dataDirectory, say);
      if (stopping) await server.stop();
      else say('The embedded database is back.');
    }
  };
  const failed = keep();
  failed.catch(() => {});
  const stop = async () => {
    stopping = true;
    await server.stop();
  };
  return { url: server.url, stop, failed };
}
