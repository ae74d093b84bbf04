import { id } from '../../shared/ids.js';
import { eventLine } from '../../shared/protocol/events.js';
import { okLine } from '../../shared/protocol/replies.js';
import { type Command, REPLIED } from '../context.js';
import { encodeContinuation } from '../continuations.js';

/** After this long without news a client stops showing the sign, ms. */
const EXPIRES_IN_MS = 6000;

/**
 * Needs no database, so that it works through an outage: the router knows who is in the room, and asks for the
 * proper refusal only when the sender is not.
 */
export const typing: Command<'typing'> = async (ctx, { caller, id: requestId, data }) => {
  const { roomId, typing: isTyping } = data;
  ctx.effects.typing(id.room(roomId), caller.connection, {
    reply: okLine(requestId, {}),
    event: eventLine('typing', {
      roomId,
      userId: caller.userId,
      typing: isTyping,
      expiresInMs: EXPIRES_IN_MS,
    }),
    refusal: encodeContinuation({ type: 'typing.refuse', id: requestId, roomId }),
  });
  return REPLIED;
};
