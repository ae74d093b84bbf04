import { execFile, spawn } from 'node:child_process';
import { constants } from 'node:fs';
import { access, readFile, realpath } from 'node:fs/promises';
import { delimiter, dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { StartError } from './start-error.js';

const execute = promisify(execFile);

/** A MariaDB or MySQL server on this machine. */
export interface DatabaseProgram {
  readonly kind: 'mariadb' | 'mysql';
  /** Path of the server. */
  readonly server: string;
  /** Path of MariaDB's program that makes a data directory; MySQL's server does that itself. */
  readonly installer: string | null;
}

/** Where servers are installed outside of the PATH that a user has: Debian, RPM, Homebrew, the vendors' tarballs. */
const DIRECTORIES = [
  '/usr/sbin',
  '/usr/bin',
  '/usr/libexec',
  '/usr/local/sbin',
  '/usr/local/bin',
  '/usr/local/mysql/bin',
  '/opt/homebrew/bin',
  '/opt/homebrew/opt/mariadb/bin',
  '/opt/homebrew/opt/mysql/bin',
];

/**
 * Finds the server to run the embedded database with; on Debian and Ubuntu, where this user may, it installs one.
 * @param say gets a line for the user before anything that takes time
 * @throws {StartError} saying what to install
 */
export async function databaseProgram(say: (line: string) => void): Promise<DatabaseProgram> {
  const found = await find();
  if (found !== null) return found;
  await installWithApt(say);
  const installed = await find();
  if (installed === null) {
    throw new StartError('apt installed mariadb-server, but there is no mariadbd in the usual places');
  }
  return installed;
}

async function find(): Promise<DatabaseProgram | null> {
  const server = (await onPath('mariadbd')) ?? (await onPath('mysqld'));
  if (server === null) return null;
  const { stdout } = await execute(server, ['--no-defaults', '--version']);
  if (!stdout.includes('MariaDB')) return { kind: 'mysql', server, installer: null };
  const beside = [dirname(server), join(dirname(await realpath(server)), '..', 'scripts')];
  const installer =
    (await onPath('mariadb-install-db', beside)) ?? (await onPath('mysql_install_db', beside));
  return installer === null ? null : { kind: 'mariadb', server, installer };
}

async function onPath(name: string, first: readonly string[] = []): Promise<string | null> {
  const path = (process.env.PATH ?? '').split(delimiter).filter((directory) => directory !== '');
  for (const directory of [...first, ...path, ...DIRECTORIES]) {
    const file = join(directory, name);
    if (await isExecutable(file)) return file;
  }
  return null;
}

async function isExecutable(file: string): Promise<boolean> {
  return access(file, constants.X_OK).then(
    () => true,
    () => false,
  );
}

const HOW_TO_INSTALL =
  'Sarangbang needs a MariaDB (10.6 or later) or MySQL (8.0 or later) server, and there is none on this machine.\n' +
  '  Debian, Ubuntu   sudo apt-get install mariadb-server\n' +
  '  Fedora, RHEL     sudo dnf install mariadb-server\n' +
  '  Alpine           sudo apk add mariadb\n' +
  '  macOS            brew install mariadb\n' +
  'Or set CHAT_MYSQL_URL to a server that runs elsewhere.';

async function installWithApt(say: (line: string) => void): Promise<void> {
  const release = await readFile('/etc/os-release', 'utf8').catch(() => '');
  const debian = /^ID(_LIKE)?=.*\b(debian|ubuntu)\b/m.test(release);
  if (!debian || !(await isExecutable('/usr/bin/apt-get'))) throw new StartError(HOW_TO_INSTALL);
  const sudo = process.getuid?.() === 0 ? [] : ['sudo', '-n'];
  if (sudo.length > 0 && !(await succeeds('sudo', ['-n', 'true']))) throw new StartError(HOW_TO_INSTALL);
  say('There is no MariaDB or MySQL server on this machine: installing mariadb-server with apt …');
  const apt = [
    ...sudo,
    'env',
    'DEBIAN_FRONTEND=noninteractive',
    'apt-get',
    '-o',
    'DPkg::Lock::Timeout=120',
    '-o',
    'Dpkg::Use-Pty=0',
  ];
  await run([...apt, 'update', '-q'], say);
  await run([...apt, 'install', '-q', '-y', '--no-install-recommends', 'mariadb-server'], say);
}

async function succeeds(program: string, args: readonly string[]): Promise<boolean> {
  return execute(program, args).then(
    () => true,
    () => false,
  );
}

/** Runs a command and shows each line of its output, so that a slow download is seen to move. */
async function run(command: readonly string[], say: (line: string) => void): Promise<void> {
  const [program = '', ...args] = command;
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let rest = '';
  const show = (chunk: string) => {
    const lines = (rest + chunk).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) {
      // A percentage is drawn over itself.
      const last = line.trim().split('\r').at(-1) ?? '';
      if (last !== '') say(`  ${last}`);
    }
  };
  child.stdout.setEncoding('utf8').on('data', show);
  child.stderr.setEncoding('utf8').on('data', show);
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  if (code !== 0) throw new StartError(`\`${command.join(' ')}\` failed.\n${HOW_TO_INSTALL}`);
}
