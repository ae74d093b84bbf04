import { z } from 'zod';
import { CLOSES, type CloseReason } from '../closes.js';
import { messageSchema, presenceSchema, roomSchema } from './objects.js';

/** What the server sends unasked (PROTOCOL 2, 4, 6–8): one schema per event type, with the line that stands in the reference. */
const id = z.int().min(1);
const seq = z.int().min(0);

export const EVENTS = {
  hello: {
    doc: 'The first line on every connection.',
    data: z.object({
      protocol: z.literal(1),
      server: z.string().describe('id of the process that serves this connection'),
      heartbeatMs: z.int().describe('how often a client with nothing to say should `ping`'),
      timeoutMs: z.int().describe('after this long without a byte the connection is closed'),
      loginTimeoutMs: z.int().describe('time to log in'),
      maxFrameBytes: z.int().describe('largest frame of a client, newline included'),
      maxTextChars: z.int().describe('longest text of a message, code points'),
      serverAt: z.int(),
      features: z.array(z.string()).describe('optional parts of the protocol that this server has'),
    }),
  },
  message: {
    doc: 'The next entry of a room. Goes to every member but the connection that sent it, which gets its `ok`.',
    data: messageSchema,
  },
  receipt: {
    doc: "A member's marks moved. Goes to the other members and to the member's own other devices.",
    data: z.object({ roomId: id, userId: id, deliveredSeq: seq, readSeq: seq }),
  },
  typing: {
    doc: 'A member began or stopped typing. Goes to the other members; not stored, dropped first when a client reads slowly.',
    data: z.object({ roomId: id, userId: id, typing: z.boolean(), expiresInMs: z.int() }),
  },
  presence: {
    doc: 'A user of the `presence.subscribe` set went online or offline.',
    data: presenceSchema,
  },
  'room.added': {
    doc: 'The user is in a room now: it was created on another device, somebody invited them, or opened a direct room. Every entry after `room.lastSeq` follows.',
    data: z.object({ room: roomSchema }),
  },
  'room.removed': {
    doc: 'The user is in the room no more.',
    data: z.object({
      roomId: id,
      reason: z.enum(['left', 'kicked', 'banned', 'deleted']),
      actorId: id,
    }),
  },
  'room.updated': {
    doc: 'Name, visibility, member limit or owner changed.',
    data: z.object({ room: roomSchema }),
  },
  'session.expiring': {
    doc: 'The token expires soon: send `auth.refresh`, or the connection is closed with `SESSION_REVOKED`.',
    data: z.object({ tokenExpiresAt: z.int() }),
  },
  'server.closing': {
    doc: 'A planned stop. Come back after `reconnectAfterMs`, which differs per connection.',
    data: z.object({ reconnectAfterMs: z.int() }),
  },
} as const;

export type EventType = keyof typeof EVENTS;
export type EventData<T extends EventType> = z.infer<(typeof EVENTS)[T]['data']>;

/**
 * An event as a line: JSON and the line end. A line is encoded once, however many connections get it; a
 * transport whose messages have their own boundaries (WebSocket) leaves the last byte off.
 */
export function eventLine<T extends EventType>(type: T, data: EventData<T>): string {
  return `${JSON.stringify({ type, data })}\n`;
}

/** The `error` with `id` null that announces a close, as a line. */
export function closeLine(reason: CloseReason, traceId?: string): string {
  const { code, when } = CLOSES[reason];
  // Reconnecting makes sense below 4500 (PROTOCOL 3), and "retryable" says the same to a TCP client.
  const error = { code: reason, message: when, retryable: code >= 4000 && code < 4500, traceId };
  return `${JSON.stringify({ type: 'error', id: null, error })}\n`;
}
