import { ERRORS, type Failure } from '../errors.js';
import type { RequestId } from './requests.js';

/** Replies as lines: JSON and the line end. One per request (PROTOCOL 2). */

/** `id` as JSON; null where the request had none that could be read. */
export function okLine(id: RequestId, data: unknown): string {
  return `{"type":"ok","id":${JSON.stringify(id)},"data":${JSON.stringify(data)}}\n`;
}

export function errorLine(id: RequestId | null, failure: Failure): string {
  const error = {
    code: failure.failure,
    message: failure.message,
    retryable: ERRORS[failure.failure].retryable,
    retryAfterMs: failure.retryAfterMs === undefined ? undefined : Math.ceil(failure.retryAfterMs),
    issues: failure.issues,
    traceId: failure.traceId,
  };
  return `${JSON.stringify({ type: 'error', id, error })}\n`;
}
