import type { CloseReason } from '../shared/closes.js';
import type { ConnectionId } from '../shared/ids.js';

/**
 * What a transport gives the core for every client. TCP, TLS and WebSocket are thin adapters that make one of
 * these; nothing above `src/io` knows which.
 *
 * Input is pulled: the transport keeps received bytes and calls {@link ConnectionListener.readable} when
 * a frame is there; the core takes frames when it has room for them. A transport stops reading from its
 * socket by itself while it holds more than it should, so a client that sends faster than it is served is
 * slowed down by TCP and nothing is dropped.
 */
export interface Connection {
  readonly id: ConnectionId;
  /** Remote IP address and port, e.g. `203.0.113.7:51112` or `[2001:db8::1]:51112`. */
  readonly remote: string;
  /** Name of the transport for the log: `tcp`, `tls`. */
  readonly transport: string;
  /** When the last bytes came in, `performance.now()` ms; now, while reading is paused. */
  readonly lastReceivedAt: number;
  /** Bytes received and not yet taken. */
  readonly pendingInput: number;
  /** Bytes given to {@link send} that the operating system has not taken yet. */
  readonly pendingOutput: number;
  /**
   * The next complete frame without its line end, `undefined` while there is none, or `'too-large'` when the
   * client went over the frame limit (nothing follows then, and reading has ended).
   */
  take(): Buffer | 'too-large' | undefined;
  /** Whether {@link take} would return something. */
  readonly readable: boolean;
  /**
   * The client has sent its FIN: nothing comes beside what can be taken now. It may still read (`printf … | nc`), so
   * the transport keeps the connection; the core calls `close('CLIENT_GONE')` once everything is taken and
   * answered. A last line without its newline is not a frame.
   */
  readonly ended: boolean;
  /**
   * Queues a line (JSON and `\n`). All lines of one turn of the event loop go out in one write.
   * `volatile` lines (typing, presence) are dropped while the client reads slowly. When more than the output
   * limit is waiting, the connection ends itself with `SLOW_CONSUMER`. The buffer must not be written to
   * afterwards; it may be shared by any number of connections.
   */
  send(line: Buffer, volatile?: boolean): void;
  /** Stops (`true`) or goes on (`false`) reading from the socket, beside what the transport decides itself. */
  pause(paused: boolean): void;
  /**
   * Sends what is queued, then the announcement if the reason has one (or `line` instead), and closes. A
   * peer that does not read is cut off after {@link LINGER_MS}. Nothing can be taken or sent any more, and later
   * calls do nothing.
   */
  close(reason: CloseReason, line?: Buffer): void;
}

/** How long a closing connection may take to send what is queued for it, ms. */
export const LINGER_MS = 2000;

/** What the core tells a transport to call; one object for all connections, so none costs a closure. */
export interface ConnectionListener {
  /**
   * A client connected. Returns the reason to refuse it, or nothing to keep it. Called before any byte is read.
   * A refused connection is closed with that reason by the transport and never heard of again.
   */
  opened(connection: Connection): CloseReason | undefined;
  /**
   * There is something to {@link Connection.take}, or {@link Connection.ended} has become true. Called again only after
   * everything was taken. Never called after {@link Connection.close}.
   */
  readable(connection: Connection): void;
  /**
   * The socket is closed, with the one reason for it: the one given to {@link Connection.close}, else `CLIENT_GONE` or
   * `SOCKET_ERROR`. Called exactly once per connection that `opened` kept. `detail` is for the log: the
   * system's error code, bytes that could not be sent, volatile lines dropped.
   */
  closed(connection: Connection, reason: CloseReason, detail?: string): void;
  /** The system would not hand a client over (`EMFILE` …); the transport goes on listening. For the log. */
  acceptFailed?(detail: string): void;
}

/** A listening transport. */
export interface Transport {
  /** Where it listens; the port is the real one where 0 was configured. */
  readonly address: { readonly host: string; readonly port: number };
  /** Stops accepting; connections stay. The port is free when it resolves. */
  stopListening(): Promise<void>;
  /** Stops accepting and cuts off what is still connected (`SERVER_CLOSING`); resolves after the last `closed`. */
  destroy(): Promise<void>;
}
