import { randomBytes } from 'node:crypto';
import type { Config } from '../shared/config.js';
import { ConnectionLost, ProtocolError, TimedOut } from './client.js';
import { Ledger } from './load/ledger.js';
import { isLoopback, LOAD_USAGE, type LoadOptions, loadOptions } from './load/options.js';
import { Phone } from './load/phone.js';
import { reportTable, showProgress } from './load/report.js';
import { credentials } from './load/users.js';
import { Problem } from './problem.js';

/** Logins at the same time while the phones come up. */
const LOGINS_AT_ONCE = 25;
/** How long acknowledged messages may still be on their way at the end, ms. */
const GRACE_MS = 15_000;
/** The same after Ctrl-C. */
const HASTY_GRACE_MS = 2000;
/** Wait at the end that is not worth a word, ms. */
const HINT_AFTER_MS = 1000;
/** ms between two looks at the clock for the progress. */
const TICK_MS = 200;
/** How long putting the rooms away may take at the end, ms. */
const TIDY_MS = 5000;

interface LoadRoom {
  readonly id: number;
  readonly phones: readonly Phone[];
}

/**
 * `sarangbang load`: simulates users as careful phones, checks that every acknowledged message reaches every
 * device once and in order and is in the history, and prints a table.
 * @throws {Problem} if it can't begin
 * @returns the exit code: 1 when anything was lost, doubled, out of order or altered, or nothing was acknowledged
 */
export async function load(args: string[], config: Config): Promise<number> {
  const phones: Phone[] = [];
  const interrupt = new AbortController();
  const onSignal = () => interrupt.abort();
  process.once('SIGINT', onSignal);
  try {
    const options = loadOptions(args, config);
    if (options === 'help') {
      process.stdout.write(`${LOAD_USAGE}\n`);
      return 0;
    }
    return await run(options, config, phones, interrupt.signal);
  } catch (error) {
    const said = error instanceof Problem ? undefined : inWords(error);
    throw said === undefined ? error : new Problem(said);
  } finally {
    process.off('SIGINT', onSignal);
    await Promise.all(phones.map((phone) => phone.stop()));
  }
}

async function run(
  options: LoadOptions,
  config: Config,
  phones: Phone[],
  interrupted: AbortSignal,
): Promise<number> {
  const { users, rooms: roomCount, rate, seconds, textBytes, host, port } = options;
  let settled = () => {};
  const ledger = new Ledger(() => settled());

  // The names of a run are new, so that a run that was killed can't disturb the next one.
  const runId = randomBytes(4).toString('hex');
  const known = await credentials(users, seconds, config);
  // On this machine a certificate for another name, or one that nobody signed, is no danger.
  const tls = config.tls === null ? false : { rejectUnauthorized: !isLoopback(host) };
  for (const [index, { userId, who }] of known.entries()) {
    const name = `${runId}-${index}`;
    phones.push(
      new Phone(
        { name, deviceId: `load-${name}`, userId, who, server: { host, port, tls }, textBytes },
        ledger,
      ),
    );
  }

  const { stdout } = process;
  stdout.write(
    `${users} users in ${roomCount} room(s) of ${host}:${port}, ${rate} messages/s each, ${seconds} s\n`,
  );

  // Owners make the rooms first: the others find them at login.
  const rooms: LoadRoom[] = [];
  await inParallel(phones.slice(0, roomCount), (owner) => owner.start());
  await inParallel([...phones.slice(0, roomCount).entries()], async ([index, owner]) => {
    const others = phones.filter((phone, i) => i % roomCount === index && phone !== owner);
    const room = await owner.createRoom(
      `load ${runId} ${index + 1}`,
      others.map((phone) => phone.userId),
    );
    for (const phone of others) phone.expectRoom(room.id);
    rooms.push({ id: room.id, phones: [owner, ...others] });
  });
  await inParallel(phones.slice(roomCount), (phone) => phone.start());

  const tookS = await sendForAWhile(rooms, ledger, options, interrupted);

  const graceMs = interrupted.aborted ? HASTY_GRACE_MS : GRACE_MS;
  if (!ledger.settled) {
    await new Promise<void>((resolve) => {
      const hint = setTimeout(() => {
        stdout.write(`waiting at most ${graceMs / 1000} s for answers and ${ledger.awaited} deliveries\n`);
      }, HINT_AFTER_MS);
      const end = () => {
        clearTimeout(hint);
        clearTimeout(limit);
        resolve();
      };
      const limit = setTimeout(end, graceMs);
      settled = end;
    });
  }
  const withHistory = await readHistories(rooms, ledger);
  ledger.close(withHistory);
  await removeRooms(rooms);

  const { totals } = ledger;
  const reconnects = phones.reduce((sum, phone) => sum + phone.reconnects, 0);
  const notes: [string, string][] = [['messages/s', (totals.acknowledged / tookS).toFixed(0)]];
  if (reconnects > 0) notes.push(['reconnects', String(reconnects)]);
  stdout.write(`${reportTable(totals, notes)}\n`);
  for (const fault of ledger.faults) stdout.write(`  ${fault}\n`);
  for (const phone of phones) {
    if (phone.failure !== undefined)
      stdout.write(`  user ${phone.userId} was shut out: ${inWords(phone.failure)}\n`);
  }
  if (!withHistory) stdout.write('  the history could not be read, so it was not checked\n');
  return ledger.clean && withHistory && phones.every((phone) => phone.failure === undefined) ? 0 : 1;
}

/** Every phone sends at its rate, each from a moment of its own. Resolves with the seconds that it took. */
function sendForAWhile(
  rooms: readonly LoadRoom[],
  ledger: Ledger,
  { rate, seconds }: LoadOptions,
  interrupted: AbortSignal,
): Promise<number> {
  return new Promise((resolve) => {
    const began = performance.now();
    const periodMs = 1000 / rate;
    const timers = new Set<NodeJS.Timeout>();
    const progress = showProgress(process.stdout, seconds);

    const every = (firstMs: number, stepMs: number, fn: () => void) => {
      let due = began + firstMs;
      const tick = () => {
        timers.delete(timer);
        // After a stall the missed ones are made up for, as the rate is a promise.
        for (; due <= performance.now(); due += stepMs) fn();
        timer = setTimeout(tick, due - performance.now());
        timers.add(timer);
      };
      let timer = setTimeout(tick, firstMs);
      timers.add(timer);
    };

    const stop = () => {
      for (const timer of timers) clearTimeout(timer);
      const took = (performance.now() - began) / 1000;
      progress.update(took, ledger.totals);
      progress.stop();
      interrupted.removeEventListener('abort', stop);
      resolve(took);
    };

    for (const { id, phones } of rooms) {
      for (const phone of phones) every(Math.random() * periodMs, periodMs, () => phone.send(id));
    }
    every(TICK_MS, TICK_MS, () => progress.update((performance.now() - began) / 1000, ledger.totals));
    const end = setTimeout(stop, seconds * 1000);
    timers.add(end);
    if (interrupted.aborted) stop();
    else interrupted.addEventListener('abort', stop);
  });
}

/** Reads every room from the beginning. Returns whether all could be read. */
async function readHistories(rooms: readonly LoadRoom[], ledger: Ledger): Promise<boolean> {
  try {
    await inParallel(rooms, async ({ id, phones }) => {
      let afterSeq = 0;
      for (let more = true; more; ) {
        const client = phones.find((phone) => phone.client !== undefined)?.client;
        if (client === undefined) throw new Problem('nobody is connected');
        const { messages, hasMore } = await client.request('message.history', {
          roomId: id,
          afterSeq,
          limit: 100,
        });
        ledger.history(id, afterSeq, messages);
        afterSeq = messages.at(-1)?.seq ?? afterSeq;
        more = hasMore;
      }
    });
    return true;
  } catch (error) {
    if (inWords(error) === undefined) throw error;
    return false;
  }
}

/** Deletes the rooms, so that they don't pile up; what can't be deleted now stays. */
async function removeRooms(rooms: readonly LoadRoom[]): Promise<void> {
  await inParallel(rooms, async ({ id, phones: [owner] }) => {
    try {
      await owner?.client?.request('room.delete', { roomId: id }, { timeoutMs: TIDY_MS });
    } catch (error) {
      process.stdout.write(`  room ${id} stays: ${inWords(error) ?? error}\n`);
    }
  });
}

async function inParallel<T>(things: Iterable<T>, work: (thing: T) => Promise<unknown>): Promise<void> {
  const queue = things[Symbol.iterator]();
  const lane = async () => {
    for (let next = queue.next(); next.done !== true; next = queue.next()) await work(next.value);
  };
  await Promise.all(Array.from({ length: LOGINS_AT_ONCE }, lane));
}

/** An expected error as one line; `undefined` for a bug, whose stack is wanted. */
function inWords(error: unknown): string | undefined {
  if (error instanceof Problem || error instanceof TimedOut) return error.message;
  if (error instanceof ProtocolError) return `The server answered ${error.code}: ${error.message}`;
  if (error instanceof ConnectionLost) {
    const { cause } = error;
    if (cause instanceof Error && 'code' in cause && cause.code === 'ECONNREFUSED') {
      return `Nobody listens there (${cause.message}): start the server with \`npm start\`.`;
    }
    return error.message;
  }
  return undefined;
}
