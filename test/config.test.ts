import t from 'tap';
import { ConfigError, configSchema, loadConfig, unknownSettings } from '../src/shared/config.js';

/** DESIGN 6: settings from the environment; a mistake stops the start with every problem listed. */

function problemsOf(env: Record<string, string>): readonly string[] {
  try {
    loadConfig(env, '/srv/chat');
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
  return [];
}

t.test('an empty environment is a working configuration, with the documented defaults', async (t) => {
  const config = loadConfig({}, '/srv/chat');
  t.match(config, {
    CHAT_TCP_HOST: '127.0.0.1',
    CHAT_TCP_PORT: 9000,
    CHAT_DATA_DIR: '/srv/chat/.data',
    CHAT_LOG_DIR: '/srv/chat/logs',
    CHAT_LOG_LEVEL: 'info',
    CHAT_LOG_TEXT: false,
    CHAT_AUTH: 'jwt',
    CHAT_ROOM_MEMBER_LIMIT: 100,
    CHAT_MAX_FRAME_BYTES: 1_048_576,
    CHAT_MAX_TEXT_CHARS: 100_000,
    CHAT_PRESENCE_GRACE_MS: 10_000,
    CHAT_HEARTBEAT_MS: 5000,
    CHAT_HEARTBEAT_TIMEOUT_MS: 30_000,
    CHAT_LOGIN_TIMEOUT_MS: 10_000,
    CHAT_FRAMES_PER_SECOND: 0,
    CHAT_CONNECTIONS_PER_ADDRESS: 0,
    CHAT_IMAGE_PATH_PREFIX: '/images/',
    tls: null,
  });
  t.equal(config.CHAT_MYSQL_URL, undefined);
  t.ok(config.CHAT_WORKER_THREADS >= 1);
});

t.test('what is set counts, what is set to nothing does not', async (t) => {
  const config = loadConfig(
    {
      CHAT_TCP_PORT: '0',
      CHAT_LOG_DIR: '/var/log/chat',
      CHAT_DATA_DIR: 'data',
      CHAT_LOG_TEXT: 'yes',
      CHAT_LOG_LEVEL: '',
      CHAT_MYSQL_URL: 'mysql://chat:p%40ss@db.example:3306/site',
      CHAT_TLS_CERT: 'cert.pem',
      CHAT_TLS_KEY: '/etc/key.pem',
      PATH: '/bin',
    },
    '/srv/chat',
  );
  t.match(config, {
    CHAT_TCP_PORT: 0,
    CHAT_LOG_DIR: '/var/log/chat',
    CHAT_DATA_DIR: '/srv/chat/data',
    CHAT_LOG_TEXT: true,
    CHAT_LOG_LEVEL: 'info',
    CHAT_MYSQL_URL: 'mysql://chat:p%40ss@db.example:3306/site',
    tls: { cert: '/srv/chat/cert.pem', key: '/etc/key.pem' },
  });
  t.notOk('PATH' in config);
  t.ok(Object.isFrozen(config), 'and nobody changes it later');
});

t.test('every mistake is listed at once, also what only goes wrong together', async (t) => {
  const secret = 'too short a secret';
  const problems = problemsOf({
    CHAT_TCP_PORT: '65536',
    CHAT_TCP_HOST: '0.0.0.0',
    CHAT_WORKER_THREADS: 'many',
    CHAT_LOG_LEVEL: 'verbose',
    CHAT_LOG_TEXT: 'true',
    CHAT_MYSQL_URL: 'postgres://db/site',
    CHAT_AUTH: 'open',
    CHAT_JWT_SECRET: secret,
    CHAT_JWT_JWKS: 'ftp://keys.example/jwks',
    CHAT_ROOM_MEMBER_LIMIT: '1',
    CHAT_HEARTBEAT_MS: '5000',
    CHAT_HEARTBEAT_TIMEOUT_MS: '5000',
    CHAT_LOGIN_TIMEOUT_MS: '10s',
    CHAT_PRESENCE_GRACE_MS: '-1',
    CHAT_FRAMES_PER_SECOND: '1.5',
    CHAT_OUTPUT_LIMIT_BYTES: '0x10000',
    CHAT_TLS_CERT: 'cert.pem',
    CHAT_IMAGE_PATH_PREFIX: 'images/',
  });
  const names = [
    'CHAT_TCP_PORT',
    'CHAT_WORKER_THREADS',
    'CHAT_LOG_LEVEL',
    'CHAT_LOG_TEXT',
    'CHAT_MYSQL_URL',
    'CHAT_JWT_SECRET',
    'CHAT_JWT_JWKS',
    'CHAT_ROOM_MEMBER_LIMIT',
    'CHAT_LOGIN_TIMEOUT_MS',
    'CHAT_PRESENCE_GRACE_MS',
    'CHAT_FRAMES_PER_SECOND',
    'CHAT_OUTPUT_LIMIT_BYTES',
    'CHAT_IMAGE_PATH_PREFIX',
  ];
  for (const name of names) {
    t.equal(problems.filter((problem) => problem.startsWith(`${name}: `)).length, 1, name);
  }
  for (const together of [
    'CHAT_TLS_CERT and CHAT_TLS_KEY',
    'CHAT_AUTH=open',
    'CHAT_HEARTBEAT_TIMEOUT_MS must',
  ]) {
    t.equal(problems.filter((problem) => problem.startsWith(together)).length, 1, together);
  }
  t.equal(problems.length, names.length + 3);
  const { message } = new ConfigError(problems);
  for (const problem of problems) t.ok(message.includes(`- ${problem}`), 'the message has each of them');
  t.notOk(message.includes(secret), 'and no secret');
});

t.test('what goes wrong together is not said of what is wrong by itself', async (t) => {
  t.strictSame(
    problemsOf({ CHAT_HEARTBEAT_MS: 'x', CHAT_HEARTBEAT_TIMEOUT_MS: '1000' }).map(
      (problem) => problem.split(':')[0],
    ),
    ['CHAT_HEARTBEAT_MS'],
  );
});

t.test('CHAT_TLS_CERT and CHAT_TLS_KEY go together', async (t) => {
  t.equal(problemsOf({ CHAT_TLS_CERT: 'a' }).length, 1);
  t.equal(problemsOf({ CHAT_TLS_KEY: 'a' }).length, 1);
  t.equal(problemsOf({ CHAT_TLS_KEY: 'a', CHAT_TLS_CERT: 'b' }).length, 0);
});

t.test('numbers are whole numbers in their range, written in digits', async (t) => {
  for (const port of ['0', '1', '9000', '65535']) t.strictSame(problemsOf({ CHAT_TCP_PORT: port }), []);
  for (const port of ['-1', '65536', '1e3', '0x50', ' 9000', '9000 ', '9_000', '9000.0', 'ninety', '٣']) {
    t.equal(problemsOf({ CHAT_TCP_PORT: port }).length, 1, port);
  }
});

t.test('CHAT_MYSQL_URL names a MySQL database', async (t) => {
  const good = [
    'mysql://u:p@h:3306/db',
    'mysql://h/db',
    'mysql://u@localhost/db?socketPath=/run/mysqld.sock',
  ];
  for (const url of good) t.strictSame(problemsOf({ CHAT_MYSQL_URL: url }), [], url);
  for (const url of ['mysql://h', 'mysql://h/', 'http://h/db', 'h:3306/db', 'x']) {
    t.equal(problemsOf({ CHAT_MYSQL_URL: url }).length, 1, url);
  }
});

t.test('names that are no settings are found, so that a typo does not pass silently', async (t) => {
  const env = { CHAT_TCP_PROT: '1', CHAT_TCP_PORT: '1', CHAT: 'x', PATH: 'x', CHAT___proto__: 'x' };
  t.strictSame(unknownSettings(env), ['CHAT_TCP_PROT', 'CHAT___proto__']);
  t.strictSame(problemsOf(env), [], 'and are no mistake');
});

t.test('every setting has an explanation', async (t) => {
  for (const [name, setting] of Object.entries(configSchema.shape)) {
    t.match(name, /^CHAT_[A-Z_]+$/);
    t.ok((setting.description ?? '').length > 10, name);
  }
});
