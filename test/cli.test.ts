import { jwtVerify } from 'jose';
import { createConnection, type RowDataPacket } from 'mysql2/promise';
import t, { type Test } from 'tap';
import { connectionOptions } from '../src/workers/store/connection-options.js';
import { migrate } from '../src/workers/store/migrate.js';
import { createEmptyDatabase, createTestDatabase } from './support/database.js';
import { type Outcome, startProgram, temporaryDirectory } from './support/processes.js';

const SECRET = 'a secret of the tests, long enough for HS256';

async function query(url: string, statement: string, values: unknown[] = []): Promise<RowDataPacket[]> {
  const connection = await createConnection(connectionOptions(url));
  try {
    const [rows] = await connection.query<RowDataPacket[]>(statement, values);
    return rows;
  } finally {
    await connection.end();
  }
}

/** Runs `npx sarangbang …` on a database. */
function sarangbang(t: Test, url: string, ...args: string[]): Promise<Outcome> {
  return startProgram(t, 'src/cli/main.js', args, { CHAT_MYSQL_URL: url, CHAT_JWT_SECRET: SECRET }).ended;
}

t.test('user add, list and disable', async (t) => {
  const { url } = await createTestDatabase(t);
  const added = await sarangbang(
    t,
    url,
    'user',
    'add',
    'mina',
    '--display-name',
    '미나',
    '--password',
    '비밀',
  );
  t.equal(added.code, 0, added.stderr);
  const mina = JSON.parse(added.stdout);
  t.match(mina, { id: Number, username: 'mina', displayName: '미나', avatarPath: null, disabledAt: null });
  t.match(await query(url, 'SELECT password_hash FROM chat_credential WHERE user_id = ?', [mina.id]), [
    { password_hash: /^\$scrypt\$ln=15,r=8,p=1\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}$/ },
  ]);

  const again = await sarangbang(t, url, 'user', 'add', 'mina');
  t.match(again, { code: 1, stdout: '', stderr: 'The name mina is taken.\n' });
  const jun = await sarangbang(t, url, 'user', 'add', 'jun');
  t.match(JSON.parse(jun.stdout), { username: 'jun', displayName: 'jun' }, 'the name is the display name');

  const disabled = await sarangbang(t, url, 'user', 'disable', 'jun');
  t.match(JSON.parse(disabled.stdout), { username: 'jun', disabledAt: Number });
  t.match(await sarangbang(t, url, 'user', 'disable', 'nobody'), { code: 1, stderr: /no user nobody/ });

  const list = await sarangbang(t, url, 'user', 'list', '--json');
  t.match(JSON.parse(list.stdout), [{ username: 'mina' }, { username: 'jun' }]);
  const table = await sarangbang(t, url, 'user', 'list');
  t.match(table.stdout, /mina.*미나/);
});

t.test('a token is for the user, for as long as asked', async (t) => {
  const { url } = await createTestDatabase(t);
  await query(url, "INSERT INTO chat_user (id, username, display_name) VALUES (41, 'mina', '미나')");
  const { code, stdout } = await sarangbang(t, url, 'token', 'mina', '--ttl', '30m');
  t.equal(code, 0);
  const { token, userId, expiresAt } = JSON.parse(stdout);
  t.equal(userId, 41);
  t.ok(Math.abs(expiresAt - Date.now() - 1_800_000) < 20_000);
  const { payload } = await jwtVerify(token, new TextEncoder().encode(SECRET));
  t.match(payload, { sub: '41', exp: expiresAt / 1000 });

  t.match(await sarangbang(t, url, 'token', 'nobody'), { code: 1, stdout: '', stderr: /no user nobody/ });
  t.match(await sarangbang(t, url, 'token', 'mina', '--ttl', 'soon'), {
    code: 2,
    stdout: '',
    stderr: /--ttl/,
  });
  await query(url, 'UPDATE chat_user SET disabled_at = UTC_TIMESTAMP()');
  t.match(await sarangbang(t, url, 'token', 'mina'), { code: 1, stdout: '', stderr: /disabled/ });
});

t.test('users of a site that has its own directory are not touched', async (t) => {
  const { url } = await createEmptyDatabase(t);
  await query(
    url,
    "CREATE VIEW chat_user AS SELECT 7 AS id, 'gildong' AS username, '홍길동' AS display_name, NULL AS avatar_path, NULL AS disabled_at",
  );
  await migrate(url);
  t.match(await sarangbang(t, url, 'user', 'add', 'mina'), {
    code: 1,
    stdout: '',
    stderr: /chat_user is a view/,
  });
  t.match(await sarangbang(t, url, 'user', 'disable', 'gildong'), { code: 1, stderr: /chat_user is a view/ });
  t.match(JSON.parse((await sarangbang(t, url, 'token', 'gildong')).stdout), { userId: 7 });
});

t.test('who: connections of processes that are alive, with their rooms', async (t) => {
  const { url } = await createTestDatabase(t);
  t.match(await sarangbang(t, url, 'who'), { code: 0, stdout: '0 connections of 0 users, 0 processes\n' });
  await query(url, "INSERT INTO chat_user (id, username, display_name) VALUES (1, 'mina', '미나')");
  await query(
    url,
    `INSERT INTO chat_process (id, host, pid, tcp_address, started_at, lease_until) VALUES
       ('live', 'here', 1, '127.0.0.1:9000', UTC_TIMESTAMP(3), UTC_TIMESTAMP(3) + INTERVAL 1 MINUTE),
       ('dead', 'here', 2, '127.0.0.1:9002', UTC_TIMESTAMP(3), UTC_TIMESTAMP(3) - INTERVAL 1 MINUTE)`,
  );
  await query(
    url,
    `INSERT INTO chat_session (user_id, device_id, device_name, platform, process_id, address, connected_at) VALUES
       (1, 'phone-1', 'Pixel\u001b[31m', 'android', 'live', '10.0.0.7:51000', UTC_TIMESTAMP(3)),
       (1, 'phone-2', NULL, NULL, 'dead', '10.0.0.8:51000', UTC_TIMESTAMP(3))`,
  );
  await query(
    url,
    `INSERT INTO chat_room (id, kind, name, visibility, member_count, member_limit, created_by, created_at) VALUES
       (5, 'group', '사랑방', 'public', 1, 100, 1, UTC_TIMESTAMP(3)), (6, 'direct', NULL, 'private', 2, 2, 1, UTC_TIMESTAMP(3))`,
  );
  await query(url, 'INSERT INTO chat_member (room_id, user_id) VALUES (5, 1), (6, 1)');
  const { stdout } = await sarangbang(t, url, 'who', '--json');
  t.match(JSON.parse(stdout), {
    connections: [
      {
        userId: 1,
        username: 'mina',
        deviceId: 'phone-1',
        platform: 'android',
        address: '10.0.0.7:51000',
        processId: 'live',
        rooms: ['사랑방', '#6'],
      },
    ],
    processes: [{ id: 'live' }],
  });
  t.equal(JSON.parse(stdout).connections.length, 1);
  const table = (await sarangbang(t, url, 'who')).stdout;
  t.match(table, '1 connection of 1 user, 1 process');
  t.match(table, '사랑방');
  t.notMatch(table, '\u001b[31m', 'a device name steers no terminal');
});

t.test('doctor says what is wrong and what to do', async (t) => {
  const { url } = await createEmptyDatabase(t);
  const { code, stdout } = await sarangbang(t, url, 'doctor');
  t.equal(code, 1);
  t.match(stdout, /^✓ configuration/m);
  t.match(stdout, /^✓ database +(MariaDB|MySQL) \d+\.\d+/m);
  t.match(stdout, /^✗ migrations +not applied: 001/m);
  t.match(stdout, /checks failed\.\n$/);
  t.notMatch(stdout, /^\s+at /m, 'no stack');
});

t.test('a mistake on the command line shows the usage; exit code 2', async (t) => {
  for (const args of [
    [],
    ['usr'],
    ['user'],
    ['user', 'ad'],
    ['user', 'add'],
    ['token', 'a', 'b'],
    ['who', '--all'],
  ]) {
    const { code, stdout, stderr } = await sarangbang(t, '', ...args);
    t.equal(code, 2, args.join(' '));
    t.equal(stdout, '');
    t.match(stderr, 'Usage: npx sarangbang');
  }
  t.match(await sarangbang(t, '', '--help'), { code: 0, stdout: /^Usage: npx sarangbang/, stderr: '' });
});

t.test('without a server: what to do, not a stack', async (t) => {
  const directory = temporaryDirectory(t);
  const values = { CHAT_DATA_DIR: directory };
  const embedded = await startProgram(t, 'src/cli/main.js', ['token', 'mina'], values).ended;
  t.match(embedded, { code: 1, stdout: '', stderr: /not running: start it with `npm start`/ });
  const site = await sarangbang(t, 'mysql://chat:x@127.0.0.1:1/chat', 'who');
  t.match(site, { code: 1, stdout: '', stderr: /CHAT_MYSQL_URL/ });
  t.notMatch(site.stderr, /^\s+at /m);
});

t.test('check-config lists all mistakes', async (t) => {
  const run = (values: Record<string, string>) =>
    startProgram(t, 'src/cli/main.js', ['check-config'], values).ended;
  t.match(await run({}), { code: 0, stderr: '' });
  const { code, stderr } = await run({ CHAT_TCP_PORT: '-1', CHAT_TLS_CERT: 'x', CHAT_AUTH: 'no' });
  t.equal(code, 1);
  t.match(stderr, 'CHAT_TCP_PORT');
  t.match(stderr, 'CHAT_AUTH');
  t.notMatch(stderr, /^\s+at /m);
});
