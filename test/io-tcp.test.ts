import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { setImmediate as turn } from 'node:timers/promises';
import { connect as connectTls } from 'node:tls';
import t, { type Test } from 'tap';
import type { Connection, ConnectionListener, Transport } from '../src/io/connection.js';
import { InputBudget } from '../src/io/input-budget.js';
import { listenTcp, type TcpOptions } from '../src/io/tcp.js';
import type { CloseReason } from '../src/shared/closes.js';
import { id } from '../src/shared/ids.js';

/** Compiled tests run from `dist/test`, which has no fixtures. */
const fixtures = new URL('fixtures/', import.meta.url.replace('/dist/test/', '/test/'));
const pem = (name: string) => readFileSync(new URL(name, fixtures), 'utf8');
const TLS = { cert: pem('tls-cert.pem'), key: pem('tls-key.pem') };

interface Closed {
  readonly connection: Connection;
  readonly reason: CloseReason;
  readonly detail: string | undefined;
}

/** Echoes every frame, as soon as it is there unless `idle`, and notes what the transport tells. */
class EchoCore implements ConnectionListener {
  readonly connections: Connection[] = [];
  readonly closes: Closed[] = [];
  calls = 0;
  idle = false;
  refuse: CloseReason | undefined;

  opened(connection: Connection): CloseReason | undefined {
    this.connections.push(connection);
    return this.refuse;
  }

  readable(connection: Connection): void {
    this.calls += 1;
    if (!this.idle) this.serve(connection);
  }

  serve(connection: Connection): void {
    for (;;) {
      const frame = connection.take();
      if (frame === undefined) break;
      if (frame === 'too-large') {
        connection.close('TOO_LARGE');
        return;
      }
      connection.send(Buffer.concat([frame, Buffer.from('\n')]));
    }
    if (connection.ended) connection.close('CLIENT_GONE');
  }

  closed(connection: Connection, reason: CloseReason, detail?: string): void {
    this.closes.push({ connection, reason, detail });
  }
}

/** Waits until a condition holds; the test fails with its name if that takes 20 s. */
async function until(what: string, condition: () => boolean): Promise<void> {
  const deadline = performance.now() + 20_000;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`still waiting until ${what}`);
    await turn();
  }
}

interface Fixture {
  readonly core: EchoCore;
  readonly transport: Transport;
  /** The server's side of a new client, and the client. */
  dial(): Promise<{ client: Client; connection: Connection }>;
}

async function serve(t: Test, options: Partial<TcpOptions> = {}): Promise<Fixture> {
  const core = new EchoCore();
  let count = 0;
  const transport = await listenTcp(
    {
      host: '127.0.0.1',
      port: 0,
      backlog: 128,
      maxFrameBytes: 1024 * 1024,
      outputLimitBytes: 8 * 1024 * 1024,
      input: new InputBudget(64 * 1024 * 1024),
      tls: null,
      nextId: () => id.connection(++count),
      ...options,
    },
    core,
  );
  t.teardown(() => transport.destroy());
  const dial = async () => {
    const before = core.connections.length;
    const raw = connect({ port: transport.address.port, host: '127.0.0.1', allowHalfOpen: true });
    const tls = options.tls ? connectTls({ socket: raw, ca: TLS.cert, servername: 'localhost' }) : undefined;
    const client = new Client(raw, tls);
    await once(tls ?? raw, tls ? 'secureConnect' : 'connect');
    t.teardown(() => client.socket.destroy());
    await until('the server sees the client', () => core.connections.length > before);
    const connection = core.connections[before];
    if (connection === undefined) throw new Error('no connection');
    return { client, connection };
  };
  return { core, transport, dial };
}

/** A client that notes everything it receives. */
class Client {
  readonly socket: Socket;
  /** What carries the TLS stream; else the same as `socket`. */
  readonly raw: Socket;
  received = '';
  ended = false;
  closed = false;
  error: Error | undefined;

  constructor(raw: Socket, tls?: Socket) {
    const socket = tls ?? raw;
    this.raw = raw;
    this.socket = socket;
    raw.on('error', () => {});
    socket.on('data', (chunk: Buffer) => {
      this.received += chunk.toString('latin1');
    });
    socket.on('end', () => {
      this.ended = true;
    });
    socket.on('error', (error) => {
      this.error = error;
    });
    socket.on('close', () => {
      this.closed = true;
    });
  }

  async receives(text: string): Promise<void> {
    const over = () => this.received.length >= text.length || this.ended || this.closed;
    await until(`${text.length} bytes were received`, over);
    if (this.received === text) return;
    const end = this.received.slice(-200);
    throw new Error(
      `${this.received.length} bytes instead of ${text.length} were received, at the end ${end}`,
    );
  }
}

/** An output limit for tests that are about input: the client here may be slow to read its echo. */
const ALL = 1024 ** 3;

const announcement = (code: CloseReason) =>
  new RegExp(`"type":"error","id":null,"error":\\{"code":"${code}".*\\}\\n$`);

for (const tls of [null, TLS]) {
  t.test(`over ${tls === null ? 'tcp' : 'tls'}`, async (t) => {
    t.test('a client gets its frames back, however they were cut', async (t) => {
      const { client, connection } = await (await serve(t, { tls })).dial();
      const text = '{"id":1}\n\r\n{"id":2,"x":"안녕"}\r\n{"id":3}\n';
      for (const byte of Buffer.from(text)) {
        client.socket.write(Buffer.of(byte));
        await turn();
      }
      await client.receives(Buffer.from('{"id":1}\n{"id":2,"x":"안녕"}\n{"id":3}\n').toString('latin1'));
      t.equal(connection.transport, tls === null ? 'tcp' : 'tls');
      t.equal(connection.remote, `127.0.0.1:${client.socket.localPort}`);
    });

    t.test('fifty thousand frames at once come back in order', async (t) => {
      const { client } = await (await serve(t, { tls })).dial();
      const text = Array.from({ length: 50_000 }, (_, index) => `{"id":${index}}\n`).join('');
      client.socket.write(text);
      await client.receives(text);
    });

    t.test('a frame of the largest size comes back', async (t) => {
      const { client } = await (await serve(t, { tls })).dial();
      const text = `${'x'.repeat(1024 * 1024 - 1)}\n`;
      client.socket.write(text);
      await client.receives(text);
    });

    t.test('a client that ends its side at once still gets its replies, then the end', async (t) => {
      const { core, dial } = await serve(t, { tls });
      const { client, connection } = await dial();
      core.idle = true;
      client.socket.end('{"id":1}\n{"id":2}\nno newline');
      await until('the server sees the end', () => connection.ended);
      t.equal(core.calls, 1, 'the core was told of the frames and not again of the end');
      for (let count = 0; count < 10; count += 1) await turn();
      core.serve(connection);
      await until('the connection is closed', () => core.closes.length === 1 && client.ended);
      t.equal(client.received, '{"id":1}\n{"id":2}\n');
      t.same(core.closes, [{ connection, reason: 'CLIENT_GONE', detail: undefined }]);
    });

    t.test('a client that says nothing and leaves is gone', async (t) => {
      const { core, dial } = await serve(t, { tls });
      const { client, connection } = await dial();
      client.socket.end();
      await until('the connection is closed', () => core.closes.length === 1);
      t.same(core.closes, [{ connection, reason: 'CLIENT_GONE', detail: undefined }]);
      t.equal(core.calls, 1, 'the core was told of the end');
    });

    t.test(
      'a frame that is too large is answered after the frames before it, then the connection ends',
      async (t) => {
        const { core, dial } = await serve(t, { tls, maxFrameBytes: 1024 });
        const { client } = await dial();
        client.socket.write(`one\ntwo\n${'x'.repeat(100_000)}`);
        await until('the client sees the end', () => client.ended);
        t.match(client.received, /^one\ntwo\n\{/);
        t.match(client.received, announcement('TOO_LARGE'));
        client.socket.end();
        await until('the connection is closed', () => core.closes.length === 1);
        t.equal(core.closes[0]?.reason, 'TOO_LARGE');
      },
    );

    t.test('the announcement of a close reaches a client that goes on sending', async (t) => {
      const { core, dial } = await serve(t, { tls });
      const { client, connection } = await dial();
      const noise = Buffer.from(`${'x'.repeat(999)}\n`.repeat(1000));
      let sending = true;
      const pump = () => {
        while (sending && !client.socket.destroyed && client.socket.write(noise)) {}
      };
      client.socket.on('drain', pump);
      core.idle = true;
      pump();
      await until('input waits', () => connection.pendingInput > 0);
      const calls = core.calls;
      connection.send(Buffer.from('queued\n'));
      connection.close('SESSION_REVOKED');
      t.equal(connection.take(), undefined, 'nothing can be taken after the close');
      await until('the client sees the end', () => client.ended || client.closed);
      sending = false;
      t.match(client.received, /^queued\n/);
      t.match(client.received, announcement('SESSION_REVOKED'));
      t.equal(client.error, undefined);
      client.socket.destroy();
      await until('the connection is closed', () => core.closes.length === 1);
      t.equal(core.closes[0]?.reason, 'SESSION_REVOKED');
      t.equal(core.calls, calls, 'the core hears of no input after the close');
    });

    t.test('a client that does not read is ended as SLOW_CONSUMER and then cut off', async (t) => {
      const { core, dial } = await serve(t, { tls, outputLimitBytes: 100_000 });
      const { client, connection } = await dial();
      client.socket.pause();
      const line = Buffer.from(`${'x'.repeat(9_999)}\n`);
      let most = 0;
      await until('the connection is closed', () => {
        connection.send(line);
        most = Math.max(most, connection.pendingOutput);
        return core.closes.length === 1;
      });
      t.equal(core.closes[0]?.reason, 'SLOW_CONSUMER');
      t.match(core.closes[0]?.detail, /^cut off after 2000 ms with \d+ bytes unsent$/);
      t.ok(most < 120_000, `${most} bytes waited`);
    });

    t.test('refused clients are told why, and the core hears no more of them', async (t) => {
      const { core, dial, transport } = await serve(t, { tls });
      core.refuse = 'TOO_MANY_CONNECTIONS';
      const { client } = await dial();
      client.socket.write('{"id":1}\n');
      await until('the client sees the end', () => client.ended);
      t.match(client.received, announcement('TOO_MANY_CONNECTIONS'));
      client.socket.end();
      await until('the client is closed', () => client.closed);
      await transport.destroy();
      t.equal(core.calls, 0);
      t.same(core.closes, []);
    });

    t.test('a client whose network breaks is reported once, with the cause', async (t) => {
      const { core, dial } = await serve(t, { tls });
      const { client, connection } = await dial();
      client.socket.write('{"id":1}\n');
      await client.receives('{"id":1}\n');
      client.raw.resetAndDestroy();
      await until('the connection is closed', () => core.closes.length > 0);
      t.same(core.closes, [{ connection, reason: 'SOCKET_ERROR', detail: 'read ECONNRESET' }]);
    });

    t.test('cutting off ends every connection and frees the port', async (t) => {
      const { core, dial, transport } = await serve(t, { tls });
      for (let count = 0; count < 5; count += 1) await dial();
      await transport.destroy();
      t.same(
        core.closes.map(({ reason }) => reason),
        Array.from({ length: 5 }, () => 'SERVER_CLOSING'),
      );
      const { port } = transport.address;
      const next = createServer();
      await new Promise<void>((resolve) => next.listen(port, '127.0.0.1', resolve));
      next.close();
    });
  });
}

t.test(
  'a client that speaks plain text to a TLS port is a socket error, and others are served',
  async (t) => {
    const { core, dial, transport } = await serve(t, { tls: TLS });
    const plain = new Client(connect({ port: transport.address.port, host: '127.0.0.1' }));
    t.teardown(() => plain.socket.destroy());
    plain.socket.write('{"id":1}\n{"id":2}\n{"id":3}\n');
    await until('it is closed', () => core.closes.length === 1 && plain.closed);
    t.equal(core.closes[0]?.reason, 'SOCKET_ERROR');
    t.match(core.closes[0]?.detail, /SSL/);
    const { client } = await dial();
    client.socket.write('{"id":1}\n');
    await client.receives('{"id":1}\n');
  },
);

/** A TLS client whose bytes pass through our hands: `toServer` carries the encrypted stream. */
async function interceptedTls(t: Test, port: number): Promise<{ client: Socket; toServer: Socket }> {
  const toServer = connect({ port, host: '127.0.0.1' });
  const proxy = createServer((fromClient) => {
    fromClient.on('error', () => {}).pipe(toServer, { end: false });
    toServer.pipe(fromClient);
  });
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  const address = proxy.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  const client = connectTls({ port: address.port, ca: TLS.cert, servername: 'localhost' });
  for (const socket of [client, toServer]) socket.on('error', () => {});
  t.teardown(() => {
    client.destroy();
    toServer.destroy();
    proxy.close();
  });
  return { client, toServer };
}

t.test('a client whose network breaks in the TLS handshake is reported once', async (t) => {
  const { core, transport } = await serve(t, { tls: TLS });
  const { toServer } = await interceptedTls(t, transport.address.port);
  await once(toServer, 'data');
  toServer.resetAndDestroy();
  await until('it is closed', () => core.closes.length > 0);
  await transport.destroy();
  t.equal(core.closes.length, 1);
  t.match(core.closes[0], { reason: 'SOCKET_ERROR', detail: /ECONNRESET/ });
});

t.test('a client that leaves in the TLS handshake is gone', async (t) => {
  const { core, transport } = await serve(t, { tls: TLS });
  const { client, toServer } = await interceptedTls(t, transport.address.port);
  toServer.once('data', () => toServer.unpipe());
  await once(toServer, 'data');
  toServer.end();
  await until('it is closed', () => core.closes.length > 0);
  client.destroy();
  await transport.destroy();
  t.equal(core.closes.length, 1);
});

t.test('bytes that are forged after the TLS handshake end the connection as a socket error', async (t) => {
  const { core, transport } = await serve(t, { tls: TLS });
  const { client, toServer } = await interceptedTls(t, transport.address.port);
  client.write('{"id":1}\n');
  await once(client, 'data');
  toServer.write('{"id":2}\n'.repeat(10));
  await until('it is closed', () => core.closes.length > 0);
  t.equal(core.calls, 1);
  t.match(core.closes, [{ reason: 'SOCKET_ERROR', detail: /SSL/ }]);
});

t.test('a client that sends faster than it is served waits, and loses nothing', async (t) => {
  const maxFrameBytes = 4096;
  const { core, dial } = await serve(t, { maxFrameBytes, outputLimitBytes: ALL });
  const { client, connection } = await dial();
  core.idle = true;
  const text = Array.from(
    { length: 400_000 },
    (_, index) => `{"id":${index},"pad":"${'x'.repeat(30)}"}\n`,
  ).join('');
  client.socket.write(text);
  await until(
    'the server has stopped reading',
    () =>
      connection.lastReceivedAt > 0 &&
      core.calls === 1 &&
      client.socket.writableLength > 0 &&
      connection.pendingInput > maxFrameBytes,
  );
  // Loopback moves megabytes per millisecond: were reading not stopped, this would take everything.
  for (let count = 0; count < 200; count += 1) await turn();
  t.ok(connection.pendingInput <= maxFrameBytes + 2 * 64 * 1024, `${connection.pendingInput} bytes are held`);
  t.equal(core.calls, 1, 'the core is told once');
  core.idle = false;
  core.serve(connection);
  await client.receives(text);
});

t.test('a paused client is not read from until it is resumed', async (t) => {
  const { core, dial } = await serve(t, { outputLimitBytes: ALL });
  const { client, connection } = await dial();
  client.socket.write('{"id":1}\n');
  await client.receives('{"id":1}\n');
  connection.pause(true);
  const text = '{"id":2}\n'.repeat(2_000_000);
  const written = new Promise<void>((resolve) => client.socket.write(text, () => resolve()));
  let all = false;
  void written.then(() => {
    all = true;
  });
  for (let count = 0; count < 200; count += 1) await turn();
  t.equal(all, false, 'the client waits');
  t.equal(core.calls, 1);
  t.ok(performance.now() - connection.lastReceivedAt < 5, 'a paused client is not silent');
  connection.pause(false);
  await client.receives(`{"id":1}\n${text}`);
});

t.test('a slow client loses typing before anything else, and the log can say how much', async (t) => {
  const { core, dial } = await serve(t, { outputLimitBytes: 1_000_000 });
  const { client, connection } = await dial();
  client.socket.pause();
  const line = Buffer.from(`${'m'.repeat(9_999)}\n`);
  let sent = 0;
  await until('more than a quarter of the limit waits', () => {
    connection.send(line);
    sent += 1;
    return connection.pendingOutput > 300_000;
  });
  for (let count = 0; count < 10; count += 1) connection.send(Buffer.from('typing\n'), true);
  connection.send(Buffer.from('last\n'));
  client.socket.resume();
  await client.receives(`${line.toString().repeat(sent)}last\n`);
  client.socket.end();
  await until('the connection is closed', () => core.closes.length === 1);
  t.equal(core.closes[0]?.detail, '10 volatile lines dropped');
});

t.test('the line given to close replaces the announcement, and only the first close counts', async (t) => {
  const { core, dial } = await serve(t);
  const { client, connection } = await dial();
  connection.close('INTERNAL', Buffer.from('{"mine":1}\n'));
  connection.close('LOGIN_TIMEOUT');
  connection.send(Buffer.from('late\n'));
  await until('the client sees the end', () => client.ended);
  t.equal(client.received, '{"mine":1}\n');
  client.socket.end();
  await until('the connection is closed', () => core.closes.length === 1);
  t.same(core.closes, [{ connection, reason: 'INTERNAL', detail: undefined }]);
});

t.test('a client that never closes its side is cut off without harm', async (t) => {
  const { core, dial } = await serve(t);
  const { client, connection } = await dial();
  connection.close('LOGOUT');
  await until('the connection is closed', () => core.closes.length === 1);
  t.ok(client.ended);
  t.same(core.closes, [{ connection, reason: 'LOGOUT', detail: undefined }]);
});

t.test('stopping to listen refuses new clients and keeps the old ones', async (t) => {
  const { dial, transport } = await serve(t);
  const { client } = await dial();
  await transport.stopListening();
  const late = new Client(connect({ port: transport.address.port, host: '127.0.0.1' }));
  await until('the late client is refused', () => late.closed);
  t.match(late.error, { code: 'ECONNREFUSED' });
  client.socket.write('{"id":1}\n');
  await client.receives('{"id":1}\n');
});

t.test('a port that is taken is reported to who starts the server', async (t) => {
  const { transport } = await serve(t);
  await t.rejects(serve(t, { port: transport.address.port }), { code: 'EADDRINUSE' });
});
