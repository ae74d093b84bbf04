import { mkdirSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { format, promisify } from 'node:util';
import { socketDirectory } from './embedded-database.js';
import { StartError } from './start-error.js';

/** ms that an app may take until it says `ready`; migrations of a big database are in it. */
const READY_DEADLINE = 600_000;

/** PM2 within this process, for `npm start`. In production PM2 is a daemon of its own. */
export interface ProcessManager {
  /** Resolves with the pid of the app's process when it has said `ready`; rejects when it ended before. */
  start(app: object): Promise<number>;
  /** Ends the apps the way `pm2 stop` does, and waits for it. */
  stop(): Promise<void>;
}

/** What PM2 publishes about an app, as far as it matters here. */
interface Packet {
  readonly process: { readonly name: string };
  readonly raw?: unknown;
  readonly data?: unknown;
  readonly event?: string;
}

/**
 * Starts PM2 in this process, with a home of its own in the data directory, so that the user's own PM2 is not
 * touched. Its workers are children of this process and end with it, even if it is killed.
 * @param show gets the output of the apps as it comes, whole lines mostly
 */
export async function startProcessManager(
  dataDirectory: string,
  show: (output: string, stream: 'out' | 'err') => void,
): Promise<ProcessManager> {
  const home = socketDirectory(join(dataDirectory, 'pm2'), 'interactor.sock');
  mkdirSync(home, { recursive: true, mode: 0o700 });
  for (const stale of ['rpc.sock', 'pub.sock', 'pm2.pid']) rmSync(join(home, stale), { force: true });
  // PM2 reads these when it is loaded.
  process.env.PM2_HOME = home;
  process.env.PM2_NO_INTERACTION = 'true';
  // It narrates on the console. In a daemon that goes to pm2.log, and so it does here.
  const log = openSync(join(home, 'pm2.log'), 'w');
  for (const level of ['log', 'info', 'warn', 'error'] as const) {
    console[level] = (...args: unknown[]) => void writeSync(log, `${format(...args)}\n`);
  }
  const { default: pm2 } = await import('pm2');
  await promisify<boolean, void>(pm2.connect.bind(pm2))(true);
  const bus: NodeJS.EventEmitter = await promisify(pm2.launchBus.bind(pm2))();
  bus.on('log:out', ({ data }: Packet) => show(String(data), 'out'));
  bus.on('log:err', ({ data }: Packet) => show(String(data), 'err'));

  const start = async (app: object): Promise<number> => {
    const { promise, resolve, reject } = withResolvers();
    bus.on('process:msg', ({ raw }: Packet) => {
      if (raw === 'ready') resolve();
    });
    bus.on('process:event', ({ event, process: { name } }: Packet) => {
      if (event === 'exit') reject(new StartError(`the ${name} process ended before it was ready`));
    });
    // PM2 leaves a process whose module failed to load alive, deaf and dumb.
    bus.on('process:exception', ({ process: { name } }: Packet) => {
      reject(new StartError(`the ${name} process failed before it was ready`));
    });
    const late = setTimeout(
      () => reject(new StartError('the process was not ready in time')),
      READY_DEADLINE,
    );
    // PM2 answers only when the app is ready or its listen_timeout is over, also when the app has failed long ago.
    await Promise.all([promise, promisify<object, unknown>(pm2.start.bind(pm2))(app)]).finally(() =>
      clearTimeout(late),
    );
    const [described] = await promisify(pm2.list.bind(pm2))();
    return described?.pid ?? 0;
  };

  const stop = async (): Promise<void> => {
    await promisify<string, unknown>(pm2.delete.bind(pm2))('all').catch(() => {});
    for (const file of ['rpc.sock', 'pub.sock', 'pm2.pid']) rmSync(join(home, file), { force: true });
  };
  return { start, stop };
}

/** A promise with its ends outside; built into Node from 22 on. */
function withResolvers() {
  let resolve: () => void = () => {};
  let reject: (error: Error) => void = () => {};
  const promise = new Promise<void>((fulfil, refuse) => {
    resolve = fulfil;
    reject = refuse;
  });
  return { promise, resolve, reject };
}
