import { parentPort, workerData } from 'node:worker_threads';
import { EffectWriter } from '../shared/effects.js';
import { log, setLogSink } from '../shared/log.js';
import { requestSchemas } from '../shared/protocol/requests.js';
import {
  type ChannelMessage,
  channelName,
  type Task,
  type TaskAnswer,
  type WorkerMessage,
  type WorkerSettings,
} from '../shared/tasks.js';
import { Authenticator } from './authenticator.js';
import type { WorkerContext } from './context.js';
import { executeBatch } from './execute.js';
import { RequestParser } from './parse.js';
import { Database } from './store/database.js';
import { prepareDatabase } from './store/prepare.js';
import { endSessionsTask, maintain, readBack, readHeads, retire } from './upkeep.js';

/** The entry of a Piscina thread: wires a context from the settings, then answers tasks. */

const settings = workerData as WorkerSettings;

function post(message: WorkerMessage, transfer: ArrayBuffer[] = []): void {
  parentPort?.postMessage(message, transfer);
}

setLogSink(settings.logLevel, (line) => post({ kind: 'log', line }));

/** Effects of one batch (or of none) are posted in the order they were written. */
function createContext(): WorkerContext {
  const effects = new EffectWriter();
  return { ...shared, effects };
}

// What the threads of this process tell each other. Piscina does not tell them of an end: that comes here too, so that
// they can say goodbye to MySQL. All hear all of it, but not themselves.
const channel = new BroadcastChannel(channelName(settings.processId));
channel.onmessage = ({ data }: { data: ChannelMessage }) => {
  if (data.kind === 'away') db.suspect(data.reason);
  if (data.kind !== 'close') return;
  void db.close().then(() => {
    channel.postMessage({ kind: 'closed' } satisfies ChannelMessage);
    channel.close();
  });
};

const db = new Database({
  ...settings.database,
  onStateChange: (state, reason, isHearsay) => {
    if (state === 'up') {
      log.store.info('database back');
      return;
    }
    log.store.error('database away', { reason });
    if (!isHearsay) channel.postMessage({ kind: 'away', reason } satisfies ChannelMessage);
  },
  onDoubt: (roomIds) => {
    const effects = new EffectWriter();
    effects.suspect(roomIds);
    handOver(effects, 0, false);
  },
});
const shared = {
  db,
  auth: new Authenticator(settings.auth),
  limits: settings.limits,
  maxReplyBytes: settings.maxReplyBytes,
  processId: settings.processId,
  logText: settings.logText,
};
const parser = new RequestParser(requestSchemas(settings.limits));

/** Below this size copying is cheaper than transferring. */
const TRANSFER_BYTES = 64 * 1024;

function handOver(effects: EffectWriter, batch: number, done: boolean): void {
  if (effects.isEmpty && !done) return;
  const pack = effects.isEmpty ? null : effects.finish();
  const bytes = pack?.bytes.buffer;
  const transfer = bytes instanceof ArrayBuffer && bytes.byteLength >= TRANSFER_BYTES ? [bytes] : [];
  post({ kind: 'effects', batch, done, pack }, transfer);
}

/** Runs a task. Throws for bugs only: what is expected comes back as a value. */
export default async function run(task: Task): Promise<TaskAnswer> {
  const ctx = createContext();
  if (task.kind === 'frames') {
    // What is ready in one turn of the event loop goes in one message, with the end of the batch if it is that.
    let isScheduled = false;
    const flush = () => {
      if (isScheduled) return;
      isScheduled = true;
      setImmediate(() => {
        isScheduled = false;
        handOver(ctx.effects, task.batch, false);
      });
    };
    // Should this throw, the main thread closes the connections whose frames are left.
    await executeBatch(ctx, parser, task, flush);
    handOver(ctx.effects, task.batch, true);
    return { ok: true };
  }
  const answer = await upkeep(ctx, task);
  handOver(ctx.effects, 0, false);
  return answer;
}

async function upkeep(ctx: WorkerContext, task: Exclude<Task, { kind: 'frames' }>): Promise<TaskAnswer> {
  switch (task.kind) {
    case 'prepare':
      return prepareDatabase(settings.database.url);
    case 'maintain':
      return maintain(ctx, task);
    case 'end-sessions':
      return endSessionsTask(ctx, task);
    case 'read-back':
      return readBack(ctx, task);
    case 'heads':
      return readHeads(ctx, task);
    case 'retire':
      return retire(ctx);
  }
}
