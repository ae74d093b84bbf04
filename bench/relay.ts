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
  /** Lines of the others, to be written at the end of this turn. */
  queue: Buffer[];
}

function relay() {
  const peers = new Set<Peer>();
  let isScheduled = false;

  const copy = (from: Peer, line: Buffer) => {
    for (const peer of peers) if (peer !== from) peer.queue.push(line);
    if (isScheduled) return;
    isScheduled = true;
    setImmediate(flush);
  };
  const flush = () => {
    isScheduled = false;
    for (const peer of peers) {
      if (peer.queue.length === 0) continue;
      peer.socket.write(Buffer.concat(peer.queue));
      peer.queue = [];
    }
  };

  return createServer({ noDelay: true }, (socket) => {
    const peer: Peer = { socket, rest: undefined, queue: [] };
    peers.add(peer);
    socket.write(HELLO);
    socket.on('error', ignore);
    socket.on('close', () => peers.delete(peer));
    socket.on('data', (chunk: Buffer) => {
      const bytes = peer.rest === undefined ? chunk : Buffer.concat([peer.rest, chunk]);
      let start = 0;
      for (let end = bytes.indexOf(10) + 1; end > 0; end = bytes.indexOf(10, start) + 1) {
        copy(peer, bytes.subarray(start, end));
        start = end;
      }
      peer.rest = start < bytes.length ? bytes.subarray(start) : undefined;
    });
  });
}
