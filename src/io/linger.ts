import { LINGER_MS } from './connection.js';

/** What is cut off when its time to say goodbye is over. */
interface Lingering {
  cutOff(): void;
}

/** Everything that closes at the moment, oldest first, with the `performance.now()` at which it is cut off. */
const lingering = new Map<Lingering, number>();
let timer: NodeJS.Timeout | undefined;

/** Calls `cutOff` in {@link LINGER_MS} unless {@link lingered} is called before. One timer serves all. */
export function linger(connection: Lingering): void {
  lingering.set(connection, performance.now() + LINGER_MS);
  if (timer === undefined) timer = setTimeout(expire, LINGER_MS).unref();
}

/** The connection is closed: nothing is left to cut off. */
export function lingered(connection: Lingering): void {
  lingering.delete(connection);
}

function expire(): void {
  timer = undefined;
  const now = performance.now();
  for (const [connection, until] of lingering) {
    // Timers may fire up to a millisecond early.
    if (until > now + 1) {
      timer = setTimeout(expire, until - now).unref();
      return;
    }
    lingering.delete(connection);
    connection.cutOff();
  }
}
