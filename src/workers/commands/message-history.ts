import { isFailure } from '../../shared/errors.js';
import { id } from '../../shared/ids.js';
import { readableRoom } from '../access.js';
import type { Command } from '../context.js';
import { readPage, toMessage } from '../store/entries.js';

export const messageHistory: Command<'message.history'> = async (ctx, { caller, data }) => {
  const roomId = id.room(data.roomId);
  const { beforeSeq, afterSeq, limit = 100 } = data;
  return ctx.db.read(async (sql) => {
    const room = await readableRoom(sql, roomId, caller.userId);
    if (isFailure(room)) return room;
    // With afterSeq a client goes forward from there; otherwise it looks back from beforeSeq or the end.
    const page = { beforeSeq, afterSeq, limit, latest: afterSeq === undefined };
    const { rows, hasMore } = await readPage(sql, roomId, page, ctx.maxReplyBytes);
    return { messages: rows.map(toMessage), hasMore };
  });
};
