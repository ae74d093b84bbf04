import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { ChatClient } from '../src/cli/client.js';
import { createTestDatabase } from './support/database.js';
import { SECRET } from './support/server.js';

const CHAT = join(import.meta.dirname, '../src/main/chat.js');

/** The port that the process says it listens on. */
async function listening(child: ChildProcess): Promise<number> {
  let output = '';
  child.stdout?.setEncoding('utf8');
  for await (const text of child.stdout ?? []) {
    output += text;
    const port = / ready .*address=127\.0\.0\.1:(\d+)/.exec(output)?.[1];
    if (port !== undefined) return Number(port);
  }
  throw new Error(`the process ended: ${output}`);
}

t.test('a process whose output nobody reads any more serves on, and stops when it is told', async (t) => {
  const { url } = await createTestDatabase(t);
  const directory = await mkdtemp(join(tmpdir(), 'sarangbang-output-'));
  const child = spawn(process.execPath, [CHAT], {
    env: {
      PATH: process.env.PATH,
      CHAT_MYSQL_URL: url,
      CHAT_TCP_PORT: '0',
      CHAT_DATA_DIR: directory,
      CHAT_LOG_DIR: directory,
      CHAT_JWT_SECRET: SECRET,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const exited = once(child, 'exit');
  t.teardown(async () => {
    child.kill('SIGKILL');
    await exited;
    await rm(directory, { recursive: true, force: true });
  });
  // Leaving the loop over its output ends our side of the pipe.
  const port = await listening(child);
  child.stdout?.destroy();
  child.stderr?.destroy();

  for (let n = 0; n < 20; n++) {
    const client = await ChatClient.connect({ host: '127.0.0.1', port });
    await client.request('ping');
    await client.close();
  }
  child.kill('SIGTERM');
  t.strictSame(await exited, [0, null]);
  const log = await readFile(join(directory, 'chat-0.log'), 'utf8');
  t.equal(log.match(/ opened connection=/g)?.length, 20, 'the file has every line');
  t.match(log, / stopped exitCode=0/);
});
