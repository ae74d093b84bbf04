import { createServer, type Socket } from 'node:net';
import { answer, child } from './job.js';

// Tells the client that its connection was accepted: from now on it gets what the others send.
const HELLO = '{"type":"hello"}\n';

/**
 * What a chat server is compared with. `relay` copies every line to all other connections with one write per
 * connection and turn of the event loop; it neither parses nor stores. `bare` accepts connections and ignores
 * what they send.
 */
child(async ({ kind }) => {
  const server = kind === 'relay' ? relay() : createServer(hold);
  server.listen({ host: '127.0.0.1', port: 0, backlog: 1024 }, () => {
    const address = server.address();
    if (address !== null && typeof address === 'object') answer({ type: 'listening', port: address.port });
  });
});

function ignore(): void {}

function hold(socket: Socket): void {
  socket.on('data', ignore).on('error', ignore);
  socket.write(HELLO);
}

interface Peer {
  readonly socket: Socket;
  /** The beginning of a line. */
  rest: Buffer | undefined;
  /** Whole lines for the others, of this turn. */
  lines: Buffer[];
}

function relay() {
  const peers = new Set<Peer>();
  let senders: Peer[] = [];

  const flush = () => {
    // Lines are put together once for everyone who sent nothing in this turn, and apart for those who did.
    const all = Buffer.concat(senders.flatMap((peer) => peer.lines));
    for (const peer of peers) {
      if (peer.lines.length === 0) {
        peer.socket.write(all);
      } else if (senders.length > 1) {
        peer.socket.write(Buffer.concat(senders.flatMap((other) => (other === peer ? [] : other.lines))));
      }
    }
    for (const peer of senders) peer.lines = [];
    senders = [];
  };

  return createServer({ noDelay: true }, (socket) => {
    const peer: Peer = { socket, rest: undefined, lines: [] };
    peers.add(peer);
    socket.write(HELLO);
    socket.on('error', ignore);
    socket.on('close', () => peers.delete(peer));
    socket.on('data', (chunk: Buffer) => {
      const end = chunk.lastIndexOf(10) + 1;
      const whole = chunk.subarray(0, end);
      if (end > 0) {
        if (senders.length === 0) setImmediate(flush);
        if (peer.lines.length === 0) senders.push(peer);
        if (peer.rest !== undefined) peer.lines.push(peer.rest);
        peer.lines.push(whole);
        peer.rest = undefined;
      }
      if (end < chunk.length) {
        const begin = chunk.subarray(end);
        peer.rest = peer.rest === undefined ? begin : Buffer.concat([peer.rest, begin]);
      }
    });
  });
}
