import type { Socket } from 'node:net';
import { CLOSES, type CloseReason } from '../shared/closes.js';
import type { ConnectionId } from '../shared/ids.js';
import { closeLine } from '../shared/protocol/events.js';
import { type Connection, type ConnectionListener, LINGER_MS } from './connection.js';
import { Framer } from './framer.js';
import type { InputBudget } from './input-budget.js';
import { linger, lingered } from './linger.js';
import { Output } from './output.js';

/** Input held beyond one largest frame before reading pauses, bytes: what Node reads at a time. */
const READ_AHEAD_BYTES = 64 * 1024;

/** Where a socket keeps its connection, so that the event handlers below can be the same for all sockets. */
const kConnection: unique symbol = Symbol('connection');

declare module 'net' {
  interface Socket {
    [kConnection]?: TcpConnection;
  }
}

/** What all connections of one listener share. */
export interface TcpShared {
  readonly listener: ConnectionListener;
  readonly maxFrameBytes: number;
  readonly outputLimitBytes: number;
  readonly input: InputBudget;
  readonly transport: 'tcp' | 'tls';
  /** Sockets that are not closed yet, refused ones included. */
  readonly open: Set<TcpConnection>;
  /** Called when the last of them has closed. */
  emptied: (() => void) | undefined;
}

/** A client on a TCP or TLS socket. Idle, it costs under 1 KB beside what Node's socket takes. */
export class TcpConnection implements Connection {
  readonly id: ConnectionId;
  readonly remote: string;
  ended = false;
  private readonly socket: Socket;
  private readonly shared: TcpShared;
  private readonly framer: Framer;
  private readonly output: Output;
  private receivedAt = performance.now();
  private reason: CloseReason | undefined;
  private detail: string | undefined;
  private failed = false;
  private refused = false;
  private heldByCore = false;
  private full = false;
  /** Bytes that the budget knows of. */
  private counted = 0;
  private reading = true;

  constructor(id: ConnectionId, socket: Socket, shared: TcpShared) {
    this.id = id;
    this.remote = remoteOf(socket);
    this.socket = socket;
    this.shared = shared;
    this.framer = new Framer(shared.maxFrameBytes);
    this.output = new Output(socket, shared.outputLimitBytes);
  }

  /** Shows the connection to the core. Nothing is read before that. */
  open(): void {
    const { socket, shared } = this;
    shared.open.add(this);
    socket[kConnection] = this;
    socket.on('error', onError).on('close', onClose).on('end', onEnd).on('drain', onDrain).on('data', onData);
    // What OpenSSL finds wrong after the handshake: `error` says it only for sockets made by a `tls.Server`.
    if (shared.transport === 'tls') socket.on('_tlsError', onTlsError);
    const refusal = shared.listener.opened(this);
    if (refusal === undefined) return;
    this.refused = true;
    this.close(refusal);
  }

  get transport(): string {
    return this.shared.transport;
  }

  get lastReceivedAt(): number {
    // While we don't read, the silence is ours.
    return this.reading ? this.receivedAt : performance.now();
  }

  get pendingInput(): number {
    return this.framer.bytes;
  }

  get pendingOutput(): number {
    return this.output.waiting;
  }

  get readable(): boolean {
    return this.framer.readable;
  }

  take(): Buffer | 'too-large' | undefined {
    const frame = this.framer.take();
    this.account();
    if (!this.reading) this.regulate();
    return frame;
  }

  send(line: Buffer, volatile = false): void {
    if (this.reason !== undefined || this.socket.destroyed) return;
    if (!this.output.send(line, volatile)) this.close('SLOW_CONSUMER');
  }

  pause(paused: boolean): void {
    if (this.reason !== undefined) return;
    this.heldByCore = paused;
    this.regulate();
  }

  close(reason: CloseReason, line?: Buffer): void {
    if (this.reason !== undefined) return;
    this.reason = reason;
    // Input is read on and thrown away: closing a socket with unread input resets it, and a reset takes
    // the announcement from the client's receive buffer.
    this.framer.clear();
    this.account();
    this.heldByCore = false;
    this.regulate();
    this.output.end(line ?? (CLOSES[reason].announced ? Buffer.from(closeLine(reason)) : undefined));
    if (!this.socket.closed) linger(this);
  }

  /** Closes without sending what is queued. */
  destroy(reason: CloseReason): void {
    this.reason ??= reason;
    this.socket.destroy();
  }

  /** The time to send what was queued when the connection closed is over. */
  cutOff(): void {
    if (!this.socket.writableFinished) {
      this.detail ??= `cut off after ${LINGER_MS} ms with ${this.pendingOutput} bytes unsent`;
    }
    this.socket.destroy();
  }

  received(chunk: Buffer): void {
    this.receivedAt = performance.now();
    if (this.reason !== undefined) return;
    const told = this.framer.readable;
    this.framer.push(chunk);
    const readable = this.framer.readable;
    this.account();
    if (!told && readable) this.shared.listener.readable(this);
    this.regulate();
  }

  inputEnded(): void {
    this.ended = true;
    if (this.reason === undefined && !this.framer.readable) this.shared.listener.readable(this);
  }

  drained(): void {
    this.output.drained();
  }

  broke(error: NodeJS.ErrnoException): void {
    this.failed = true;
    this.detail ??= error.code === undefined ? error.message : `${error.syscall ?? ''} ${error.code}`.trim();
  }

  gone(): void {
    const { listener, open } = this.shared;
    lingered(this);
    // A client that said goodbye and then resets what we still send is gone, not broken.
    this.reason ??= this.failed && !this.ended ? 'SOCKET_ERROR' : 'CLIENT_GONE';
    const { dropped } = this.output;
    const drops = dropped > 0 ? `${dropped} volatile lines dropped` : undefined;
    const detail = [this.detail, drops].filter((part) => part !== undefined).join(', ');
    this.framer.clear();
    this.account();
    this.shared.input.leave(this);
    this.output.clear();
    if (!this.refused) {
      if (detail === '') listener.closed(this, this.reason);
      else listener.closed(this, this.reason, detail);
    }
    open.delete(this);
    if (open.size === 0) this.shared.emptied?.();
  }

  mayRead(): void {
    this.regulate();
  }

  /** Tells the budget what came or went. */
  private account(): void {
    const change = this.framer.bytes - this.counted;
    if (change === 0) return;
    this.counted = this.framer.bytes;
    this.shared.input.moved(change);
  }

  /** Reads or stops reading, for the core's reasons or ours. */
  private regulate(): void {
    const { maxFrameBytes, input } = this.shared;
    const limit = maxFrameBytes + READ_AHEAD_BYTES;
    this.full = this.framer.bytes > (this.full ? limit / 2 : limit);
    const crowded = input.isTight && this.framer.readable;
    const reading = !this.full && !this.heldByCore && !crowded;
    if (reading === this.reading) return;
    this.reading = reading;
    if (crowded) input.wait(this);
    else input.leave(this);
    if (reading) {
      this.receivedAt = performance.now();
      this.socket.resume();
    } else {
      this.socket.pause();
    }
  }
}

function onData(this: Socket, chunk: Buffer): void {
  this[kConnection]?.received(chunk);
}

function onEnd(this: Socket): void {
  this[kConnection]?.inputEnded();
}

function onDrain(this: Socket): void {
  this[kConnection]?.drained();
}

function onError(this: Socket, error: NodeJS.ErrnoException): void {
  this[kConnection]?.broke(error);
}

function onTlsError(this: Socket, error: NodeJS.ErrnoException): void {
  this[kConnection]?.broke(error);
  this.destroy();
}

function onClose(this: Socket): void {
  this[kConnection]?.gone();
}

/** `address:port`; an IPv4 client of an IPv6 listener is shown as what it is. */
function remoteOf(socket: Socket): string {
  const { remoteAddress, remotePort } = socket;
  // Gone between the accept and now; `closed` follows.
  if (remoteAddress === undefined) return 'unknown:0';
  const address = remoteAddress.startsWith('::ffff:') ? remoteAddress.slice(7) : remoteAddress;
  return address.includes(':') ? `[${address}]:${remotePort}` : `${address}:${remotePort}`;
}
