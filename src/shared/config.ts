import { availableParallelism } from 'node:os';
import { resolve } from 'node:path';
import { z } from 'zod';

/**
 * Every setting of the server, in one schema: the name of the environment variable, its default, its unit and
 * a line of explanation. `docs/configuration.md` is generated from it.
 */

const integer = (min: number, max: number) =>
  z.string().regex(/^\d+$/, 'must be a whole number').transform(Number).pipe(z.int().min(min).max(max));
const text = z.string().min(1);
const yes = z.enum(['yes', 'no']).transform((value) => value === 'yes');
const port = integer(0, 65_535);

const mysqlUrl = z.string().refine((value) => {
  try {
    const url = new URL(value);
    return url.protocol === 'mysql:' && url.pathname.length > 1;
  } catch {
    return false;
  }
}, 'must look like mysql://user:password@host:port/database, with ?socketPath=/… for a Unix socket');

/** The schema. Keys are the environment variables; `describe` is the line in the reference. */
export const configSchema = z.object({
  CHAT_TCP_HOST: text.default('127.0.0.1').describe('address the TCP listener binds; `0.0.0.0` for all'),
  CHAT_TCP_PORT: port.default(9000).describe('port of the TCP listener; 0 takes a free one'),
  CHAT_INSTANCES: z
    .literal('1', 'this version runs one chat process: the only value is 1')
    .transform(Number)
    .default(1)
    .describe('chat processes on this host; this version runs one process'),
  CHAT_WORKER_THREADS: integer(1, 64)
    .default(Math.max(1, Math.min(8, availableParallelism())))
    .describe('Piscina threads per process; the default is one per core, at most 8'),
  CHAT_DATA_DIR: text
    .default('.data')
    .describe('directory of the embedded database, the generated secret and PM2'),
  CHAT_LOG_DIR: text.default('logs').describe('directory of the log files'),
  CHAT_LOG_LEVEL: z
    .enum(['trace', 'debug', 'info', 'warn', 'error', 'off'])
    .default('info')
    .describe('`debug` adds a line per message'),
  CHAT_LOG_TEXT: yes.default(false).describe('`yes` puts the text of messages into the log at `debug`'),
  CHAT_MYSQL_URL: mysqlUrl
    .optional()
    .describe('`mysql://user:password@host:port/database`; unset: the embedded database'),
  CHAT_MYSQL_CONNECTIONS: integer(1, 64).default(4).describe('MySQL connections per worker thread'),
  CHAT_MYSQL_TIMEOUT_MS: integer(500, 8000)
    .default(4000)
    .describe('ms that a request may spend in MySQL before it is answered with `UNAVAILABLE`'),
  CHAT_AUTH: z
    .enum(['jwt', 'open'])
    .default('jwt')
    .describe('`open` trusts the `userId` a client names: for trials on loopback'),
  CHAT_AUTH_OPEN_ANYWHERE: yes
    .default(false)
    .describe('`yes` lets `CHAT_AUTH=open` listen on other than loopback addresses'),
  CHAT_JWT_SECRET: z
    .string()
    .min(32, 'needs at least 32 characters for HS256 (RFC 7518, 3.2)')
    .optional()
    .describe('secret of HS256 tokens; unset: made at the first start and kept in the data directory'),
  CHAT_JWT_JWKS: z
    .url({ protocol: /^https?$/ })
    .optional()
    .describe('URL of a JWK set for RS256, ES256 and EdDSA tokens; HS256 is then off unless a secret is set'),
  CHAT_JWT_ISSUER: text.optional().describe('if set, `iss` must be equal to it'),
  CHAT_JWT_AUDIENCE: text.optional().describe('if set, `aud` must contain it'),
  CHAT_ROOM_MEMBER_LIMIT: integer(2, 1000).default(100).describe('members of a group room'),
  CHAT_ROOMS_PER_USER: integer(1, 10_000).default(1000).describe('rooms one user may be in'),
  CHAT_MAX_FRAME_BYTES: integer(1024, 16_777_216)
    .default(1_048_576)
    .describe('bytes of the largest frame from a client, newline included'),
  CHAT_MAX_TEXT_CHARS: integer(1, 1_000_000).default(100_000).describe('Unicode code points of a message'),
  CHAT_HEARTBEAT_MS: integer(100, 600_000)
    .default(5000)
    .describe('ms after which a client with nothing to say should `ping` (told in `hello`)'),
  CHAT_HEARTBEAT_TIMEOUT_MS: integer(200, 3_600_000)
    .default(30_000)
    .describe('ms of silence after which a connection is closed'),
  CHAT_LOGIN_TIMEOUT_MS: integer(100, 600_000).default(10_000).describe('ms a connection has to log in'),
  CHAT_PRESENCE_GRACE_MS: integer(0, 600_000)
    .default(10_000)
    .describe('ms a user stays online after a connection was lost'),
  CHAT_FRAMES_PER_SECOND: integer(0, 1_000_000)
    .default(0)
    .describe('frames per second read from one connection; faster clients are read slower; 0 = off'),
  CHAT_MAX_CONNECTIONS: integer(1, 1_000_000).default(50_000).describe('connections of one process'),
  CHAT_CONNECTIONS_PER_ADDRESS: integer(0, 1_000_000)
    .default(0)
    .describe('connections from one IP address to one process; 0 = off'),
  CHAT_OUTPUT_LIMIT_BYTES: integer(65_536, 1_073_741_824)
    .default(8_388_608)
    .describe('bytes waiting for one connection after which it is closed as `SLOW_CONSUMER`'),
  CHAT_TLS_CERT: text.optional().describe('PEM file of the certificate chain; with the key, TCP is TLS'),
  CHAT_TLS_KEY: text.optional().describe('PEM file of the private key'),
  CHAT_IMAGE_PATH_PREFIX: z
    .string()
    .regex(/^\/[^\s\\]*$/, 'must start with /')
    .default('/images/')
    .describe('what every `image.path` must start with'),
});

type Environment = z.infer<typeof configSchema>;

/** The settings after validation, frozen. Paths are absolute; `tls` is there when both files are named. */
export type Config = Readonly<
  Environment & { readonly tls: { readonly cert: string; readonly key: string } | null }
>;

/** Thrown by {@link loadConfig} with every problem at once, one per line. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  readonly problems: readonly string[];
  constructor(problems: readonly string[]) {
    super(
      `the configuration has ${problems.length} mistake(s):\n${problems.map((p) => `  - ${p}`).join('\n')}`,
    );
    this.problems = problems;
  }
}

const LOOPBACK = /^(localhost|::1|127(\.\d{1,3}){3})$/;

/** What settings must be together, each with the settings that it looks at. */
const RULES: readonly {
  readonly of: readonly (keyof Environment)[];
  /** What is wrong, if something is. */
  readonly check: (config: Environment) => string | undefined;
}[] = [
  {
    of: ['CHAT_TLS_CERT', 'CHAT_TLS_KEY'],
    check: (config) =>
      (config.CHAT_TLS_CERT === undefined) !== (config.CHAT_TLS_KEY === undefined)
        ? 'CHAT_TLS_CERT and CHAT_TLS_KEY go together'
        : undefined,
  },
  {
    of: ['CHAT_AUTH', 'CHAT_TCP_HOST', 'CHAT_AUTH_OPEN_ANYWHERE'],
    check: ({ CHAT_AUTH, CHAT_TCP_HOST, CHAT_AUTH_OPEN_ANYWHERE }) =>
      CHAT_AUTH === 'open' && !LOOPBACK.test(CHAT_TCP_HOST) && !CHAT_AUTH_OPEN_ANYWHERE
        ? `CHAT_AUTH=open trusts every client, and ${CHAT_TCP_HOST} is not a loopback address; ` +
          'use CHAT_AUTH=jwt, or set CHAT_AUTH_OPEN_ANYWHERE=yes if you mean it'
        : undefined,
  },
  {
    of: ['CHAT_HEARTBEAT_TIMEOUT_MS', 'CHAT_HEARTBEAT_MS'],
    check: (config) =>
      config.CHAT_HEARTBEAT_TIMEOUT_MS <= config.CHAT_HEARTBEAT_MS
        ? 'CHAT_HEARTBEAT_TIMEOUT_MS must be greater than CHAT_HEARTBEAT_MS'
        : undefined,
  },
];

/**
 * Checks the environment and returns the settings.
 * @throws {ConfigError} with all problems
 */
export function loadConfig(env: Readonly<Record<string, string | undefined>>, cwd: string): Config {
  const given: Record<string, string> = {};
  for (const [name, value] of Object.entries(env)) {
    if (!name.startsWith('CHAT_') || value === undefined || value === '') continue;
    given[name] = value;
  }
  const issues = configSchema.safeParse(given).error?.issues ?? [];
  const problems = issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`);
  const wrong = new Set(issues.map((issue) => issue.path[0]));
  // The rest with defaults for what is wrong, so that the rules find what is wrong beside it.
  for (const name of wrong) delete given[String(name)];
  const config = configSchema.parse(given);
  for (const { of, check } of RULES) {
    const problem = of.some((name) => wrong.has(name)) ? undefined : check(config);
    if (problem !== undefined) problems.push(problem);
  }
  if (problems.length > 0) throw new ConfigError(problems);
  const { CHAT_TLS_CERT: cert, CHAT_TLS_KEY: key } = config;
  return Object.freeze({
    ...config,
    CHAT_DATA_DIR: resolve(cwd, config.CHAT_DATA_DIR),
    CHAT_LOG_DIR: resolve(cwd, config.CHAT_LOG_DIR),
    tls:
      cert !== undefined && key !== undefined ? { cert: resolve(cwd, cert), key: resolve(cwd, key) } : null,
  });
}

/**
 * The `CHAT_` names in the environment that are no settings. Not an error, since the site's own programs may
 * share the prefix, but said in the log: a typo must not silently leave a default in force.
 */
export function unknownSettings(env: Readonly<Record<string, string | undefined>>): string[] {
  return Object.keys(env).filter((name) => name.startsWith('CHAT_') && !(name in configSchema.shape));
}
