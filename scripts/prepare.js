// Makes a clone ready to run: npm packages, build, and for tests tap's plugins. Does only what is missing; a second
// run takes a fraction of a second. Plain JavaScript without packages, as it runs before there are any.
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

const root = path.join(import.meta.dirname, '..');
const inRoot = (...names) => path.join(root, ...names);
const SOURCES = ['src', 'test', 'bench'];
const BUILD_STAMP = inRoot('dist', '.built.json');
const TAP_STAMP = inRoot('node_modules', '.sarangbang-tap');

/** What went wrong, in words for whoever ran npm; printed without a stack. */
export class PrepareError extends Error {}

/**
 * Installs and builds what is missing.
 * @param {{ tests?: boolean }} options tests: make tap ready as well
 */
export async function prepare({ tests = false } = {}) {
  checkNode();
  const missing = () => missingSteps(tests);
  if (missing().length === 0) return;
  const unlock = await lock();
  try {
    // Looked at again: another run may have done it while this one waited.
    for (const step of missing()) await step();
    for (const step of missing()) await step();
  } finally {
    unlock();
  }
}

/** The packages come first: what else is missing can only be seen when they are there. */
function missingSteps(tests) {
  if (!packagesMatchLock()) return [install];
  const steps = [];
  if (!isLinked()) steps.push(link);
  if (tests && !tapIsBuilt()) steps.push(buildTap);
  if (!isBuilt(readSources())) steps.push(build);
  return steps;
}

function checkNode() {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  if (major < 20 || (major === 20 && minor < 19)) {
    throw new PrepareError(
      `Sarangbang needs Node.js 20.19 or later; this is ${process.versions.node} (${process.execPath}).`,
    );
  }
}

// Packages

/** Compares what npm installed with what the lock file asks for, so that `npm install` by hand counts too. */
function packagesMatchLock() {
  const installed = readJson(inRoot('node_modules', '.package-lock.json'))?.packages;
  const wanted = readJson(inRoot('package-lock.json'))?.packages;
  if (installed === undefined || wanted === undefined) return false;
  return Object.entries(wanted).every(([where, entry]) => {
    if (where === '' || entry.optional || entry.devOptional) return true;
    return installed[where]?.version === entry.version;
  });
}

async function install() {
  say('Installing the npm packages (npm ci) …');
  // Development packages too: the compiler is one of them.
  await run(npm(), ['ci', '--include=dev', '--no-audit', '--no-fund', '--loglevel=error'], 'npm ci failed');
  if (!packagesMatchLock())
    throw new PrepareError('npm ci ran, but node_modules is not what package-lock.json says');
}

function npm() {
  return process.platform === 'win32' ? 'npm.cmd' : 'npm';
}

/** npm links the programs of dependencies, not the project's own: this makes `npx sarangbang` find it. */
const LINK = inRoot('node_modules', '.bin', 'sarangbang');

function isLinked() {
  return process.platform === 'win32' || fs.existsSync(LINK);
}

function link() {
  fs.mkdirSync(path.dirname(LINK), { recursive: true });
  fs.rmSync(LINK, { force: true });
  fs.symlinkSync(path.relative(path.dirname(LINK), inRoot('bin', 'sarangbang.js')), LINK);
}

// Build

/** Every source with its time and size: what the last build has seen, compared with what is there. */
function readSources() {
  const sources = {};
  for (const directory of SOURCES) {
    for (const file of listFiles(inRoot(directory))) {
      if (!file.endsWith('.ts')) continue;
      const { mtimeMs, size } = fs.statSync(file);
      sources[path.relative(root, file)] = `${mtimeMs} ${size}`;
    }
  }
  for (const file of ['tsconfig.json', 'package-lock.json']) {
    const { mtimeMs, size } = fs.statSync(inRoot(file));
    sources[file] = `${mtimeMs} ${size}`;
  }
  return sources;
}

function isBuilt(sources) {
  const built = readJson(BUILD_STAMP);
  return built !== undefined && JSON.stringify(built) === JSON.stringify(sources) && allOutputs(sources);
}

function allOutputs(sources) {
  return Object.keys(sources).every((file) => !file.endsWith('.ts') || fs.existsSync(outputOf(file)));
}

function outputOf(source) {
  return inRoot('dist', source.replace(/\.ts$/, '.js'));
}

async function build() {
  const sources = readSources();
  fs.rmSync(BUILD_STAMP, { force: true });
  // The compiler trusts its memory of the last build and would not make again what was deleted by hand.
  if (!allOutputs(sources)) fs.rmSync(inRoot('dist', '.tsbuildinfo'), { force: true });
  const wanted = new Set(Object.keys(sources).map(outputOf));
  for (const file of listFiles(inRoot('dist'))) {
    const script = file.replace(/\.map$/, '');
    if (script.endsWith('.js') && !wanted.has(script)) fs.rmSync(file);
  }
  const slow = setTimeout(say, 800, 'Building …');
  try {
    const tsc = inRoot('node_modules', 'typescript', 'bin', 'tsc');
    await run(process.execPath, [tsc, '-p', root], 'the build failed');
  } finally {
    clearTimeout(slow);
  }
  fs.writeFileSync(BUILD_STAMP, JSON.stringify(sources));
}

// tap

/** tap's test class is generated from the plugins in .taprc; it is made once per version of tap and .taprc. */
function tapSignature() {
  const { version } = readJson(inRoot('node_modules', 'tap', 'package.json')) ?? {};
  return `${version}\n${fs.readFileSync(inRoot('.taprc'), 'utf8')}`;
}

function tapIsBuilt() {
  // The generated class finds its plugins through .tap/plugins.
  if (!fs.existsSync(inRoot('.tap', 'plugins', 'node_modules'))) return false;
  return fs.existsSync(TAP_STAMP) && fs.readFileSync(TAP_STAMP, 'utf8') === tapSignature();
}

async function buildTap() {
  say('Preparing tap (once) …');
  await run(
    process.execPath,
    [inRoot('node_modules', 'tap', 'dist', 'esm', 'run.mjs'), 'build'],
    'tap build failed',
  );
  fs.writeFileSync(TAP_STAMP, tapSignature());
}

// Small things

/** Not to stdout: that belongs to the program, and may be JSON. */
function say(line) {
  process.stderr.write(`${line}\n`);
}

function readJson(file) {
  try {
    return JSON.parse(fs.readFileSync(file, 'utf8'));
  } catch (error) {
    if (error.code === 'ENOENT' || error instanceof SyntaxError) return undefined;
    throw error;
  }
}

function listFiles(directory) {
  if (!fs.existsSync(directory)) return [];
  return fs
    .readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.join(entry.parentPath ?? entry.path, entry.name))
    .sort();
}

/** Runs a program in the root; its output is shown only if it fails. */
async function run(program, args, failure) {
  const child = spawn(program, args, {
    cwd: root,
    stdio: ['ignore', 'pipe', 'pipe'],
    shell: process.platform === 'win32',
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text) => {
      output += text;
    });
  }
  const code = await new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  if (code !== 0) throw new PrepareError(`${output.trim()}\n\n${failure} (exit code ${code}).`);
}

/** One run at a time: two builds into one directory would spoil each other. */
async function lock() {
  const name = createHash('sha256').update(fs.realpathSync(root)).digest('hex').slice(0, 16);
  const file = path.join(os.tmpdir(), `sarangbang-prepare-${name}.lock`);
  let said = false;
  for (;;) {
    try {
      fs.writeFileSync(file, String(process.pid), { flag: 'wx' });
      return () => fs.rmSync(file, { force: true });
    } catch (error) {
      if (error.code !== 'EEXIST') throw error;
    }
    if (!isAlive(file)) {
      fs.rmSync(file, { force: true });
      continue;
    }
    if (!said) say('Waiting for another npm run of this project that is building …');
    said = true;
    await delay(100);
  }
}

function isAlive(file) {
  try {
    const pid = Number(fs.readFileSync(file, 'utf8'));
    // Empty: its owner is just writing it.
    if (pid === 0) return true;
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}

/** {@link prepare}; when that fails, says why and ends the process. */
export async function prepareOrExit(options) {
  try {
    await prepare(options);
  } catch (error) {
    process.stderr.write(`${error instanceof PrepareError ? error.message : error.stack}\n`);
    process.exit(1);
  }
}

if (
  process.argv[1] !== undefined &&
  fs.realpathSync(process.argv[1]) === fs.realpathSync(import.meta.filename)
) {
  await prepareOrExit({ tests: process.argv.includes('--tests') });
}
