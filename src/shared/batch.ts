import { type ConnectionId, id, type SessionId, type UserId } from './ids.js';

/**
 * The frames of many connections on their way to a worker, packed: one buffer, a few typed arrays. An object
 * per frame would cost more to clone than the frame costs to parse.
 */
export interface FrameBatch {
  readonly kind: 'frames';
  /** Number of the batch; its effects carry it back. */
  readonly batch: number;
  /** Four numbers per slot: connection id, user id (0 before login), session id, number of frames. */
  readonly slots: Float64Array;
  /** End of each frame in `bytes`; a frame begins where the one before it ends. */
  readonly ends: Uint32Array;
  /** 1 where the frame is a continuation that a worker wrote, 0 where it came from the client. */
  readonly continuations: Uint8Array;
  /** Remote address per slot where nobody is logged in yet, else ''. */
  readonly remotes: readonly string[];
  readonly bytes: Uint8Array;
  /**
   * The frames overtake others of their connection, because those wait for a database that does not answer:
   * only what needs no database is answered (`ping`, `typing`), the rest is left for its turn.
   */
  readonly overtaking: boolean;
}

/** Who sent a frame. `userId` and `sessionId` are 0 before login. */
export interface Caller {
  readonly connection: ConnectionId;
  readonly userId: UserId;
  readonly sessionId: SessionId;
  readonly remote: string;
}

/** The frames of one connection, in the order they were sent. */
export interface Slot {
  readonly caller: Caller;
  readonly frames: readonly { readonly bytes: Uint8Array; readonly continuation: boolean }[];
}

const NUMBERS_PER_SLOT = 4;

/** Packs slots into a batch. Frames are copied, so that the received chunks can go. */
export function packBatch(
  batch: number,
  slots: readonly {
    readonly caller: Caller;
    readonly frames: readonly { readonly bytes: Uint8Array; readonly continuation: boolean }[];
  }[],
  overtaking = false,
): FrameBatch {
  let frameCount = 0;
  let byteCount = 0;
  for (const { frames } of slots) {
    frameCount += frames.length;
    for (const { bytes } of frames) byteCount += bytes.length;
  }
  const numbers = new Float64Array(slots.length * NUMBERS_PER_SLOT);
  const ends = new Uint32Array(frameCount);
  const continuations = new Uint8Array(frameCount);
  const bytes = new Uint8Array(byteCount);
  const remotes: string[] = [];
  let frame = 0;
  let at = 0;
  let number = 0;
  for (const { caller, frames } of slots) {
    numbers[number++] = caller.connection;
    numbers[number++] = caller.userId;
    numbers[number++] = caller.sessionId;
    numbers[number++] = frames.length;
    remotes.push(caller.userId === 0 ? caller.remote : '');
    for (const { bytes: from, continuation } of frames) {
      bytes.set(from, at);
      at += from.length;
      ends[frame] = at;
      continuations[frame] = continuation ? 1 : 0;
      frame++;
    }
  }
  return { kind: 'frames', batch, slots: numbers, ends, continuations, remotes, bytes, overtaking };
}

/** The reverse of {@link packBatch}; frames are views of the batch's one buffer. */
export function unpackBatch(batch: FrameBatch): Slot[] {
  const { slots: numbers, ends, continuations, remotes, bytes } = batch;
  const slots: Slot[] = [];
  let frame = 0;
  let at = 0;
  for (let number = 0, slot = 0; number < numbers.length; number += NUMBERS_PER_SLOT, slot++) {
    const frames: { bytes: Uint8Array; continuation: boolean }[] = [];
    for (let left = numbers[number + 3] ?? 0; left > 0; left--, frame++) {
      const end = ends[frame] ?? at;
      frames.push({ bytes: bytes.subarray(at, end), continuation: continuations[frame] === 1 });
      at = end;
    }
    slots.push({
      caller: {
        connection: id.connection(numbers[number] ?? 0),
        userId: id.user(numbers[number + 1] ?? 0),
        sessionId: id.session(numbers[number + 2] ?? 0),
        remote: remotes[slot] ?? '',
      },
      frames,
    });
  }
  return slots;
}
