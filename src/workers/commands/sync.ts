import { id } from '../../shared/ids.js';
import type { Message, Room } from '../../shared/protocol/objects.js';
import type { Command } from '../context.js';
import { messageBytes } from '../reply-size.js';
import type { Sql } from '../store/database.js';
import { readPage, toMessage } from '../store/entries.js';
import { listRoomsOf } from '../store/rooms.js';

/** Entries per statement: bounds what one answer of the database may hold in memory. */
const PAGE = 100;
const MAX_ROOMS = 20_000;

export const sync: Command<'sync'> = async (ctx, { caller, data }) => {
  const { cursors, limit = 1000 } = data;
  // The last cursor of a room counts, if a client names it twice.
  const afterSeqs = new Map(cursors.map((cursor) => [cursor.roomId, cursor.afterSeq]));
  return ctx.db.read(async (sql) => {
    const mine = await listRoomsOf(sql, caller.userId, { limit: MAX_ROOMS, maxBytes: ctx.maxReplyBytes / 4 });
    const byId = new Map(mine.map((room) => [room.id, room]));
    const budget = { bytes: ctx.maxReplyBytes / 2 };
    const rooms = [];
    const removed: number[] = [];
    for (const [roomId, afterSeq] of afterSeqs) {
      const room = byId.get(roomId);
      if (room === undefined) removed.push(roomId);
      else rooms.push(await entriesAfter(sql, room, afterSeq, limit, budget));
    }
    const added = [...byId.values()].filter((room) => !afterSeqs.has(room.id));
    return { rooms, removed, added };
  });
};

/** The room and what came after the cursor, as far as the limit and what is left of the reply's size allow. */
async function entriesAfter(
  sql: Sql,
  room: Room,
  afterSeq: number,
  limit: number,
  budget: { bytes: number },
) {
  const messages: Message[] = [];
  let hasMore = room.lastSeq > afterSeq;
  while (hasMore && messages.length < limit && budget.bytes > 0) {
    const page = await readPage(
      sql,
      id.room(room.id),
      {
        afterSeq: messages.at(-1)?.seq ?? afterSeq,
        limit: Math.min(PAGE, limit - messages.length),
        latest: false,
      },
      budget.bytes,
    );
    for (const row of page.rows) {
      const message = toMessage(row);
      budget.bytes -= messageBytes(message);
      messages.push(message);
    }
    hasMore = page.hasMore;
  }
  return { room, events: messages.map((message) => ({ type: 'message' as const, data: message })), hasMore };
}
