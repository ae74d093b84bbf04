import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Test } from 'tap';

/** The checkout. */
export const root = join(import.meta.dirname, '../../..');

/** What a program did. */
export interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A program that runs. */
export interface Program {
  readonly child: ChildProcess;
  readonly ended: Promise<Outcome>;
  /** Resolves when the text has been on stdout or stderr; rejects if the program ends without it. */
  said(text: string): Promise<void>;
}

/** The environment of the test without the settings of the developer, and with these. */
export function settings(values: Readonly<Record<string, string>>): NodeJS.ProcessEnv {
  // NODE_OPTIONS would load what tap watches test processes with.
  const foreign = (name: string) => name.startsWith('CHAT_') || name === 'NODE_OPTIONS';
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !foreign(name)));
  // Empty counts as unset, and unlike that it keeps a .env of the developer out.
  return { ...env, CHAT_MYSQL_URL: '', ...values };
}

/** Starts a program of the build, `src/main/start.js` for one. It is killed when the test ends, if it is still there. */
export function startProgram(
  t: Pick<Test, 'teardown'>,
  program: string,
  args: readonly string[],
  values: Readonly<Record<string, string>>,
): Program {
  const child = spawn(process.execPath, [join(root, 'dist', program), ...args], {
    cwd: root,
    env: settings(values),
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  t.teardown(() => {
    child.kill('SIGKILL');
  });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text) => {
    stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text) => {
    stderr += text;
  });
  let over = false;
  const ended = new Promise<Outcome>((resolve) => {
    child.once('close', (code) => {
      over = true;
      resolve({ code, stdout, stderr });
    });
  });
  const said = async (text: string): Promise<void> => {
    while (!stdout.includes(text) && !stderr.includes(text)) {
      if (over) throw new Error(`ended without saying "${text}":\n${stdout}\n${stderr}`);
      await delay(10);
    }
  };
  return { child, ended, said };
}

/** A directory for the data of a test. */
export function temporaryDirectory(t: Pick<Test, 'teardown'>): string {
  const directory = mkdtempSync(join(tmpdir(), 'sarangbang-test-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true, maxRetries: 10 }));
  return directory;
}

/** A port of 127.0.0.1 that was free a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}

/** The processes that a process has started, and those that they have started. */
export function descendants(pid: number): number[] {
  const children = parents()
    .filter(([, parent]) => parent === pid)
    .map(([child]) => child);
  return [...children, ...children.flatMap(descendants)];
}

function parents(): [number, number][] {
  if (existsSync('/proc/self/stat')) {
    return readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .map((name) => [Number(name), Number(statOf(Number(name))?.[1] ?? 0)]);
  }
  return execFileSync('ps', ['-axo', 'pid=,ppid='], { encoding: 'utf8' })
    .trim()
    .split('\n')
    .map((line) => {
      const [pid = 0, parent = 0] = line.trim().split(/\s+/).map(Number);
      return [pid, parent];
    });
}

/** State, parent … of a process, from the closing bracket of its name on; undefined when it is gone. */
function statOf(pid: number): string[] | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  } catch {
    return undefined;
  }
}

/** Whether a process runs; one that has ended and waits to be collected by its parent does not. */
export function isRunning(pid: number): boolean {
  if (existsSync('/proc/self/stat')) return !['Z', 'X', undefined].includes(statOf(pid)?.[0]);
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** Waits until none of the processes runs any more. */
export async function allGone(pids: readonly number[], timeoutMs: number): Promise<boolean> {
  const deadline = Date.now() + timeoutMs;
  while (pids.some(isRunning)) {
    if (Date.now() > deadline) return false;
    await delay(10);
  }
  return true;
}
