import type { Message, Room } from '../shared/protocol/objects.js';

/** Bytes of a message in a reply, at most: three per UTF-16 unit of what a client can make long, and the rest. */
export function messageBytes(message: Message): number {
  const text = message.text ?? message.image?.caption ?? '';
  return text.length * 3 + 800;
}

/**
 * Leaves `lastMessage` out (null) of the rooms beyond `maxBytes`: a user with a thousand rooms whose last
 * messages have 100,000 characters each must still be able to log in. The history has them.
 */
export function trimLastMessages(rooms: readonly Room[], maxBytes: number): Room[] {
  let bytes = 0;
  return rooms.map((room) => {
    if (room.lastMessage === null) return room;
    bytes += messageBytes(room.lastMessage);
    return bytes > maxBytes ? { ...room, lastMessage: null } : room;
  });
}
