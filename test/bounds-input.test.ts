import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import t, { type Test } from 'tap';
import type { Connection, ConnectionListener } from '../src/io/connection.js';
import { InputBudget } from '../src/io/input-budget.js';
import { listenTcp } from '../src/io/tcp.js';
import { id } from '../src/shared/ids.js';
import { until } from './support/courier.js';

const KIB = 1024;
const LIMIT = 1024 * KIB;

/** A core that takes nothing until it is told to. */
class IdleCore implements ConnectionListener {
  readonly connections: Connection[] = [];

  opened(connection: Connection): undefined {
    this.connections.push(connection);
  }

  readable(): void {}

  closed(): void {}

  /** Takes everything that is there; returns how many frames that was. */
  takeAll(): number {
    let frames = 0;
    for (const connection of this.connections) while (connection.take() !== undefined) frames++;
    return frames;
  }
}

async function start(t: Test, clients: number) {
  const core = new IdleCore();
  const input = new InputBudget(LIMIT);
  const transport = await listenTcp(
    {
      host: '127.0.0.1',
      port: 0,
      backlog: 128,
      maxFrameBytes: 512 * KIB,
      outputLimitBytes: LIMIT,
      input,
      tls: null,
      nextId: () => id.connection(core.connections.length + 1),
    },
    core,
  );
  t.teardown(() => transport.destroy());
  const sockets: Socket[] = [];
  for (let n = 0; n < clients; n++) {
    const socket = connect(transport.address.port, '127.0.0.1');
    t.teardown(() => socket.destroy());
    await once(socket, 'connect');
    sockets.push(socket);
  }
  await until('all are accepted', () => core.connections.length === clients);
  return { core, input, sockets };
}

/** Waits until nothing has changed for some turns of the event loop. */
async function settled(value: () => number): Promise<void> {
  let last = -1;
  let same = 0;
  await until('it is quiet', () => {
    same = value() === last ? same + 1 : 0;
    last = value();
    return same > 10;
  });
}

t.test('many clients that send faster than they are served are read slower, and lose nothing', async (t) => {
  const { core, input, sockets } = await start(t, 20);
  const line = `${'x'.repeat(KIB - 1)}\n`;
  const lines = 500;
  for (const socket of sockets) socket.write(line.repeat(lines));
  await settled(() => input.held);
  const alone = 20 * 512 * KIB;
  t.ok(input.held < 2 * LIMIT + 20 * 64 * KIB, `${input.held} bytes held, where ${alone} could be`);
  let taken = 0;
  await until('everything was taken', () => {
    taken += core.takeAll();
    return taken === 20 * lines;
  });
  t.equal(input.held, 0);
});

t.test('a client whose frame is not complete can go on while all others wait', async (t) => {
  const { core, input, sockets } = await start(t, 12);
  const [slow, ...others] = sockets;
  if (slow === undefined) throw new Error();
  slow.write('half');
  await until('the half is there', () => input.held === 4);
  for (const socket of others) socket.write(`${'x'.repeat(200 * KIB)}\n`);
  await until('the budget is used up', () => input.isTight);
  await settled(() => input.held);
  const before = input.held;
  slow.write('y'.repeat(300 * KIB));
  await until('more of it is there', () => input.held >= before + 300 * KIB);
  slow.write('end\n');
  await until('it is complete', () => core.connections[0]?.readable === true);
  t.equal(core.connections[0]?.take()?.length, 4 + 300 * KIB + 3);
});

t.test('what a client has sent is forgotten when it goes', async (t) => {
  const { core, input, sockets } = await start(t, 6);
  for (const socket of sockets) socket.write('x'.repeat(200 * KIB));
  await until('it is there', () => input.held === 6 * 200 * KIB);
  sockets[0]?.resetAndDestroy();
  await until('the first is forgotten', () => input.held === 5 * 200 * KIB);
  core.connections[1]?.close('SESSION_REVOKED');
  t.equal(input.held, 4 * 200 * KIB);
  for (const socket of sockets) socket.resetAndDestroy();
  await until('all are forgotten', () => input.held === 0);
});

t.test('a paused client is read again when others have gone', async (t) => {
  const { core, input, sockets } = await start(t, 5);
  const [last, ...others] = sockets;
  if (last === undefined) throw new Error();
  for (const socket of others) socket.write(`${'x'.repeat(200 * KIB)}\n`);
  await until('the budget is used up', () => input.isTight);
  last.write('a\n');
  await until('the first line is there', () => core.connections[0]?.readable === true);
  last.write(`${'b'.repeat(KIB)}\n`.repeat(100));
  await settled(() => input.held);
  const held = core.connections[0]?.pendingInput ?? 0;
  t.ok(held < 100 * KIB, 'not all of it is read');
  for (const connection of core.connections.slice(1)) connection.close('SESSION_REVOKED');
  await until('all of it is read', () => (core.connections[0]?.pendingInput ?? 0) > 100 * KIB);
});
