import { mkdirSync, rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { socketDirectory } from './embedded-database.js';
import { StartError } from './start-error.js';

/**
 * Makes sure that one `npm start` at a time works on a data directory. The lock is a listening Unix socket: unlike
 * a pid file it cannot be held by a process that is gone, or by another one that got its number.
 * @throws {StartError} naming the process that holds it
 */
export async function lockDataDirectory(dataDirectory: string): Promise<void> {
  mkdirSync(dataDirectory, { recursive: true, mode: 0o700 });
  const path = join(socketDirectory(dataDirectory, 'start.sock'), 'start.sock');
  if (await listen(path)) return;
  const holder = await ask(path);
  if (holder === null) {
    // Left behind by a process that was killed.
    rmSync(path, { force: true });
    if (await listen(path)) return;
  }
  throw new StartError(
    `\`npm start\` is running on ${dataDirectory} already (process ${holder ?? 'unknown'}).\n` +
      'Stop that one first, or give this one its own CHAT_DATA_DIR and CHAT_TCP_PORT.',
  );
}

async function listen(path: string): Promise<boolean> {
  const server = createServer((socket) => {
    socket.on('error', () => socket.destroy());
    socket.end(String(process.pid));
  });
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EADDRINUSE') resolve(false);
      else reject(error);
    });
    server.listen(path, () => {
      // The lock lasts as long as the process, and is no reason for it to last.
      server.unref();
      resolve(true);
    });
  });
}

/** The pid of the holder; null when nobody listens. */
async function ask(path: string): Promise<string | null> {
  return new Promise((resolve) => {
    let answer = '';
    const socket = connect(path);
    socket.setEncoding('utf8');
    socket.on('data', (text) => {
      answer += text;
    });
    socket.once('end', () => resolve(answer));
    socket.once('error', () => resolve(null));
  });
}
