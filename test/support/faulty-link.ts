import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Test } from 'tap';
import { connectionOptions } from '../../src/workers/store/connection-options.js';
import { createTestDatabase } from './database.js';
import { insertUsers, startServerOn } from './server.js';

/** What happens to a transaction's COMMIT. */
export type CommitFault =
  /** The database commits, and the connection breaks before it can say so. */
  | 'answer lost'
  /** The connection breaks, and the database commits only after {@link FaultyLink.release}. */
  | 'late'
  /** The connection breaks before the database has heard of it: it rolls back. */
  | 'never arrives';

const COMMIT = 'COMMIT';

/** COMMIT goes alone or behind the last statements of its transaction. */
function endsWithCommit(chunk: Buffer): boolean {
  return chunk.toString('latin1', chunk.length - COMMIT.length) === COMMIT;
}

/** A wire between the chat and its database that breaks on purpose, at the worst moment. */
export class FaultyLink {
  /** The database, through the wire. */
  readonly url: string;
  /** How many commits were hit. */
  hits = 0;
  #fault: { readonly pattern: string; readonly kind: CommitFault } | undefined;
  readonly #held: (() => void)[] = [];
  readonly #target: string;

  private constructor(url: string, target: string) {
    this.url = url;
    this.#target = target;
  }

  static async to(t: Pick<Test, 'teardown'>, target: string): Promise<FaultyLink> {
    const directory = mkdtempSync(join(tmpdir(), 'sarangbang-link-'));
    const path = join(directory, 'link.sock');
    const url = new URL(target);
    url.hostname = 'localhost';
    url.search = '';
    url.searchParams.set('socketPath', path);
    const link = new FaultyLink(url.href, target);
    const sockets = new Set<Socket>();
    const server = createServer((client) => {
      for (const socket of [client, link.#carry(client)]) {
        sockets.add(socket);
        socket.on('close', () => sockets.delete(socket));
      }
    });
    await new Promise<void>((resolve) => server.listen(path, resolve));
    t.teardown(() => {
      server.close();
      for (const socket of sockets) socket.destroy();
      rmSync(directory, { recursive: true, force: true });
    });
    return link;
  }

  /** Hits the COMMIT of the next transaction that has a statement with this text in it, once. */
  hitCommitOf(pattern: string, kind: CommitFault): void {
    this.#fault = { pattern, kind };
  }

  /** Lets the late COMMITs go on to the database. */
  release(): void {
    for (const go of this.#held.splice(0)) go();
  }

  #carry(client: Socket): Socket {
    const { socketPath, host, port } = connectionOptions(this.#target);
    const database =
      socketPath === undefined ? connect(port ?? 3306, host ?? 'localhost') : connect(socketPath);
    let isMarked = false;
    let isCut = false;
    client.on('data', (chunk: Buffer) => {
      const fault = this.#fault;
      if (fault !== undefined && chunk.includes(fault.pattern)) isMarked = true;
      if (!isMarked || fault === undefined || !endsWithCommit(chunk)) {
        database.write(chunk);
        return;
      }
      this.#fault = undefined;
      this.hits++;
      isCut = true;
      if (fault.kind === 'answer lost') {
        // The answer is the proof that it is committed.
        database.once('data', () => client.destroy());
        database.write(chunk);
      } else if (fault.kind === 'late') {
        client.destroy();
        this.#held.push(() => database.end(chunk));
      } else {
        database.destroy();
        client.destroy();
      }
    });
    database.on('data', (chunk: Buffer) => {
      if (!isCut) client.write(chunk);
    });
    client.on('close', () => {
      if (!isCut) database.destroy();
    });
    database.on('close', () => client.destroy());
    for (const socket of [client, database]) socket.on('error', () => undefined);
    return database;
  }
}

/** A server whose wire to the database breaks on purpose. */
export async function startOnFaultyLink(t: Test, settings: Record<string, string> = {}) {
  const { url } = await createTestDatabase(t);
  await insertUsers(url);
  const link = await FaultyLink.to(t, url);
  const server = await startServerOn(t, link.url, settings);
  return { server, link };
}

/** Asks again, as the error said one should, until the answer is another one than `UNAVAILABLE`. */
export async function again<T>(request: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await request();
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'UNAVAILABLE')) throw error;
      await sleep(50);
    }
  }
}
