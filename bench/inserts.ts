import { randomBytes } from 'node:crypto';
import { createConnection, type ResultSetHeader } from 'mysql2/promise';
import { connectionOptions } from '../src/workers/store/connection-options.js';
import { answer, child } from './job.js';

/**
 * Multi-row inserts of the rows that a send makes, with nothing else around them: what the database itself takes.
 * The table is a copy of `chat_entry` with all its indexes. Each connection has its own rooms, whose `seq` goes up.
 */
child(async (job) => {
  if (job.kind !== 'inserts') throw new Error(`not a job for this process: ${job.kind}`);
  const { url, connections, rowsPerStatement, rooms, text, warmUpS, seconds } = job;
  const lanes = await Promise.all(
    Array.from({ length: connections }, () => createConnection(connectionOptions(url))),
  );
  const firstRoom = randomBytes(4).readUInt32BE() * 1000;
  let rows = 0;
  let running = true;

  const insertAll = async (lane: number) => {
    const connection = lanes[lane];
    if (connection === undefined) return;
    const mine = Array.from({ length: rooms }, (_, room) => room).filter(
      (room) => room % connections === lane,
    );
    const seqs = new Map<number, number>();
    let next = 0;
    while (running) {
      const sentAt = new Date();
      const values = [];
      for (let row = 0; row < rowsPerStatement; row++) {
        const room = mine[next++ % mine.length] ?? 0;
        const seq = (seqs.get(room) ?? 0) + 1;
        seqs.set(room, seq);
        const key = `${lane}-${room}-${String(seq).padStart(9, '0')}`;
        values.push([firstRoom + room, seq, seq, 'text', room + 1, Buffer.from(key), null, text, sentAt]);
      }
      const [{ affectedRows }] = await connection.query<ResultSetHeader>(
        `INSERT INTO chat_entry
           (room_id, seq, ordinal, kind, sender_id, client_message_id, reply_to, body, sent_at)
         VALUES ?`,
        [values],
      );
      rows += affectedRows;
    }
  };

  const work = Promise.all(lanes.map((_, lane) => insertAll(lane)));
  const count = async () => {
    await passing(warmUpS);
    const [rowsBefore, began] = [rows, performance.now()];
    await passing(seconds);
    answer({ type: 'rate', perSecond: ((rows - rowsBefore) * 1000) / (performance.now() - began) });
    running = false;
  };
  await Promise.all([work, count()]);
  for (const connection of lanes) connection.destroy();
  process.disconnect();
});

function passing(seconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, seconds * 1000));
}
