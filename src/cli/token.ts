import { parseArgs } from 'node:util';
import { SignJWT } from 'jose';
import type { Config } from '../shared/config.js';
import { jwtSecret } from '../shared/secret.js';
import { withDatabase } from './database.js';
import { Problem, UsageProblem } from './problem.js';
import { enabledAccount, oneName } from './user.js';

const UNITS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86_400 };

/** Seconds of the longest token, ten years: what a typing mistake makes longer is refused. */
const LONGEST = 3650 * 86_400;

/** `sarangbang token NAME [--ttl 1h]` */
export async function token(args: string[], config: Config): Promise<number> {
  const { positionals, values } = parseArgs({
    args,
    allowPositionals: true,
    options: { ttl: { type: 'string', default: '1h' } },
  });
  const username = oneName(positionals);
  const seconds = duration(values.ttl);
  const { id } = await withDatabase(config, (connection) => enabledAccount(connection, username));
  const signed = await signToken(config, id, seconds);
  process.stdout.write(`${JSON.stringify({ ...signed, userId: id })}\n`);
  return 0;
}

/**
 * An HS256 token for a user, as this server accepts it.
 * @returns the token and when it expires, ms since the epoch
 */
export async function signToken(
  config: Config,
  userId: number,
  seconds: number,
): Promise<{ token: string; expiresAt: number }> {
  if (config.CHAT_JWT_JWKS !== undefined && config.CHAT_JWT_SECRET === undefined) {
    throw new Problem(
      'The server takes tokens signed with the keys in CHAT_JWT_JWKS only, and those are not here: ' +
        'get a token from whoever issues them, or set CHAT_JWT_SECRET as well.',
    );
  }
  const expires = Math.floor(Date.now() / 1000) + seconds;
  const jwt = new SignJWT()
    .setProtectedHeader({ alg: 'HS256' })
    .setSubject(String(userId))
    .setIssuedAt()
    .setExpirationTime(expires);
  if (config.CHAT_JWT_ISSUER !== undefined) jwt.setIssuer(config.CHAT_JWT_ISSUER);
  if (config.CHAT_JWT_AUDIENCE !== undefined) jwt.setAudience(config.CHAT_JWT_AUDIENCE);
  const signed = await jwt.sign(new TextEncoder().encode(jwtSecret(config)));
  return { token: signed, expiresAt: expires * 1000 };
}

function duration(text: string): number {
  const [, count = '', unit = ''] = /^(\d{1,9})([smhd])$/.exec(text) ?? [];
  const seconds = Number(count) * (UNITS[unit] ?? 0);
  if (seconds < 1 || seconds > LONGEST) {
    throw new UsageProblem(`--ttl is a time like 90s, 30m, 1h or 7d, at most 3650d; not "${text}"`);
  }
  return seconds;
}
