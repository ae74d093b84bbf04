import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SignJWT } from 'jose';
import { createConnection } from 'mysql2/promise';
import type { Test } from 'tap';
import { ChatClient } from '../../src/cli/client.js';
import { ChatServer, protocolLimits } from '../../src/main/server.js';
import { type Config, loadConfig } from '../../src/shared/config.js';
import type { EventData, EventType } from '../../src/shared/protocol/events.js';
import type { Room } from '../../src/shared/protocol/objects.js';
import { type OkData, type RequestSchemas, requestSchemas } from '../../src/shared/protocol/requests.js';
import { connectionOptions } from '../../src/workers/store/connection-options.js';
import { watchConformance } from './conformance.js';
import { createTestDatabase } from './database.js';

export const SECRET = 'a secret of the tests, 32 characters at least';

/** Users that every test database has: their ids are 1 to 6, in this order. */
export const USERS = ['mina', 'jun', 'sora', 'hyun', 'bora', 'duri'] as const;
export type UserName = (typeof USERS)[number];

export function userIdOf(name: UserName): number {
  return USERS.indexOf(name) + 1;
}

/** A logged-in client and what its login answered. */
export interface Phone {
  readonly name: UserName;
  readonly userId: number;
  readonly client: ChatClient;
  readonly login: OkData<'auth.login'>;
}

const schemas = new WeakMap<Config, RequestSchemas>();

function schemasOf(config: Config): RequestSchemas {
  const known = schemas.get(config) ?? requestSchemas(protocolLimits(config));
  schemas.set(config, known);
  return known;
}

/** A real server of this process on a database of its own. Ends with the test. */
export class TestServer {
  readonly server: ChatServer;
  readonly config: Config;
  readonly databaseUrl: string;
  readonly #t: Test;

  constructor(t: Test, server: ChatServer, config: Config, databaseUrl: string) {
    this.#t = t;
    this.server = server;
    this.config = config;
    this.databaseUrl = databaseUrl;
  }

  get port(): number {
    return this.server.address.port;
  }

  /** The same server for a part of the test, whose connections end with that part. */
  within(t: Test): TestServer {
    return new TestServer(t, this.server, this.config, this.databaseUrl);
  }

  /** Connects without logging in. Everything that comes is checked against the protocol, see {@link watchConformance}. */
  async connect(name = 'client'): Promise<ChatClient> {
    const client = await ChatClient.connect({ host: '127.0.0.1', port: this.port });
    this.#t.teardown(() => client.destroy());
    watchConformance(this.#t, client, schemasOf(this.config), name);
    return client;
  }

  /** A phone that is logged in; the device is named after the user unless it is given. */
  async phone(name: UserName, device: string = `${name}'s phone`): Promise<Phone> {
    const client = await this.connect(device);
    const userId = userIdOf(name);
    const who = this.config.CHAT_AUTH === 'open' ? { userId } : { token: await tokenFor(userId) };
    const login = await client.login(who, { id: device });
    return { name, userId, client, login };
  }

  /** Several phones. */
  phones<Names extends readonly UserName[]>(
    ...names: Names
  ): Promise<{ -readonly [I in keyof Names]: Phone }> {
    // `map` of a tuple is an array for the compiler.
    return Promise.all(names.map((name) => this.phone(name))) as Promise<{
      -readonly [I in keyof Names]: Phone;
    }>;
  }

  /** A group room of these phones, owned by the first; waits until the others were told. */
  async room(
    owner: Phone,
    members: readonly Phone[] = [],
    more: { name?: string; visibility?: 'public' | 'private'; memberLimit?: number } = {},
  ): Promise<Room> {
    const { room } = await owner.client.request('room.create', {
      name: 'a room',
      memberIds: members.map((member) => member.userId),
      ...more,
    });
    const isIt = (data: EventData<'room.added'>) => data.room.id === room.id;
    await Promise.all(members.map((member) => member.client.waitFor('room.added', isIt)));
    return room;
  }

  /** Runs a statement on the test's database. */
  async sql(statement: string, values: (string | number | null)[] = []): Promise<Record<string, unknown>[]> {
    return query(this.databaseUrl, statement, values);
  }
}

/** Starts a server on port 0 with a fresh database, the {@link USERS}, and these settings over the defaults of the tests. */
export async function startServer(t: Test, settings: Record<string, string> = {}): Promise<TestServer> {
  const { url } = await createTestDatabase(t);
  await insertUsers(url);
  return startServerOn(t, url, settings);
}

/** The same on a database that is there already, and has its users. */
export async function startServerOn(
  t: Test,
  url: string,
  settings: Record<string, string> = {},
): Promise<TestServer> {
  const directory = await mkdtemp(join(tmpdir(), 'sarangbang-test-'));
  t.teardown(() => rm(directory, { recursive: true, force: true }));
  const config = loadConfig(
    {
      CHAT_TCP_PORT: '0',
      CHAT_JWT_SECRET: SECRET,
      CHAT_DATA_DIR: directory,
      CHAT_LOG_DIR: directory,
      CHAT_LOG_LEVEL: 'off',
      CHAT_PRESENCE_GRACE_MS: '300',
      ...settings,
    },
    directory,
  );
  const server = await ChatServer.start(config, url);
  t.teardown(() => server.stop());
  return new TestServer(t, server, config, url);
}

/** Puts the {@link USERS} into a database. */
export async function insertUsers(url: string): Promise<void> {
  for (const [i, name] of USERS.entries()) {
    await query(url, 'INSERT INTO chat_user (id, username, display_name) VALUES (?, ?, ?)', [
      i + 1,
      name,
      name.toUpperCase(),
    ]);
  }
}

/** A token that is good for an hour, unless `expiresInSeconds` says otherwise. */
export async function tokenFor(userId: number, expiresInSeconds = 3600): Promise<string> {
  return new SignJWT({})
    .setProtectedHeader({ alg: 'HS256' })
    .setSubject(String(userId))
    .setExpirationTime(Math.floor(Date.now() / 1000) + expiresInSeconds)
    .sign(new TextEncoder().encode(SECRET));
}

/** A text message of the phone; returns its `ok`. */
export async function say(
  phone: Phone,
  roomId: number,
  text: string,
  clientMessageId: string = crypto.randomUUID(),
): Promise<OkData<'message.send'>> {
  return phone.client.request('message.send', { roomId, clientMessageId, kind: 'text', text });
}

/** The code of the error that a request is answered with; fails the caller if it succeeds. */
export async function codeOf(request: Promise<unknown>): Promise<string> {
  try {
    await request;
  } catch (error) {
    if (error instanceof Error && 'code' in error && typeof error.code === 'string') return error.code;
    throw error;
  }
  return 'ok';
}

/** The events of one type that a phone has got so far. */
export function eventsOf<T extends EventType>(phone: Phone, type: T): EventData<T>[] {
  const found: EventData<T>[] = [];
  for (const event of phone.client.events) if (event.type === type) found.push(event.data as EventData<T>);
  return found;
}

/** The entries of a room that a phone was pushed so far, in the order they came. */
export function pushedTo(phone: Phone, roomId: number): EventData<'message'>[] {
  return eventsOf(phone, 'message').filter((message) => message.roomId === roomId);
}

/**
 * Resolves when everything that happened before this call has reached the phone: the reply to its `ping` comes on
 * the same connection, after it. What has not arrived by then does not arrive.
 */
export async function caughtUp(...phones: readonly Phone[]): Promise<void> {
  await Promise.all(phones.map((phone) => phone.client.request('ping')));
}

/** Runs a statement on a connection of its own. */
export async function query(url: string, statement: string, values: (string | number | null)[]) {
  const connection = await createConnection(connectionOptions(url));
  try {
    const [rows] = await connection.query(statement, values);
    return Array.isArray(rows) ? rows.map((row) => ({ ...row })) : [];
  } finally {
    await connection.end();
  }
}
