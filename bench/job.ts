/**
 * What the benchmark's main process asks of the processes that it forks, and what they answer. A child gets its
 * job as the first message over IPC and sends its answers the same way.
 */

export interface Address {
  readonly host: string;
  readonly port: number;
}

export interface BenchUser {
  readonly id: number;
  readonly token: string;
}

interface Timed {
  /** Seconds before counting begins. */
  readonly warmUpS: number;
  /** Seconds that are counted. */
  readonly seconds: number;
}

/** Pairs in direct rooms: the first of each sends to the second. */
export interface PairsJob extends Timed {
  readonly kind: 'pairs';
  readonly server: Address;
  readonly users: readonly BenchUser[];
  /** Sends without an answer per pair. */
  readonly outstanding: number;
  readonly text: string;
}

/** One room: `senders` of the users send, every line goes to all others. */
export interface FanOutJob extends Timed {
  readonly kind: 'fan-out';
  readonly server: Address;
  /** A relay knows neither login nor rooms, and answers nothing. */
  readonly peer: 'server' | 'relay';
  readonly users: readonly BenchUser[];
  readonly senders: number;
  /** Messages per sender that some connection has not got yet. */
  readonly outstanding: number;
  readonly text: string;
}

/** One room in which each user sends at a slow, steady rate. */
export interface LatencyJob extends Timed {
  readonly kind: 'latency';
  readonly server: Address;
  readonly users: readonly BenchUser[];
  /** Messages per second and user. */
  readonly rate: number;
  readonly text: string;
}

/** Connections that do nothing, until the channel to the main process closes. */
export interface IdleJob {
  readonly kind: 'idle';
  readonly server: Address;
  readonly peer: 'server' | 'bare';
  readonly users: readonly BenchUser[];
}

/** Multi-row inserts into a table of its own, straight into the database. */
export interface InsertsJob extends Timed {
  readonly kind: 'inserts';
  readonly url: string;
  readonly connections: number;
  readonly rowsPerStatement: number;
  readonly rooms: number;
  readonly text: string;
}

/** One row at a time into the same table, with a commit each and a pause after it. */
export interface CommitsJob {
  readonly kind: 'commits';
  readonly url: string;
  readonly count: number;
  /** ms */
  readonly pauseMs: number;
  readonly text: string;
}

/** Accepts connections; with `copy` each line goes to all other connections. */
export interface RelayJob {
  readonly kind: 'relay' | 'bare';
}

export type Job = PairsJob | FanOutJob | LatencyJob | IdleJob | InsertsJob | CommitsJob | RelayJob;

export type Answer =
  /** A listening process says where. */
  | { readonly type: 'listening'; readonly port: number }
  /** The connections of an idle job are there. */
  | { readonly type: 'connected' }
  /** The warm-up is over: what happens from now on is counted. */
  | { readonly type: 'measuring' }
  /** Things per second. */
  | { readonly type: 'rate'; readonly perSecond: number }
  /** ms. */
  | {
      readonly type: 'latency';
      readonly samples: number;
      readonly p50: number;
      readonly p99: number;
      readonly max: number;
    }
  /** What kept the job from being done. */
  | { readonly type: 'failed'; readonly why: string };

/** Sends an answer to the main process. */
export function answer(value: Answer): void {
  process.send?.(value);
}

/** Runs a child's work on the job that comes first, and answers `failed` if it throws. */
export function child(work: (job: Job) => Promise<void>): void {
  // A child must not outlive the benchmark, however that ended.
  process.on('disconnect', () => process.exit());
  process.once('message', async (job: Job) => {
    try {
      await work(job);
    } catch (error) {
      answer({
        type: 'failed',
        why: error instanceof Error ? (error.stack ?? error.message) : String(error),
      });
    }
  });
}
