import type { OkData, RequestId } from '../shared/protocol/requests.js';

/**
 * The second half of a request whose first half the main thread must act upon before it goes on: listen to rooms,
 * then read them. Written by a worker, kept by the main thread without a look inside, read by a worker.
 */
export type Continuation =
  | {
      readonly type: 'session.open';
      readonly id: RequestId;
      readonly login: Pick<OkData<'auth.login'>, 'user' | 'sessionId' | 'device' | 'tokenExpiresAt'>;
    }
  | { readonly type: 'presence.read'; readonly id: RequestId; readonly userIds: readonly number[] }
  | { readonly type: 'typing.refuse'; readonly id: RequestId; readonly roomId: number };

export function encodeContinuation(continuation: Continuation): string {
  return JSON.stringify(continuation);
}

export function decodeContinuation(bytes: Uint8Array): Continuation {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8');
  // Only workers write these; frames of clients never get here.
  return JSON.parse(text) as Continuation;
}
