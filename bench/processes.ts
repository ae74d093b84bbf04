import { type ChildProcess, execFile, fork, spawn } from 'node:child_process';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import type { Address, Answer, Job } from './job.js';

const HERE = import.meta.dirname;
const SERVER = join(HERE, '../src/main/chat.js');
const RECORD_PROFILE = new URL('record-profile.js', import.meta.url).href;
const COLLECT_GARBAGE = new URL('collect-garbage.js', import.meta.url).href;

/** ms that the server may take to start, and to stop. */
const START_MS = 60_000;
const STOP_MS = 15_000;
/** ms between two looks at something that another process has to do. */
const LOOK_AGAIN = 20;

/** A process that this benchmark started. */
export interface Process {
  readonly pid: number;
  readonly address: Address;
  stop(): Promise<void>;
}

/** All that must not outlive the benchmark. */
const running = new Set<ChildProcess>();

/** Ends, at once, every process that was started here and still runs. */
export function endAll(): void {
  for (const child of running) child.kill('SIGKILL');
}

process.once('exit', endAll);

function keep(child: ChildProcess): Promise<void> {
  running.add(child);
  return new Promise((resolve) => {
    // Not `close`, which Node never reports for a fork that was disconnected from this side.
    child.once('exit', () => {
      running.delete(child);
      resolve();
    });
  });
}

/** Runs a job to its end in a process of its own and returns what it answers. */
export async function runJob(
  script: 'generator' | 'inserts',
  job: Job,
  onMeasuring?: () => void,
): Promise<Answer> {
  const { child, ended, first } = start(script, job, [], onMeasuring);
  try {
    return await first;
  } finally {
    if (child.connected) child.disconnect();
    await ended;
  }
}

/** Holds idle connections until the returned function is called. */
export async function holdConnections(job: Job): Promise<() => Promise<void>> {
  const { child, ended, first } = start('generator', job);
  await first;
  return async () => {
    child.disconnect();
    await ended;
  };
}

/** Starts the relay, or a bare server that only holds connections. */
export async function startPeer(kind: 'relay' | 'bare'): Promise<Process> {
  const { child, ended, first } = start('relay', { kind }, ['--import', COLLECT_GARBAGE]);
  const answer = await first;
  if (answer.type !== 'listening') throw new Error(`the ${kind} answered ${answer.type}`);
  return {
    pid: child.pid ?? 0,
    address: { host: '127.0.0.1', port: answer.port },
    stop: async () => {
      child.disconnect();
      await ended;
    },
  };
}

function start(script: string, job: Job, execArgv: string[] = [], onMeasuring?: () => void) {
  const child = fork(join(HERE, `${script}.js`), { execArgv });
  child.send(job);
  const ended = keep(child);
  const first = new Promise<Answer>((resolve, reject) => {
    child.on('message', (message: Answer) => {
      if (message.type === 'measuring') onMeasuring?.();
      else if (message.type === 'failed') reject(new Error(`${script} (${job.kind}): ${message.why}`));
      else resolve(message);
    });
    child.once('exit', (code, signal) =>
      reject(new Error(`${script} (${job.kind}) ended with ${code ?? signal}`)),
    );
  });
  return { child, ended, first };
}

export interface ServerOptions {
  readonly mysqlUrl: string;
  readonly jwtSecret: string;
  /** Where it may put its files. */
  readonly directory: string;
  /** Where to put the profiles that {@link toggleProfile} takes. */
  readonly profiles?: string;
}

/** What PM2 gives to Node. */
async function nodeArguments(): Promise<string[]> {
  const { apps } = await import(new URL('../../ecosystem.config.js', import.meta.url).href);
  return apps[0].node_args;
}

/** Starts the real server, one process, as PM2 would, and waits until it is ready. */
export async function startServer(options: ServerOptions): Promise<Process> {
  const environment = Object.entries(process.env).filter(([name]) => !name.startsWith('CHAT_'));
  const child = spawn(
    process.execPath,
    [
      ...(await nodeArguments()),
      '--import',
      options.profiles === undefined ? COLLECT_GARBAGE : RECORD_PROFILE,
      SERVER,
    ],
    {
      stdio: ['ignore', 'pipe', 'pipe'],
      cwd: options.directory,
      env: {
        ...Object.fromEntries(environment),
        ...(options.profiles !== undefined && { BENCH_PROFILE_DIR: options.profiles }),
        CHAT_TCP_HOST: '127.0.0.1',
        CHAT_TCP_PORT: '0',
        CHAT_MYSQL_URL: options.mysqlUrl,
        CHAT_JWT_SECRET: options.jwtSecret,
        CHAT_DATA_DIR: join(options.directory, 'data'),
        CHAT_LOG_DIR: join(options.directory, 'logs'),
      },
    },
  );
  const ended = keep(child);
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output = (output + text).slice(-5000);
    });
  }
  // Its log says where it listens: a port chosen beforehand could be somebody else's by now.
  const deadline = performance.now() + START_MS;
  const listening = () => / ready .*\baddress=(\S+):(\d+)/.exec(output);
  while (listening() === null) {
    if (child.exitCode !== null || performance.now() > deadline) {
      throw new Error(`the server did not start:\n${output}`);
    }
    await delay(LOOK_AGAIN);
  }
  const [, host = '', port] = listening() ?? [];
  const address = { host, port: Number(port) };
  return {
    pid: child.pid ?? 0,
    address,
    stop: async () => {
      child.kill('SIGTERM');
      const late = setTimeout(() => {
        process.stderr.write(`the server did not stop within ${STOP_MS} ms and was killed\n`);
        child.kill('SIGKILL');
      }, STOP_MS);
      await ended;
      clearTimeout(late);
    },
  };
}

/** Starts the profilers of a server that was started with a directory for them. */
export function startProfile(pid: number): void {
  process.kill(pid, 'SIGUSR2');
}

/** Stops them and waits until all files are there. */
export async function stopProfile(pid: number, directory: string): Promise<void> {
  process.kill(pid, 'SIGUSR2');
  while (!(await readdir(directory)).some((file) => file === 'main.cpuprofile')) await delay(LOOK_AGAIN);
  while ((await readdir(directory)).some((file) => file.endsWith('.recording'))) await delay(LOOK_AGAIN);
}

/** Memory that is taken as settled when it moved less than this for {@link SETTLED_MS}. */
const SETTLED_SHARE = 0.003;
const SETTLED_MS = 1000;
/** ms after which it is taken as it is. */
const SETTLE_DEADLINE_MS = 10_000;

/** Resident memory of a process once it has settled, bytes. */
export async function settledMemory(pid: number): Promise<number> {
  const deadline = performance.now() + SETTLE_DEADLINE_MS;
  let reference = await memory(pid);
  let since = performance.now();
  for (;;) {
    await delay(100);
    const now = await memory(pid);
    if (Math.abs(now - reference) > reference * SETTLED_SHARE) {
      reference = now;
      since = performance.now();
    }
    if (performance.now() - since > SETTLED_MS || performance.now() > deadline) return now;
  }
}

/** Collects the garbage of a server or peer, then waits until its memory has settled. */
export async function memoryWithoutGarbage(pid: number): Promise<number> {
  process.kill(pid, 'SIGUSR2');
  return settledMemory(pid);
}

/** Clock ticks per second in /proc, on every Linux that Node runs on. */
const TICKS_PER_S = 100;

/** CPU time that a process and its threads have used, s; NaN where there is no /proc. */
export async function cpuSeconds(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined);
  // The fields after the name, which is in brackets and may hold spaces: user and system time are the 12th and 13th.
  const fields = stat?.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields?.[11]) + Number(fields?.[12])) / TICKS_PER_S;
}

async function memory(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => undefined);
  if (status !== undefined) return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024;
  // Not Linux.
  const { stdout } = await promisify(execFile)('ps', ['-o', 'rss=', '-p', String(pid)]);
  return Number(stdout) * 1024;
}
