/**
 * The catalogue of error codes that answer a request (PROTOCOL 3). A code is never renamed and never used
 * for something else. `test/protocol-reference.test.ts` keeps it equal to `docs/protocol.md`.
 */
export const ERRORS = {
  BAD_JSON: { retryable: false, when: 'the frame is not a JSON object in UTF-8' },
  BAD_REQUEST: {
    retryable: false,
    when: 'a field is missing, unknown, of the wrong type or out of range; lone surrogates in text',
  },
  UNKNOWN_TYPE: { retryable: false, when: 'no such request type' },
  TOO_LARGE: { retryable: false, when: 'frame or text over the limit' },
  NOT_AUTHENTICATED: { retryable: false, when: 'any request but `auth.login` and `ping` before login' },
  AUTH_FAILED: {
    retryable: false,
    when: 'bad, expired or revoked token; user unknown or disabled. The connection is closed after it',
  },
  FORBIDDEN: {
    retryable: false,
    when: "known room, but the caller's role does not allow it, or the caller is banned",
  },
  NOT_FOUND: {
    retryable: false,
    when: 'no such room, user or message, or a private room seen by a non-member',
  },
  NOT_A_MEMBER: { retryable: false, when: 'a public room the caller has not joined' },
  CONFLICT: {
    retryable: false,
    when: 'the same `clientMessageId` with a different content; a name that is taken; a state that rules it out',
  },
  ROOM_FULL: { retryable: false, when: 'the room is at its member limit' },
  RATE_LIMITED: {
    retryable: true,
    when: "over a limit that reading slower can't absorb; has `retryAfterMs`",
  },
  UNAVAILABLE: {
    retryable: true,
    when: "the database can't be reached or the server is stopping; has `retryAfterMs`. Outcome unknown: retry with the same `clientMessageId`",
  },
  INTERNAL: { retryable: false, when: 'a bug; logged with the `traceId` that the error also carries' },
} as const satisfies Record<string, { retryable: boolean; when: string }>;

export type ErrorCode = keyof typeof ERRORS;

/** One field that a request got wrong: `path` is dotted from the top of the frame, e.g. `data.name`. */
export interface Issue {
  path: string;
  message: string;
}

/**
 * An expected error as a value: it crosses threads and functions by `return`, never by `throw`
 * (thrown errors lose their fields between Piscina threads, and a throw here means a bug).
 */
export interface Failure {
  readonly failure: ErrorCode;
  readonly message: string;
  readonly issues?: readonly Issue[];
  readonly retryAfterMs?: number;
  readonly traceId?: string;
}

/** Builds a {@link Failure}. The message is for the developer of a client, in English. */
export function fail(
  code: ErrorCode,
  message: string,
  extra: { issues?: readonly Issue[]; retryAfterMs?: number; traceId?: string } = {},
): Failure {
  return { failure: code, message, ...extra };
}

/** One field out of range, found by a handler and not by the schema: `path` as in {@link Issue}. */
export function badField(path: string, message: string): Failure {
  return fail('BAD_REQUEST', `${path}: ${message}`, { issues: [{ path, message }] });
}

/** Whether a handler's outcome is an error to answer with. */
export function isFailure(value: unknown): value is Failure {
  return typeof value === 'object' && value !== null && 'failure' in value;
}
