import { createServer, type Server, type Socket } from 'node:net';
import { createSecureContext, TLSSocket } from 'node:tls';
import type { ConnectionId } from '../shared/ids.js';
import type { ConnectionListener, Transport } from './connection.js';
import type { InputBudget } from './input-budget.js';
import { TcpConnection, type TcpShared } from './tcp-connection.js';

/** When the operating system begins to probe a silent peer, ms; the heartbeat notices most deaths before. */
const KEEP_ALIVE_MS = 60_000;

export interface TcpOptions {
  /** Address to bind, and the port; 0 takes a free one. */
  readonly host: string;
  readonly port: number;
  /** Connections the operating system may hold before they are accepted. */
  readonly backlog: number;
  /** Bytes of the largest frame, newline included. */
  readonly maxFrameBytes: number;
  /** Bytes that may wait for one client. */
  readonly outputLimitBytes: number;
  /** What all connections may hold together; one for all transports of a process. */
  readonly input: InputBudget;
  /** Contents (not paths) of the PEM files, or `null` for plain TCP. */
  readonly tls: { readonly cert: string; readonly key: string } | null;
  /** The next id, never given before in this process. */
  nextId(): ConnectionId;
}

/**
 * Listens for clients that speak JSON lines over TCP or TLS. A TLS client is shown to the core when it is
 * accepted, before its handshake, so that connection limits and the login timeout hold for handshakes too.
 * @throws what `net.Server.listen` reports (`EADDRINUSE`, `EACCES` …) and what OpenSSL says to a bad certificate
 */
export async function listenTcp(options: TcpOptions, listener: ConnectionListener): Promise<Transport> {
  const secureContext = options.tls === null ? undefined : createSecureContext(options.tls);
  const shared: TcpShared = {
    listener,
    maxFrameBytes: options.maxFrameBytes,
    outputLimitBytes: options.outputLimitBytes,
    input: options.input,
    transport: secureContext === undefined ? 'tcp' : 'tls',
    open: new Set(),
    emptied: undefined,
  };
  const server = createServer(
    // Half open: `printf … | nc` ends its side at once and still wants its replies.
    { allowHalfOpen: true, noDelay: true, keepAlive: true, keepAliveInitialDelay: KEEP_ALIVE_MS },
    (raw: Socket) => {
      const socket =
        secureContext === undefined ? raw : new TLSSocket(raw, { isServer: true, secureContext });
      new TcpConnection(options.nextId(), socket, shared).open();
    },
  );
  await listening(server, options);
  server.on('error', (error) => listener.acceptFailed?.(error.message));
  return {
    address: addressOf(server, options.host),
    async stopListening() {
      // Takes the port away at once; its callback would wait for the last connection.
      server.close();
    },
    async destroy() {
      server.close();
      // Not the server's `close`: that comes before the last sockets have said theirs.
      const emptied = new Promise<void>((resolve) => {
        shared.emptied = resolve;
        if (shared.open.size === 0) resolve();
      });
      for (const connection of shared.open) connection.destroy('SERVER_CLOSING');
      await emptied;
    },
  };
}

function listening(server: Server, { host, port, backlog }: TcpOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host, port, backlog }, () => {
      server.removeListener('error', reject);
      resolve();
    });
  });
}

function addressOf(server: Server, host: string): Transport['address'] {
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error(`no port on ${host}`);
  return { host: address.address, port: address.port };
}
