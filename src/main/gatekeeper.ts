import type { Connection, ConnectionListener } from '../io/connection.js';
import type { CloseReason } from '../shared/closes.js';
import { type ConnectionId, id } from '../shared/ids.js';
import { log } from '../shared/log.js';
import { type EventData, eventLine } from '../shared/protocol/events.js';
import { Client } from './client.js';
import type { Dispatcher } from './dispatcher.js';
import type { Router } from './router.js';

export interface GatekeeperOptions {
  readonly maxConnections: number;
  /** 0 = no limit. */
  readonly connectionsPerAddress: number;
  /** What `hello` says, but for the time. */
  readonly hello: Omit<EventData<'hello'>, 'serverAt'>;
}

/** Lets connections in and out: limits, `hello`, and why each one ended. The listener of every transport. */
export class Gatekeeper implements ConnectionListener {
  readonly #router: Router;
  readonly #dispatcher: Dispatcher;
  readonly #options: GatekeeperOptions;
  readonly #perAddress = new Map<string, number>();
  #lastId = 0;

  constructor(router: Router, dispatcher: Dispatcher, options: GatekeeperOptions) {
    this.#router = router;
    this.#dispatcher = dispatcher;
    this.#options = options;
  }

  /** Ids for all transports, so that none is given twice. */
  nextId(): ConnectionId {
    this.#lastId++;
    return id.connection(this.#lastId);
  }

  opened(connection: Connection): CloseReason | undefined {
    const address = addressOf(connection.remote);
    const count = this.#perAddress.get(address) ?? 0;
    const { maxConnections, connectionsPerAddress } = this.#options;
    const isOver = connectionsPerAddress > 0 && count >= connectionsPerAddress;
    if (isOver || this.#router.clients.size >= maxConnections) {
      log.connection.warn('refused', { remote: connection.remote, reason: 'TOO_MANY_CONNECTIONS' });
      return 'TOO_MANY_CONNECTIONS';
    }
    this.#perAddress.set(address, count + 1);
    this.#router.add(new Client(connection));
    connection.send(this.#hello());
    log.connection.info('opened', {
      connection: connection.id,
      transport: connection.transport,
      remote: connection.remote,
      connections: this.#router.clients.size,
    });
    return undefined;
  }

  readable(connection: Connection): void {
    const client = this.#router.clients.get(connection.id);
    if (client !== undefined) this.#dispatcher.readable(client);
  }

  closed(connection: Connection, reason: CloseReason, detail?: string): void {
    const client = this.#router.clients.get(connection.id);
    if (client === undefined) return;
    const address = addressOf(connection.remote);
    const count = (this.#perAddress.get(address) ?? 1) - 1;
    if (count > 0) this.#perAddress.set(address, count);
    else this.#perAddress.delete(address);
    const { userId: user, sessionId: session } = client;
    this.#router.remove(client, reason);
    log.connection.info('closed', {
      connection: connection.id,
      reason,
      detail,
      user: user === 0 ? undefined : user,
      session: session === 0 ? undefined : session,
      remote: connection.remote,
      seconds: Math.round((performance.now() - client.openedAt) / 1000),
      connections: this.#router.clients.size,
    });
  }

  acceptFailed(detail: string): void {
    log.connection.error('accept failed', { detail });
  }

  #hello(): Buffer {
    return Buffer.from(eventLine('hello', { ...this.#options.hello, serverAt: Date.now() }));
  }
}

/** The IP address without the port. */
function addressOf(remote: string): string {
  return remote.slice(0, remote.lastIndexOf(':'));
}
