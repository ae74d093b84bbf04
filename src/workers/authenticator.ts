import { createRemoteJWKSet, errors, type JWTPayload, type JWTVerifyGetKey, jwtVerify } from 'jose';
import { type Failure, fail } from '../shared/errors.js';
import { id, type UserId } from '../shared/ids.js';

export interface AuthenticatorOptions {
  /** Secret of HS256 tokens; undefined: HS256 is not accepted. */
  readonly secret: string | undefined;
  /** URL of the key set for RS256, ES256 and EdDSA; undefined: those are not accepted. */
  readonly jwks: string | undefined;
  readonly issuer: string | undefined;
  readonly audience: string | undefined;
}

/** Who a token is for, and until when. */
export interface Identity {
  readonly userId: UserId;
  /** ms since the epoch. */
  readonly expiresAt: number;
}

const KEY_SET_TIMEOUT_MS = 3000;
const CLOCK_TOLERANCE_SECONDS = 5;

/** Verifies JSON Web Tokens (RFC 7519, checked as RFC 8725 advises: the algorithms are ours, not the token's). */
export class Authenticator {
  readonly #secret: Uint8Array | undefined;
  readonly #keySet: JWTVerifyGetKey | undefined;
  readonly #claims: { issuer?: string; audience?: string; requiredClaims: string[]; clockTolerance: number };

  constructor(options: AuthenticatorOptions) {
    this.#secret = options.secret === undefined ? undefined : new TextEncoder().encode(options.secret);
    this.#keySet =
      options.jwks === undefined
        ? undefined
        : createRemoteJWKSet(new URL(options.jwks), { timeoutDuration: KEY_SET_TIMEOUT_MS });
    this.#claims = {
      requiredClaims: ['exp', 'sub'],
      clockTolerance: CLOCK_TOLERANCE_SECONDS,
      ...(options.issuer === undefined ? {} : { issuer: options.issuer }),
      ...(options.audience === undefined ? {} : { audience: options.audience }),
    };
  }

  /** `AUTH_FAILED` for anything wrong with the token, `UNAVAILABLE` if the key set can't be fetched. */
  async verify(token: string): Promise<Identity | Failure> {
    let payload: JWTPayload;
    try {
      payload = await this.#payload(token);
    } catch (error) {
      if (error instanceof errors.JWTExpired) return fail('AUTH_FAILED', 'the token has expired');
      if (isUnreachable(error)) {
        return fail('UNAVAILABLE', 'the key set can not be fetched', { retryAfterMs: 2000 });
      }
      // Anything else is a property of the token. Its text stays out of the message and the log.
      return fail('AUTH_FAILED', 'the token is not valid');
    }
    const { sub = '', exp = 0 } = payload;
    const userId = Number(sub);
    if (!/^[1-9]\d{0,15}$/.test(sub) || !Number.isSafeInteger(userId)) {
      return fail('AUTH_FAILED', 'the subject of the token is not a user id');
    }
    if (exp * 1000 <= Date.now()) return fail('AUTH_FAILED', 'the token has expired');
    return { userId: id.user(userId), expiresAt: Math.min(Math.floor(exp * 1000), Number.MAX_SAFE_INTEGER) };
  }

  async #payload(token: string): Promise<JWTPayload> {
    // The header only chooses between the two kinds of keys; each kind accepts its own algorithms alone.
    if (this.#secret !== undefined && algorithmOf(token) === 'HS256') {
      return (await jwtVerify(token, this.#secret, { ...this.#claims, algorithms: ['HS256'] })).payload;
    }
    if (this.#keySet === undefined) throw new errors.JOSEAlgNotAllowed();
    const algorithms = ['RS256', 'ES256', 'EdDSA'];
    return (await jwtVerify(token, this.#keySet, { ...this.#claims, algorithms })).payload;
  }
}

function algorithmOf(token: string): unknown {
  const header: unknown = JSON.parse(Buffer.from(token.split('.', 1)[0] ?? '', 'base64url').toString('utf8'));
  return typeof header === 'object' && header !== null && 'alg' in header ? header.alg : undefined;
}

/** The fault is the issuer's, or of the way to it: the token may be good, and its user must not be logged out. */
function isUnreachable(error: unknown): boolean {
  if (error instanceof errors.JWKSTimeout || error instanceof errors.JWKSInvalid) return true;
  // `fetch failed` of undici, and jose's generic error for a response that is not a 200 with JSON.
  if (error instanceof TypeError && error.message === 'fetch failed') return true;
  return error instanceof errors.JOSEError && error.code === 'ERR_JOSE_GENERIC';
}
