import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, cpus, tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { SignJWT } from 'jose';
import { createConnection, type RowDataPacket } from 'mysql2/promise';
import { type DatabaseServer, startEmbeddedDatabase } from '../src/main/embedded-database.js';
import { createDatabase } from '../src/workers/store/administration.js';
import { connectionOptions } from '../src/workers/store/connection-options.js';
import { migrate } from '../src/workers/store/migrate.js';
import type { Answer, BenchUser, Job } from './job.js';
import {
  cpuSeconds,
  endAll,
  holdConnections,
  memoryWithoutGarbage,
  runJob,
  type ServerOptions,
  settledMemory,
  startPeer,
  startProfile,
  startServer,
  stopProfile,
} from './processes.js';
import { profileSummary } from './profile.js';

const USAGE = `Usage: npm run bench -- [--quick] [--only NAME]… [--profile]

Measures the server side by side with what it can be compared to, on a private database.

  --quick       one short round instead of three (1 minute instead of 4)
  --only NAME   ${'pairs, fan-out, latency or memory; may be repeated'}
  --profile     says instead where the server spends its time with pairs and fan-out`;

const NAMES = ['pairs', 'fan-out', 'latency', 'memory'] as const;
type Name = (typeof NAMES)[number];

// 100 bytes, as load has by default.
const TEXT =
  '안녕하세요, this is a message of one hundred bytes, about as long as people type on a phone …'.padEnd(
    78,
    '.',
  );
const PAIRS = { pairs: 50, outstanding: 16 };
const FAN_OUT = { members: 100, senders: 10, outstanding: 16 };
const LATENCY = { users: 5, rate: 2 };
const IDLE_CONNECTIONS = 2000;
/** Logins before the memory of an empty server is taken, so that its code is loaded and compiled. */
const WARM_UP_CONNECTIONS = 200;
const ROWS_PER_STATEMENT = 200;
/** Single rows that latency is compared with, per round. */
const COMMITS = 50;
const CONNECTIONS_TRIED = [1, 2, 4, 8];

interface Plan {
  readonly rounds: number;
  readonly warmUpS: number;
  readonly seconds: number;
  readonly latencySeconds: number;
  readonly tryS: number;
}
const FULL: Plan = { rounds: 3, warmUpS: 2, seconds: 8, latencySeconds: 15, tryS: 1.5 };
const QUICK: Plan = { rounds: 1, warmUpS: 1.5, seconds: 4, latencySeconds: 12, tryS: 0.7 };

interface Bench {
  readonly databasePid: number;
  readonly plan: Plan;
  readonly server: ServerOptions;
  readonly insertsUrl: string;
  /** `from` counts from 0; nobody but the caller uses these. */
  users(from: number, count: number): readonly BenchUser[];
}

type Row = [what: string, server: string, comparison: string, ratio: string, target: string];

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      quick: { type: 'boolean', default: false },
      profile: { type: 'boolean', default: false },
      only: { type: 'string', multiple: true, default: [] },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  const unknown = values.only.filter((name) => !NAMES.some((known) => known === name));
  if (values.help || unknown.length > 0) {
    process.stdout.write(`${USAGE}\n`);
    if (unknown.length > 0) process.exitCode = 1;
    return;
  }
  const wanted = (name: Name) => values.only.length === 0 || values.only.includes(name);
  const began = performance.now();

  const directory = await mkdtemp(join(tmpdir(), 'sarangbang-bench-'));
  say('Starting a private database …');
  const database = await startEmbeddedDatabase(directory, say);
  try {
    const bench = await prepare(database, directory, values.quick ? QUICK : FULL);
    if (values.profile) {
      for (const name of ['pairs', 'fan-out'] as const) if (wanted(name)) await profile(name, bench);
      return;
    }
    const table = new Table({
      head: ['', 'server', 'compared with', 'ratio', 'target'],
      style: { head: [], border: [] },
    });
    if (wanted('pairs')) table.push(...(await pairs(bench)));
    if (wanted('fan-out')) table.push(...(await fanOut(bench)));
    if (wanted('latency')) table.push(...(await latency(bench)));
    if (wanted('memory')) table.push(...(await memory(bench)));
    say(`\n${await machine(database.url)}`);
    say(`${bench.plan.rounds} round(s), medians, ${((performance.now() - began) / 1000).toFixed(0)} s\n`);
    say(table.toString());
  } finally {
    endAll();
    await database.stop();
    await rm(directory, { recursive: true, force: true });
  }
}

async function prepare({ url, pid }: DatabaseServer, directory: string, plan: Plan): Promise<Bench> {
  await migrate(url);
  const inserts = new URL(url);
  inserts.pathname = '/bench_inserts';
  await createDatabase(inserts.href);
  await migrate(inserts.href);

  const secret = randomBytes(32).toString('hex');
  const key = new TextEncoder().encode(secret);
  const everyone: BenchUser[] = [];
  const connection = await createConnection(connectionOptions(url));
  try {
    const count = IDLE_CONNECTIONS + WARM_UP_CONNECTIONS + 2 * PAIRS.pairs + FAN_OUT.members + LATENCY.users;
    for (let id = 1; id <= count; id++) {
      const token = await new SignJWT()
        .setProtectedHeader({ alg: 'HS256' })
        .setSubject(String(id))
        .setExpirationTime('1h')
        .sign(key);
      everyone.push({ id, token });
    }
    await connection.query('INSERT INTO chat_user (id, username, display_name) VALUES ?', [
      everyone.map(({ id }) => [id, `bench-${id}`, `Bench ${id}`]),
    ]);
  } finally {
    connection.destroy();
  }
  const files = join(directory, 'server');
  await mkdir(files);
  return {
    databasePid: pid,
    plan,
    server: { mysqlUrl: url, jwtSecret: secret, directory: files },
    insertsUrl: inserts.href,
    users: (from, count) => everyone.slice(from, from + count),
  };
}

// Each measurement has users of its own.
const FIRST_PAIR = IDLE_CONNECTIONS + WARM_UP_CONNECTIONS;
const FIRST_MEMBER = FIRST_PAIR + 2 * PAIRS.pairs;
const FIRST_TALKER = FIRST_MEMBER + FAN_OUT.members;

function pairsJob({ users, plan: { warmUpS, seconds } }: Bench) {
  const { outstanding } = PAIRS;
  return {
    kind: 'pairs',
    users: users(FIRST_PAIR, 2 * PAIRS.pairs),
    outstanding,
    text: TEXT,
    warmUpS,
    seconds,
  } as const;
}

function fanOutJob({ users, plan: { warmUpS, seconds } }: Bench) {
  const { senders, outstanding } = FAN_OUT;
  const members = users(FIRST_MEMBER, FAN_OUT.members);
  return { kind: 'fan-out', users: members, senders, outstanding, text: TEXT, warmUpS, seconds } as const;
}

async function pairs(bench: Bench): Promise<Row[]> {
  const { plan, insertsUrl, databasePid } = bench;
  const insertsJob = (connections: number, seconds: number): Job => ({
    kind: 'inserts',
    url: insertsUrl,
    connections,
    rowsPerStatement: ROWS_PER_STATEMENT,
    rooms: PAIRS.pairs,
    text: TEXT,
    warmUpS: seconds / 4,
    seconds,
  });
  let [connections, best] = [1, 0];
  for (const tried of CONNECTIONS_TRIED) {
    const rate = perSecond(await runJob('inserts', insertsJob(tried, plan.tryS)));
    if (rate > best) [connections, best] = [tried, rate];
  }
  const ours: Measured[] = [];
  const raw: Measured[] = [];
  const server = await startServer(bench.server);
  for (let round = 1; round <= plan.rounds; round++) {
    const job: Job = { ...pairsJob(bench), server: server.address };
    ours.push(await measure('generator', job, [server.pid, databasePid]));
    raw.push(await measure('inserts', insertsJob(connections, plan.seconds), [databasePid]));
    sayRound('Pairs', round, ours, raw);
  }
  await server.stop();
  const [rate, rawRate] = [medianRate(ours), medianRate(raw)];
  return [
    [
      `durable messages/s\n${PAIRS.pairs} pairs, one direction,\n${PAIRS.outstanding} outstanding each`,
      `${count(rate)}\nCPU per message:\n${cpuEach(ours, 0)} server\n${cpuEach(ours, 1)} database`,
      `${count(rawRate)}\nmulti-row inserts,\n${ROWS_PER_STATEMENT} rows, ${connections} connection(s)\n${cpuEach(raw, 0)} database`,
      ratio(rate, rawRate),
      '≥ 0.25',
    ],
  ];
}

async function fanOut(bench: Bench): Promise<Row[]> {
  const ours: Measured[] = [];
  const copied: Measured[] = [];
  const server = await startServer(bench.server);
  const relay = await startPeer('relay');
  for (let round = 1; round <= bench.plan.rounds; round++) {
    const job = fanOutJob(bench);
    const toServer: Job = { ...job, peer: 'server', server: server.address };
    const toRelay: Job = { ...job, peer: 'relay', server: relay.address };
    ours.push(await measure('generator', toServer, [server.pid, bench.databasePid]));
    copied.push(await measure('generator', toRelay, [relay.pid]));
    sayRound('Fan-out', round, ours, copied);
  }
  await server.stop();
  await relay.stop();
  const [rate, relayRate] = [medianRate(ours), medianRate(copied)];
  return [
    [
      `deliveries/s\nroom of ${FAN_OUT.members}, ${FAN_OUT.senders} senders,\n${FAN_OUT.outstanding} outstanding each`,
      `${count(rate)}\nCPU per delivery:\n${cpuEach(ours, 0)} server\n${cpuEach(ours, 1)} database`,
      `${count(relayRate)}\nbare relay\n${cpuEach(copied, 0)}`,
      ratio(rate, relayRate),
      '≥ 0.4',
    ],
  ];
}

interface Measured {
  readonly perSecond: number;
  /** CPU time per thing that was counted, µs, of each process asked for. */
  readonly cpuEach: readonly number[];
}

/** Runs a job that counts, and looks at the CPU time of these processes meanwhile. */
async function measure(
  script: 'generator' | 'inserts',
  job: Job,
  pids: readonly number[],
): Promise<Measured> {
  let before: Promise<{ at: number; cpu: number[] }> | undefined;
  const look = async () => ({ at: performance.now(), cpu: await Promise.all(pids.map(cpuSeconds)) });
  const rate = perSecond(
    await runJob(script, job, () => {
      before = look();
    }),
  );
  const [from, to] = [await before, await look()];
  if (from === undefined) throw new Error('nothing was measured');
  const things = (rate * (to.at - from.at)) / 1000;
  return { perSecond: rate, cpuEach: to.cpu.map((cpu, i) => ((cpu - (from.cpu[i] ?? 0)) * 1e6) / things) };
}

function sayRound(name: string, round: number, ours: readonly Measured[], theirs: readonly Measured[]): void {
  const rates = [ours, theirs].map((all) => count(all.at(-1)?.perSecond ?? 0));
  say(`${name}, round ${round}: ${rates.join(' against ')} per second`);
}

function medianRate(all: readonly Measured[]): number {
  return median(all.map((one) => one.perSecond));
}

function cpuEach(all: readonly Measured[], index: number): string {
  return `${median(all.map((one) => one.cpuEach[index] ?? 0)).toFixed(2)} µs`;
}

async function latency(bench: Bench): Promise<Row[]> {
  const { plan, users, insertsUrl } = bench;
  const ours: Latency[] = [];
  const commits: Latency[] = [];
  const server = await startServer(bench.server);
  for (let round = 1; round <= plan.rounds; round++) {
    const { rate } = LATENCY;
    const members = users(FIRST_TALKER, LATENCY.users);
    const { warmUpS, latencySeconds: seconds } = plan;
    const job: Job = {
      kind: 'latency',
      server: server.address,
      users: members,
      rate,
      text: TEXT,
      warmUpS,
      seconds,
    };
    ours.push(lags(await runJob('generator', job)));
    // What one row and its commit take, at about the same pace.
    const pauseMs = 1000 / (LATENCY.users * rate);
    commits.push(
      lags(
        await runJob('inserts', { kind: 'commits', url: insertsUrl, count: COMMITS, pauseMs, text: TEXT }),
      ),
    );
    const said = [ours, commits].map(
      (all) => `${lagOf(all.slice(-1), 'p50')}, ${lagOf(all.slice(-1), 'p99')}`,
    );
    say(`Latency, round ${round}: ${said.join(' against ')}`);
  }
  await server.stop();
  const samples = ours.reduce((total, run) => total + run.samples, 0);
  const both = [ours, commits].map(
    (all) => `${lagOf(all, 'p50')}\n${lagOf(all, 'p99')}\n${lagOf(all, 'max')}`,
  );
  return [
    [
      `send → last receiver\n${LATENCY.users} users, ${LATENCY.rate}/s each,\n${samples} messages`,
      both[0] ?? '',
      `${both[1]}\none row and its commit`,
      '',
      'p99 < 6 ms',
    ],
  ];
}

type Latency = Extract<Answer, { type: 'latency' }>;

function lags(found: Answer): Latency {
  if (found.type !== 'latency') throw new Error(`no latency: ${found.type}`);
  return found;
}

function lagOf(all: readonly Latency[], what: 'p50' | 'p99' | 'max'): string {
  return `${what} ${median(all.map((one) => one[what])).toFixed(2)} ms`;
}

async function memory(bench: Bench): Promise<Row[]> {
  const connections = await affordable(IDLE_CONNECTIONS);
  const all = bench.users(0, WARM_UP_CONNECTIONS + connections);
  const warmUp = all.slice(0, WARM_UP_CONNECTIONS);
  const users = all.slice(WARM_UP_CONNECTIONS);
  const figures = { server: new Figures(), bare: new Figures() };
  for (let round = 1; round <= bench.plan.rounds; round++) {
    for (const peer of ['server', 'bare'] as const) {
      // A new process each time: memory that was in use once is not always given back.
      const measured = peer === 'server' ? await startServer(bench.server) : await startPeer('bare');
      const job = { kind: 'idle', peer, server: measured.address } as const;
      const release = await holdConnections({ ...job, users: warmUp });
      await release();
      const before = await memoryWithoutGarbage(measured.pid);
      const releaseAll = await holdConnections({ ...job, users });
      figures[peer].asIs.push((await settledMemory(measured.pid)) - before);
      figures[peer].withoutGarbage.push((await memoryWithoutGarbage(measured.pid)) - before);
      await releaseAll();
      await measured.stop();
    }
    const [ours, theirs] = [last(figures.server.asIs), last(figures.bare.asIs)].map(
      (bytes) => bytes / connections,
    );
    say(`Memory, round ${round}: ${count(ours ?? 0)} against ${count(theirs ?? 0)} bytes`);
  }
  const { server, bare } = figures;
  const kilobytes = (bytes: number) => (bytes / connections / 1024).toFixed(1);
  const row = (what: string, ours: number, theirs: number, target: string): Row => [
    what,
    `${kilobytes(ours)} KB`,
    `${kilobytes(theirs)} KB\nbare Node TCP server`,
    ratio(ours, theirs),
    target,
  ];
  return [
    row(
      `memory per idle connection\n${count(connections)} connections`,
      median(server.asIs),
      median(bare.asIs),
      '≤ 14 KB',
    ),
    row(
      'the same after a collection\nof the main thread',
      median(server.withoutGarbage),
      median(bare.withoutGarbage),
      '',
    ),
  ];
}

class Figures {
  readonly asIs: number[] = [];
  readonly withoutGarbage: number[] = [];
}

async function profile(name: 'pairs' | 'fan-out', bench: Bench): Promise<void> {
  say(`Profiling ${name} …`);
  const profiles = join(bench.server.directory, `profile-${name}`);
  await mkdir(profiles);
  const server = await startServer({ ...bench.server, profiles });
  const job: Job =
    name === 'pairs'
      ? { ...pairsJob(bench), server: server.address }
      : { ...fanOutJob(bench), peer: 'server', server: server.address };
  const rate = perSecond(await runJob('generator', job, () => startProfile(server.pid)));
  await stopProfile(server.pid, profiles);
  await server.stop();
  say(`\n${name}, with the profiler on: ${count(rate)}/s\n${await profileSummary(profiles)}`);
}

/** As many connections as the limit of open files allows, with a word if those are fewer. */
async function affordable(wanted: number): Promise<number> {
  // Node has raised its soft limit to the hard one.
  const { report } = process;
  const limits: unknown = report?.getReport();
  const hard = openFilesLimit(limits);
  const possible = Math.min(wanted, hard - 200);
  if (possible < wanted)
    say(`Only ${hard} open files are allowed here: ${possible} connections instead of ${wanted}.`);
  return possible;
}

function openFilesLimit(report: unknown): number {
  const path = ['userLimits', 'open_files', 'hard'];
  let value = report;
  for (const step of path) {
    value =
      typeof value === 'object' && value !== null
        ? Object.entries(value).find(([key]) => key === step)?.[1]
        : undefined;
  }
  return typeof value === 'number' ? value : Number.POSITIVE_INFINITY;
}

async function machine(url: string): Promise<string> {
  const connection = await createConnection(connectionOptions(url));
  const [rows] = await connection.query<RowDataPacket[]>('SELECT VERSION() AS version LIMIT 1');
  connection.destroy();
  const model = cpus()[0]?.model.trim() ?? 'unknown';
  return [
    `${availableParallelism()} cores (${model}), ${Math.round(totalmem() / 2 ** 30)} GB`,
    `Node ${process.versions.node}`,
    `database ${rows[0]?.version}`,
    `${process.platform} ${process.arch}`,
  ].join(', ');
}

function perSecond(found: Answer): number {
  if (found.type !== 'rate') throw new Error(`no rate: ${found.type}`);
  return found.perSecond;
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const [high = Number.NaN, low = high] = [sorted[middle], sorted[middle - 1]];
  return sorted.length % 2 === 1 ? high : (low + high) / 2;
}

function last(values: readonly number[]): number {
  return values.at(-1) ?? Number.NaN;
}

function count(n: number): string {
  return Math.round(n).toLocaleString('en-US');
}

function ratio(a: number, b: number): string {
  return (a / b).toFixed(2);
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  // The processes end with the signal or their channel; the database with its pipe.
  process.once(signal, () => {
    endAll();
    process.exit(1);
  });
}
await main();
