import { setTimeout as delay } from 'node:timers/promises';
import { type Test, test } from 'tap';
import { createTestDatabase } from './support/database.js';
import { freePort, type Program, startProgram } from './support/processes.js';
import { SECRET, startServer, startServerOn, type TestServer } from './support/server.js';

/** `npx sarangbang load …` against a server. */
function startLoad(t: Test, url: string, port: number, ...args: string[]): Program {
  return startProgram(t, 'src/cli/main.js', ['load', '--port', String(port), ...args], {
    CHAT_MYSQL_URL: url,
    CHAT_JWT_SECRET: SECRET,
  });
}

/** The table as numbers by name. */
function figures(stdout: string): Record<string, number> {
  const rows = stdout.matchAll(/│ ([a-z ]+?) +│ +([\d,]+) │/g);
  return Object.fromEntries([...rows].map(([, name = '', n = '']) => [name, Number(n.replaceAll(',', ''))]));
}

async function until(condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition())) await delay(10);
}

async function textEntries(server: TestServer): Promise<number> {
  const [row] = await server.sql(`SELECT COUNT(*) AS n FROM chat_entry WHERE kind = 'text'`);
  return Number(row?.n);
}

test('five users in a room: nothing lost, and the room is gone afterwards', async (t) => {
  const server = await startServer(t);
  const { code, stdout, stderr } = await startLoad(t, server.databaseUrl, server.port, '--seconds', '1')
    .ended;
  t.equal(code, 0, stdout + stderr);
  const { sent = 0, acknowledged, delivered, ...faults } = figures(stdout);
  t.ok(sent >= 5 && sent <= 10, `two messages per second and user: ${sent}`);
  t.equal(acknowledged, sent);
  t.equal(delivered, 4 * sent);
  t.match(faults, { lost: 0, duplicated: 0, 'out of order': 0 });
  t.match(stdout, /send → last receiver, p50 \/ p99 \/ max +│ [\d.]+ \/ [\d.]+ \/ [\d.]+ ms/);
  t.match(await server.sql('SELECT COUNT(*) AS n FROM chat_room WHERE deleted_at IS NULL'), [{ n: 0 }]);
});

test('several rooms, another rate and another size', async (t) => {
  const server = await startServer(t);
  const args = ['--users', '9', '--rooms', '3', '--rate', '10', '--seconds', '1', '--text-bytes', '3000'];
  const { code, stdout, stderr } = await startLoad(t, server.databaseUrl, server.port, ...args).ended;
  t.equal(code, 0, stdout + stderr);
  const { sent = 0, delivered } = figures(stdout);
  t.ok(sent >= 70 && sent <= 90);
  t.equal(delivered, 2 * sent, 'three users to a room');
  t.match(
    await server.sql(`SELECT DISTINCT OCTET_LENGTH(body) AS bytes FROM chat_entry WHERE kind = 'text'`),
    [{ bytes: 3000 }],
  );
});

test('in open mode', async (t) => {
  const server = await startServer(t, { CHAT_AUTH: 'open' });
  const run = startProgram(
    t,
    'src/cli/main.js',
    ['load', '--port', String(server.port), '--seconds', '0.5'],
    {
      CHAT_MYSQL_URL: server.databaseUrl,
      CHAT_AUTH: 'open',
    },
  );
  const { code, stdout, stderr } = await run.ended;
  t.equal(code, 0, stdout + stderr);
});

test('a server that is started again in the middle: the phones come back, and nothing is lost', async (t) => {
  const first = await startServer(t);
  const run = startLoad(t, first.databaseUrl, first.port, '--rate', '5', '--seconds', '2');
  await until(async () => (await textEntries(first)) > 5);
  await first.server.stop();
  await startServerOn(t, first.databaseUrl, { CHAT_TCP_PORT: String(first.port) });
  const { code, stdout, stderr } = await run.ended;
  t.equal(code, 0, stdout + stderr);
  const { sent, acknowledged, reconnects = 0 } = figures(stdout);
  t.equal(acknowledged, sent);
  t.ok(reconnects >= 5);
});

test('a message that vanishes from the database is found to be lost', async (t) => {
  const server = await startServer(t);
  const run = startLoad(t, server.databaseUrl, server.port, '--rate', '5', '--seconds', '1.5');
  await until(async () => (await textEntries(server)) > 5);
  await server.sql(`DELETE FROM chat_entry WHERE kind = 'text' ORDER BY seq LIMIT 1`);
  const { code, stdout } = await run.ended;
  t.equal(code, 1);
  t.equal(figures(stdout).lost, 1);
  t.match(stdout, /not in the history/);
});

test('Ctrl-C ends early with the table', async (t) => {
  const server = await startServer(t);
  const run = startLoad(t, server.databaseUrl, server.port, '--seconds', '600');
  await until(async () => (await textEntries(server)) > 5);
  run.child.kill('SIGINT');
  const { code, stdout, stderr } = await run.ended;
  t.equal(code, 0, stdout + stderr);
  t.ok((figures(stdout).acknowledged ?? 0) > 5);
});

test('what keeps load from beginning is said in a line, without a stack', async (t) => {
  const { url } = await createTestDatabase(t);
  const nobody = await startLoad(t, url, await freePort()).ended;
  t.match(nobody, { code: 1, stderr: /^Nobody listens there .*ECONNREFUSED.*\n$/ });

  const cases: [args: string[], message: RegExp][] = [
    [['--users', '2', '--rooms', '3'], /--rooms 3 needs at least as many --users, not 2/],
    [['--users', 'many'], /--users must be a whole number from 1 to/],
    [['--rate', '0'], /--rate must be a number from/],
    [['--speed', '1'], /--speed/],
  ];
  await Promise.all(
    cases.map(async ([args, message]) => {
      const { code, stderr } = await startLoad(t, url, 9, ...args).ended;
      t.match({ code, stderr }, { code: 2, stderr: message });
      t.notMatch(stderr, /^ +at /m);
    }),
  );
});
