import { join } from 'node:path';
import type { Test } from 'tap';
import { ChatClient } from '../../src/cli/client.js';
import {
  allGone,
  descendants,
  freePort,
  type Program,
  startProgram,
  temporaryDirectory,
} from './processes.js';

/** What `npm start` prints when everything runs. */
export const READY = 'sarangbang is ready';

/** Settings of a server of its own, as a newcomer has it: nothing but a place and a port. */
export async function newcomer(t: Test): Promise<Record<string, string>> {
  const directory = temporaryDirectory(t);
  return {
    CHAT_DATA_DIR: join(directory, 'data'),
    CHAT_LOG_DIR: join(directory, 'logs'),
    CHAT_TCP_PORT: String(await freePort()),
  };
}

/** `npm start` without the preparations. */
export function start(t: Test, values: Record<string, string>): Program {
  return startProgram(t, 'src/main/start.js', [], values);
}

/** A client of that server. */
export async function connect(t: Test, values: Record<string, string>): Promise<ChatClient> {
  const client = await ChatClient.connect({ host: '127.0.0.1', port: Number(values.CHAT_TCP_PORT) });
  t.teardown(() => client.destroy());
  return client;
}

/** A token for a demo user, from the command that the README shows. */
export async function tokenOf(t: Test, name: string, values: Record<string, string>): Promise<string> {
  const { code, stdout, stderr } = await startProgram(t, 'src/cli/main.js', ['token', name], values).ended;
  t.equal(code, 0, stderr);
  const { token } = JSON.parse(stdout);
  return token;
}

/** Sends the signal and checks the stop that DESIGN 6 promises. */
export async function stop(t: Test, { child, ended }: Program, signal: NodeJS.Signals): Promise<void> {
  const family = descendants(child.pid ?? 0);
  t.ok(family.length > 0);
  const from = Date.now();
  child.kill(signal);
  const { code, stderr } = await ended;
  t.equal(code, 0, 'exit code 0');
  t.equal(stderr, '');
  t.ok(Date.now() - from < 10_000, 'within 10 s');
  t.ok(await allGone(family, 2_000), 'no process is left');
}
