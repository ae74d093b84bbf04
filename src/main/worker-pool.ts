import { Piscina } from 'piscina';
import { log, relayLogLine } from '../shared/log.js';
import type { Task, TaskAnswer, WorkerMessage, WorkerSettings } from '../shared/tasks.js';

/** Tasks one thread may have under way: while one waits for MySQL, the thread parses for the next. */
export const TASKS_PER_THREAD = 4;
const WAITING_TASKS = 256;

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
      // 'sync', the default, freezes the event loop of an idle thread: mysql2 would not see a connection end.
      atomics: 'disabled',
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
    const farewell = new BroadcastChannel(`sarangbang.${this.#settings.processId}`);
    farewell.postMessage('close');
    await this.#pool.close();
    farewell.close();
  }
}
