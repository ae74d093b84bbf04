import { setTimeout as sleep } from 'node:timers/promises';
import { Piscina } from 'piscina';
import { log, relayLogLine } from '../shared/log.js';
import {
  type ChannelMessage,
  channelName,
  type Task,
  type TaskAnswer,
  type WorkerMessage,
  type WorkerSettings,
} from '../shared/tasks.js';

/**
 * Tasks one thread may have under way: while some wait for MySQL, the thread parses for the next. While the database
 * hangs, one thread may have all batches and upkeep with it, and pings must still get through.
 */
const TASKS_PER_THREAD = 16;
const WAITING_TASKS = 256;
/**
 * Young generation of a thread, MB. What a worker makes dies with its batch; by default V8 would let 48 MB of it pile
 * up in each thread before it collects, which was most of the memory of 2,000 connections (docs/performance.md).
 */
const YOUNG_GENERATION_MB = 16;
/** A task that is stuck at the database must not hold up the stop. */
const CLOSE_MS = 500;

/** Piscina as the dispatcher sees it: tasks in, answers and messages out. */
export class WorkerPool {
  readonly threads: number;
  readonly #pool: Piscina;
  readonly #settings: WorkerSettings;

  constructor(threads: number, settings: WorkerSettings, onMessage: (message: WorkerMessage) => void) {
    this.threads = threads;
    this.#settings = settings;
    this.#pool = new Piscina({
      filename: new URL('../workers/worker.js', import.meta.url).href,
      // Equal, or idle threads would die and take their MySQL connections with them.
      minThreads: threads,
      maxThreads: threads,
      concurrentTasksPerWorker: TASKS_PER_THREAD,
      maxQueue: WAITING_TASKS,
      closeTimeout: CLOSE_MS,
      // 'sync', the default, freezes the event loop of an idle thread: mysql2 would not see a connection end.
      atomics: 'disabled',
      resourceLimits: { maxYoungGenerationSizeMb: YOUNG_GENERATION_MB },
      workerData: settings,
    });
    this.#pool.on('message', (message: WorkerMessage) => {
      if (message.kind === 'log') relayLogLine(message.line);
      else onMessage(message);
    });
    this.#pool.on('error', (error: unknown) => log.server.error('worker thread failed', {}, error));
  }

  /** Rejects only when the thread died or the code has a bug; what is expected comes back as a value. */
  async run(task: Task, transfer: ArrayBuffer[] = []): Promise<TaskAnswer> {
    const answer: TaskAnswer = await this.#pool.run(task, { transferList: transfer });
    return answer;
  }

  /** Lets the threads say goodbye to MySQL, then ends them. */
  async close(): Promise<void> {
    const farewell = new BroadcastChannel(channelName(this.#settings.processId));
    let left = this.threads;
    const goodbyes = new Promise<void>((resolve) => {
      farewell.onmessage = ({ data }: { data: ChannelMessage }) => {
        if (data.kind === 'closed' && --left === 0) resolve();
      };
    });
    farewell.postMessage({ kind: 'close' } satisfies ChannelMessage);
    await Promise.race([goodbyes, sleep(CLOSE_MS, undefined, { ref: false })]);
    farewell.close();
    await this.#pool.close();
  }
}
