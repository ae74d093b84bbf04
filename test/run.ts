import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative, resolve } from 'node:path';
import { startEmbeddedDatabase } from '../src/main/embedded-database.js';
import { Report } from './report.js';

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
async function run(
  args: readonly string[],
  env: NodeJS.ProcessEnv,
  read: (output: string) => void,
): Promise<number | null> {
  const child = spawn(process.execPath, args, {
    cwd: root,
    env,
    stdio: ['ignore', 'pipe', 'inherit'],
    detached: true,
  });
  child.stdout.setEncoding('utf8').on('data', read);
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
    return named.map((file) => join('dist', relative(root, resolve(file)).replace(/\.ts$/, '.js')));
  }
  return readdirSync(join(root, 'dist/test'), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.test.js'))
    .map((file) => join('dist/test', file))
    .sort();
}

async function check(): Promise<{ passed: number; failed: number }> {
  say('Format and lint (biome) …');
  const biome = [join(root, 'node_modules/@biomejs/biome/bin/biome'), 'check', '--error-on-warnings'];
  const style = await run(biome, process.env, (output) => process.stdout.write(output));
  const report = new Report(say);
  if (style === 0) report.passed += 1;
  else report.failed += 1;
  if (interrupted) return report;

  const server = await startEmbeddedDatabase(directory, say);
  try {
    if (interrupted) return report;
    say('Tests (tap) …');
    // Settings of the developer's shell are not the tests'.
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('CHAT_')));
    const tap = [join(root, 'node_modules/tap/dist/esm/run.mjs'), 'run', '--reporter=tap', ...testFiles()];
    // What a killed test leaves in the temporary directory goes with it.
    const code = await run(tap, { ...env, TEST_MYSQL_URL: server.url, TMPDIR: directory }, (output) =>
      report.read(output),
    );
    if (code !== 0 && report.failed === 0) report.failed += 1;
  } finally {
    await server.stop();
  }
  return report;
}

const { passed, failed } = await check()
  .catch((error: Error) => {
    process.stderr.write(`${error.stack}\n`);
    return { passed: 0, failed: 1 };
  })
  .finally(() => rmSync(directory, { recursive: true, force: true, maxRetries: 10 }));
if (!interrupted) say(`${passed} passed, ${failed} failed`);
process.exit(interrupted ? 130 : failed > 0 ? 1 : 0);
