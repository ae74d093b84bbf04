import { randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { hostname } from 'node:os';
import { parseArgs } from 'node:util';
import { type Connection, createConnection } from 'mysql2/promise';
import { address, greeted } from '../main/hello.js';
import { type Config, unknownSettings } from '../shared/config.js';
import { firstEnabledAccount } from '../workers/store/accounts.js';
import { connectionOptions } from '../workers/store/connection-options.js';
import { pendingMigrations } from '../workers/store/migrate.js';
import { serverFacts } from '../workers/store/server-facts.js';
import { liveProcesses } from '../workers/store/who.js';
import { ChatClient } from './client.js';
import { databaseUrl, explain } from './database.js';
import { Problem } from './problem.js';
import { signToken } from './token.js';
import { enabledAccount } from './user.js';

/** Oldest versions that the server is made for. */
const OLDEST = { MariaDB: [10, 6], MySQL: [8, 0] } as const;

interface Patient {
  readonly config: Config;
  readonly user: string | undefined;
  connection?: Connection;
  /** Where clients connect to. */
  port: number;
}

/** What a check found; thrown with what to do when it is not well. */
type Check = (patient: Patient) => Promise<string>;

/** In this order, as the later ones need what the earlier ones found. */
const CHECKS: readonly (readonly [string, Check])[] = [
  ['configuration', configuration],
  ['database', database],
  ['packet size', packetSize],
  ['migrations', migrations],
  ['process', lease],
  ['port', port],
  ['message', message],
];

/** `sarangbang doctor [--user NAME]`: a line per check; exit code 1 if one failed. */
export async function doctor(args: string[], config: Config): Promise<number> {
  const { values } = parseArgs({ args, options: { user: { type: 'string' } } });
  const patient: Patient = { config, user: values.user, port: config.CHAT_TCP_PORT };
  let failed = 0;
  for (const [name, check] of CHECKS) {
    try {
      process.stdout.write(`✓ ${name.padEnd(14)} ${await check(patient)}\n`);
    } catch (error) {
      failed += 1;
      process.stdout.write(
        `✗ ${name.padEnd(14)} ${error instanceof Error ? error.message : String(error)}\n`,
      );
    }
  }
  patient.connection?.destroy();
  process.stdout.write(failed === 0 ? 'All is well.\n' : `${failed} of ${CHECKS.length} checks failed.\n`);
  return failed === 0 ? 0 : 1;
}

async function configuration({ config }: Patient): Promise<string> {
  const unknown = unknownSettings(process.env);
  if (unknown.length > 0) {
    throw new Problem(`no such setting: ${unknown.join(', ')}. Correct the name, or remove it.`);
  }
  for (const file of config.tls === null ? [] : [config.tls.cert, config.tls.key]) {
    if (!existsSync(file)) throw new Problem(`there is no file ${file} (CHAT_TLS_CERT, CHAT_TLS_KEY)`);
  }
  return `auth ${config.CHAT_AUTH}, ${config.tls === null ? 'plain TCP' : 'TLS'}`;
}

async function database(patient: Patient): Promise<string> {
  const connection = await createConnection(connectionOptions(databaseUrl(patient.config))).catch((error) => {
    throw new Problem(explain(error, patient.config) ?? error.message);
  });
  patient.connection = connection;
  const { kind, version } = await serverFacts(connection);
  const [major = 0, minor = 0] = version.split('.').map(Number);
  const [needMajor, needMinor] = OLDEST[kind];
  if (major < needMajor || (major === needMajor && minor < needMinor)) {
    throw new Problem(`${kind} ${version} is too old: ${needMajor}.${needMinor} or later is needed`);
  }
  return `${kind} ${version}${patient.config.CHAT_MYSQL_URL === undefined ? ', embedded' : ''}`;
}

async function packetSize({ config, connection }: Patient): Promise<string> {
  const { maxAllowedPacket } = await serverFacts(connected(connection));
  // A batch is one statement, and escaping may double the bytes of a text.
  const needed = 2 * config.CHAT_MAX_FRAME_BYTES + 1_048_576;
  if (maxAllowedPacket < needed) {
    throw new Problem(
      `max_allowed_packet is ${maxAllowedPacket} bytes, too small for frames of ${config.CHAT_MAX_FRAME_BYTES}: ` +
        `set it to ${needed} or more, or CHAT_MAX_FRAME_BYTES lower`,
    );
  }
  return `max_allowed_packet ${maxAllowedPacket} bytes, enough for frames of ${config.CHAT_MAX_FRAME_BYTES}`;
}

async function migrations({ config, connection }: Patient): Promise<string> {
  connected(connection);
  const pending = await pendingMigrations(databaseUrl(config));
  if (pending.length > 0) {
    throw new Problem(`not applied: ${pending.join(', ')}. Start the server, it applies them.`);
  }
  return 'all applied';
}

async function lease(patient: Patient): Promise<string> {
  const processes = await liveProcesses(connected(patient.connection));
  const [first] = processes;
  if (first === undefined) {
    throw new Problem('no chat process is alive. Start one with `npm start`, or look at its log.');
  }
  const here = processes.findLast((process) => process.host === hostname()) ?? first;
  if (patient.port === 0) patient.port = Number(here.tcpAddress.slice(here.tcpAddress.lastIndexOf(':') + 1));
  return processes
    .map(({ id, pid, tcpAddress, leaseMs }) => `${id} (pid ${pid}) at ${tcpAddress}, lease ${leaseMs} ms`)
    .join('; ');
}

async function port({ config, port }: Patient): Promise<string> {
  await greeted(config.CHAT_TCP_HOST, port, config.tls !== null).catch((error) => {
    throw new Problem(
      `no hello at ${address(config.CHAT_TCP_HOST, port)} (${error.message}): does the server run with these settings?`,
    );
  });
  return `${address(config.CHAT_TCP_HOST, port)} says hello`;
}

/** Sends a message through the running server, in a room that is deleted again. */
async function message(patient: Patient): Promise<string> {
  const { config } = patient;
  const connection = connected(patient.connection);
  const account =
    patient.user === undefined
      ? await firstEnabledAccount(connection)
      : await enabledAccount(connection, patient.user);
  if (account === null)
    throw new Problem('there is no enabled user to send as: `npx sarangbang user add NAME`');
  const host = /^(0\.0\.0\.0|::)$/.test(config.CHAT_TCP_HOST) ? 'localhost' : config.CHAT_TCP_HOST;
  const client = await ChatClient.connect({
    host,
    port: patient.port,
    // The certificate is made out to the name that clients use.
    tls: config.tls === null ? false : { rejectUnauthorized: false },
    timeoutMs: 5_000,
  });
  try {
    const who =
      config.CHAT_AUTH === 'open'
        ? { userId: account.id }
        : { token: (await signToken(config, account.id, 60)).token };
    await client.login(who, { id: `doctor-${randomUUID()}`, name: 'sarangbang doctor' });
    const { room } = await client.request('room.create', {
      name: 'sarangbang doctor',
      visibility: 'private',
    });
    try {
      const started = performance.now();
      await client.request('message.send', {
        roomId: room.id,
        clientMessageId: randomUUID(),
        kind: 'text',
        text: 'Can you hear me?',
      });
      const ms = performance.now() - started;
      return `stored and acknowledged in ${ms.toFixed(1)} ms, as ${account.username}`;
    } finally {
      await client.request('room.delete', { roomId: room.id });
      // Or the user would be seen online for the time that a lost connection is given.
      await client.request('auth.logout');
    }
  } finally {
    await client.close();
  }
}

function connected(connection: Connection | undefined): Connection {
  if (connection === undefined) throw new Problem('needs the database');
  return connection;
}
