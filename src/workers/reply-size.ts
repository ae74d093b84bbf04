import type { Message } from '../shared/protocol/objects.js';

/** Bytes of a message in a reply, at most: three per UTF-16 unit of what a client can make long, and the rest. */
export function messageBytes(message: Message): number {
  const text = message.text ?? message.image?.caption ?? '';
  return text.length * 3 + 800;
}
