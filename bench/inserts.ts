import { randomBytes } from 'node:crypto';
import { createHistogram } from 'node:perf_hooks';
import { type Connection, createConnection, type ResultSetHeader } from 'mysql2/promise';
import { connectionOptions } from '../src/workers/store/connection-options.js';
import { answer, type CommitsJob, child, type InsertsJob } from './job.js';

const INSERT = `INSERT INTO chat_entry
    (room_id, seq, ordinal, kind, sender_id, client_message_id, reply_to, body, sent_at)
  VALUES ?`;
// Rooms of this process that no other one writes to.
const FIRST_ROOM = randomBytes(4).readUInt32BE() * 1000;

/** Rows straight into a copy of the server's table with all its indexes: what the database itself takes. */
child((job) => {
  switch (job.kind) {
    case 'inserts':
      return inserts(job);
    case 'commits':
      return commits(job);
    default:
      throw new Error(`not a job for this process: ${job.kind}`);
  }
});

/** The row of a text entry; `lane` keeps the keys of several connections apart. */
function row(lane: number, room: number, seq: number, text: string, sentAt: Date) {
  const key = `${lane}-${room}-${String(seq).padStart(9, '0')}`;
  return [FIRST_ROOM + room, seq, seq, 'text', room + 1, Buffer.from(key), null, text, sentAt];
}

/** Multi-row statements, each connection with its own rooms, whose `seq` goes up. */
async function inserts(job: InsertsJob): Promise<void> {
  const { url, connections, rowsPerStatement, rooms, text, warmUpS, seconds } = job;
  const lanes = await Promise.all(
    Array.from({ length: connections }, () => createConnection(connectionOptions(url))),
  );
  let rows = 0;
  let running = true;

  const insertAll = async (connection: Connection, lane: number) => {
    const mine = Array.from({ length: rooms }, (_, room) => room).filter(
      (room) => room % connections === lane,
    );
    const seqs = new Map<number, number>();
    let next = 0;
    while (running) {
      const sentAt = new Date();
      const values = [];
      for (let n = 0; n < rowsPerStatement; n++) {
        const room = mine[next++ % mine.length] ?? 0;
        const seq = (seqs.get(room) ?? 0) + 1;
        seqs.set(room, seq);
        values.push(row(lane, room, seq, text, sentAt));
      }
      const [{ affectedRows }] = await connection.query<ResultSetHeader>(INSERT, [values]);
      rows += affectedRows;
    }
  };

  const work = Promise.all(lanes.map(insertAll));
  const count = async () => {
    await passing(warmUpS * 1000);
    answer({ type: 'measuring' });
    const [rowsBefore, began] = [rows, performance.now()];
    await passing(seconds * 1000);
    answer({ type: 'rate', perSecond: ((rows - rowsBefore) * 1000) / (performance.now() - began) });
    running = false;
  };
  await Promise.all([work, count()]);
  for (const connection of lanes) connection.destroy();
}

/** One row at a time, with a commit each. */
async function commits({ url, count, pauseMs, text }: CommitsJob): Promise<void> {
  const connection = await createConnection(connectionOptions(url));
  const lags = createHistogram();
  for (let seq = 1; seq <= count; seq++) {
    const began = performance.now();
    await connection.query(INSERT, [[row(0, 0, seq, text, new Date())]]);
    lags.record(Math.max(1, Math.round((performance.now() - began) * 1000)));
    await passing(pauseMs);
  }
  connection.destroy();
  answer({
    type: 'latency',
    samples: count,
    p50: lags.percentile(50) / 1000,
    p99: lags.percentile(99) / 1000,
    max: lags.max / 1000,
  });
}

function passing(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
