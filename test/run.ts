import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { startEmbeddedDatabase } from '../src/main/embedded-database.js';

/**
 * `npm test`: the style check, then all tests on one real database server, then one line with the result.
 * `npm test -- test/start.test.ts` runs the named files only.
 */

const root = join(import.meta.dirname, '../..');
const directory = mkdtempSync(join(tmpdir(), 'sarangbang-test-'));
const say = (line: string): void => void process.stdout.write(`${line}\n`);

/** ms that the tests get to clean up after a signal before they are killed. */
const GRACE = 3_000;

let interrupted = false;
let current: ChildProcess | undefined;
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => {
    interrupted = true;
    end('SIGTERM');
    setTimeout(end, GRACE, 'SIGKILL').unref();
  });
}

/** Signals the whole group: tap, the test files and what they have started. */
function end(signal: NodeJS.Signals): void {
  if (current?.pid === undefined) return;
  try {
    process.kill(-current.pid, signal);
  } catch {
    // It has ended by itself.
  }
}

/** Runs a program to its end, in a process group of its own. Returns the exit code, null when it was killed. */
async function run(args: readonly string[], env: NodeJS.ProcessEnv = process.env): Promise<number | null> {
  const child = spawn(process.execPath, args, {
    cwd: root,
    env,
    stdio: ['ignore', 'inherit', 'inherit'],
    detached: true,
  });
  current = child;
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
  // What a test left behind, if anything.
  end('SIGKILL');
  current = undefined;
  return code;
}

/** The compiled test files: those named on the command line, or all. */
function testFiles(): string[] {
  const named = process.argv.slice(2).filter((argument) => !argument.startsWith('-'));
  if (named.length > 0) {
    return named.map((file) =>
      join('dist', relative(root, join(process.cwd(), file)).replace(/\.ts$/, '.js')),
    );
  }
  return readdirSync(join(root, 'dist/test'), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.test.js'))
    .map((file) => join('dist/test', file))
    .sort();
}

/** tap's own count of assertions, from the last lines of its output. */
function counts(output: string): { passed: number; failed: number } {
  const summary = /^# \{ (total: .*) \}$/m.exec(output)?.[1] ?? '';
  const count = (name: string) => Number(new RegExp(`\\b${name}: (\\d+)`).exec(summary)?.[1] ?? 0);
  return { passed: count('pass'), failed: count('fail') };
}

async function check(): Promise<{ passed: number; failed: number }> {
  say('Format and lint (biome) …');
  const style = await run([
    join(root, 'node_modules/@biomejs/biome/bin/biome'),
    'check',
    '--error-on-warnings',
  ]);
  const result = { passed: style === 0 ? 1 : 0, failed: style === 0 ? 0 : 1 };
  if (interrupted) return result;

  const server = await startEmbeddedDatabase(directory, say);
  try {
    if (interrupted) return result;
    say(`Tests (tap) on ${relative(tmpdir(), directory)} …`);
    // Settings of the developer's shell are not the tests'.
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('CHAT_')));
    const output = join(directory, 'result.tap');
    const tap = join(root, 'node_modules/tap/dist/esm/run.mjs');
    const reporter = process.stdout.isTTY ? 'base' : 'terse';
    const code = await run(
      [tap, 'run', `--reporter=${reporter}`, `--output-file=${output}`, ...testFiles()],
      // What a killed test leaves in the temporary directory goes with it.
      { ...env, TEST_MYSQL_URL: server.url, TMPDIR: directory },
    );
    const { passed, failed } = counts(readFileSync(output, 'utf8'));
    result.passed += passed;
    result.failed += code === 0 ? failed : Math.max(1, failed);
  } finally {
    await server.stop();
  }
  return result;
}

const { passed, failed } = await check()
  .catch((error: Error) => {
    process.stderr.write(`${error.stack}\n`);
    return { passed: 0, failed: 1 };
  })
  .finally(() => rmSync(directory, { recursive: true, force: true, maxRetries: 10 }));
if (!interrupted) say(`${passed} passed, ${failed} failed`);
process.exit(interrupted ? 130 : failed > 0 ? 1 : 0);
