import { eventLine } from '../shared/protocol/events.js';
import type { Client } from './client.js';

const TICK_MS = 100;
/** How long before the end of its token a client is told, ms (PROTOCOL 4). */
const EXPIRY_NOTICE_MS = 30_000;

export interface LivenessOptions {
  readonly heartbeatTimeoutMs: number;
  readonly loginTimeoutMs: number;
}

/**
 * The clocks of all connections, looked at together: a timer per connection would cost more memory than the rest
 * of the record, and a scan of 50,000 takes about a millisecond.
 */
export class Liveness {
  readonly #clients: ReadonlyMap<unknown, Client>;
  readonly #options: LivenessOptions;
  readonly #timer: NodeJS.Timeout;

  constructor(clients: ReadonlyMap<unknown, Client>, options: LivenessOptions) {
    this.#clients = clients;
    this.#options = options;
    this.#timer = setInterval(() => this.#scan(), TICK_MS);
    this.#timer.unref();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #scan(): void {
    const now = performance.now();
    const wallClock = Date.now();
    for (const client of this.#clients.values()) this.#check(client, now, wallClock);
  }

  #check(client: Client, now: number, wallClock: number): void {
    const { connection } = client;
    if (!client.isLoggedIn) {
      // A login that is under way may end; a stream of pings is no login and does not keep the connection.
      const { loginTimeoutMs } = this.#options;
      const overdue = now - client.openedAt - loginTimeoutMs;
      if (overdue > (client.inFlight === null ? 0 : loginTimeoutMs)) connection.close('LOGIN_TIMEOUT');
    } else if (client.expiresAt > 0) {
      this.#checkToken(client, wallClock);
    }
    // It may be gone without a word, or have forgotten us; its requests wait, so no heartbeat is due to tell.
    if (client.unreadSince > 0 && now - client.unreadSince > this.#options.heartbeatTimeoutMs) {
      connection.close('SLOW_CONSUMER');
    }
    // A client that we read slowly is not silent.
    if (now - connection.lastReceivedAt > this.#options.heartbeatTimeoutMs && client.isIdle) {
      connection.close('HEARTBEAT_TIMEOUT');
    }
  }

  #checkToken(client: Client, wallClock: number): void {
    if (wallClock >= client.expiresAt) {
      client.connection.close('SESSION_REVOKED');
    } else if (
      !client.isExpiryAnnounced &&
      client.hold === null &&
      wallClock >= client.expiresAt - EXPIRY_NOTICE_MS
    ) {
      client.isExpiryAnnounced = true;
      client.connection.send(
        Buffer.from(eventLine('session.expiring', { tokenExpiresAt: client.expiresAt })),
      );
    }
  }
}
