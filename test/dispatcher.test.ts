import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import type { Connection } from '../src/io/connection.js';
import { Client } from '../src/main/client.js';
import { Dispatcher, type DispatcherOptions, type TaskRunner } from '../src/main/dispatcher.js';
import { Router } from '../src/main/router.js';
import { type Slot, unpackBatch } from '../src/shared/batch.js';
import type { CloseReason } from '../src/shared/closes.js';
import { EffectWriter } from '../src/shared/effects.js';
import { type ConnectionId, id, type RoomId } from '../src/shared/ids.js';
import type { Task, TaskAnswer } from '../src/shared/tasks.js';
import { until } from './support/courier.js';

/** A connection whose frames and unread output are what the test says. */
class FakeConnection implements Connection {
  readonly id: ConnectionId;
  readonly remote = '192.0.2.1:1';
  readonly transport = 'tcp';
  readonly lastReceivedAt = 0;
  readonly pendingInput = 0;
  pendingOutput = 0;
  ended = false;
  readonly frames: (Buffer | 'too-large')[] = [];
  readonly sent: string[] = [];
  closed: CloseReason | undefined;
  lastLine: string | undefined;

  constructor(number: number) {
    this.id = id.connection(number);
  }

  get readable(): boolean {
    return this.frames.length > 0;
  }

  take(): Buffer | 'too-large' | undefined {
    return this.frames.shift();
  }

  send(line: Buffer): void {
    this.sent.push(line.toString());
  }

  pause(): void {}

  close(reason: CloseReason, line?: Buffer): void {
    this.closed ??= reason;
    this.lastLine = line?.toString();
    this.frames.length = 0;
  }
}

/** A batch that a worker has in hand. */
interface Given {
  readonly number: number;
  readonly overtaking: boolean;
  readonly slots: Slot[];
  /** Ends it, with the effects written so far. */
  done(): void;
  /** Hands over effects before the end. */
  effects(write: (effects: EffectWriter) => void): void;
  /** The thread dies. */
  die(): void;
}

/** Workers that do what the test says. */
class FakeWorkers implements TaskRunner {
  readonly threads = 1;
  readonly given: Given[] = [];
  dispatcher: Dispatcher | undefined;

  run(task: Task): Promise<TaskAnswer> {
    if (task.kind !== 'frames') throw new Error(`not a batch: ${task.kind}`);
    const { batch } = task;
    const { promise, resolve, reject } = withResolvers<TaskAnswer>();
    const post = (done: boolean, write?: (effects: EffectWriter) => void): void => {
      const effects = new EffectWriter();
      write?.(effects);
      this.dispatcher?.message({ kind: 'effects', batch, done, pack: effects.finish() });
    };
    this.given.push({
      number: batch,
      overtaking: task.overtaking,
      slots: unpackBatch(task),
      done: () => {
        post(true);
        resolve({ ok: true });
      },
      effects: (write) => post(false, write),
      die: () => reject(new Error('the thread died')),
    });
    return promise;
  }

  /** The batch that comes next. */
  async next(): Promise<Given> {
    await until('a batch comes', () => this.given.length > 0, 2000);
    const given = this.given.shift();
    if (given === undefined) throw new Error('no batch');
    return given;
  }
}

function withResolvers<T>() {
  let resolve: (value: T) => void = () => undefined;
  let reject: (error: Error) => void = () => undefined;
  const promise = new Promise<T>((ok, fail) => {
    resolve = ok;
    reject = fail;
  });
  return { promise, resolve, reject };
}

function setUp(t: Test, options: Partial<DispatcherOptions> = {}) {
  const workers = new FakeWorkers();
  const doubts: RoomId[][] = [];
  const router = new Router({
    resume: (client, executed, line) => dispatcher.resume(client, executed, line),
    overtook: (client, place) => dispatcher.overtook(client, place),
    freed: (client) => dispatcher.freed(client),
    holeFound: () => undefined,
    suspect: () => undefined,
    inDoubt: (roomIds) => doubts.push([...roomIds]),
    sessionLost: () => undefined,
  });
  const dispatcher = new Dispatcher(workers, router, {
    framesPerSecond: 0,
    outputLimitBytes: 1000,
    ...options,
  });
  workers.dispatcher = dispatcher;
  t.teardown(() => dispatcher.stop());
  let count = 0;
  const connect = () => {
    const connection = new FakeConnection(++count);
    const client = new Client(connection);
    router.add(client);
    /** The client sends these. */
    const send = (...frames: (string | 'too-large')[]) => {
      for (const frame of frames) {
        connection.frames.push(frame === 'too-large' ? frame : Buffer.from(frame));
      }
      dispatcher.readable(client);
    };
    return { connection, client, send };
  };
  return { workers, router, dispatcher, doubts, connect };
}

/** What a batch holds, per connection. */
function contents({ slots }: Given): Record<number, string[]> {
  return Object.fromEntries(
    slots.map(({ caller, frames }) => [
      caller.connection,
      frames.map(({ bytes }) => Buffer.from(bytes).toString()),
    ]),
  );
}

t.test('a thread that dies ends the connections it served, and only those', async (t) => {
  const { workers, dispatcher, doubts, connect } = setUp(t);
  const one = connect();
  const other = connect();
  one.send('a', 'b');
  const first = await workers.next();
  other.send('c');
  const second = await workers.next();
  first.die();
  await until('it is closed', () => one.connection.closed !== undefined);
  t.equal(one.connection.closed, 'INTERNAL');
  t.match(JSON.parse(one.connection.lastLine ?? ''), {
    type: 'error',
    id: null,
    error: { code: 'INTERNAL', traceId: /^[0-9a-f-]{36}$/ },
  });
  t.equal(doubts.length, 1, 'what it may have committed is looked for');
  second.effects((effects) => effects.reply(other.connection.id, 'reply\n'));
  second.done();
  t.same(other.connection.sent, ['reply\n']);
  t.equal(other.connection.closed, undefined);
  other.send('d');
  t.same(contents(await workers.next()), { 2: ['d'] }, 'the server goes on');
  t.notOk(dispatcher.isIdle);
});

t.test('a connection that a batch is done with outlives the death of its thread', async (t) => {
  const { workers, connect } = setUp(t);
  const one = connect();
  const other = connect();
  one.send('a');
  other.send('b');
  const batch = await workers.next();
  t.same(contents(batch), { 1: ['a'], 2: ['b'] }, 'what comes in one turn goes in one batch');
  batch.effects((effects) => effects.freed(one.connection.id));
  one.send('c');
  const next = await workers.next();
  t.same(contents(next), { 1: ['c'] }, 'and need not wait for the rest of it');
  batch.die();
  await until('the other one is closed', () => other.connection.closed !== undefined);
  t.equal(one.connection.closed, undefined);
  one.send('d');
  await sleep(20);
  t.equal(workers.given.length, 0, 'c is still under way');
  next.done();
  t.same(contents(await workers.next()), { 1: ['d'] });
});

t.test('of a connection one batch is under way, and its frames keep their order', async (t) => {
  const { workers, connect } = setUp(t);
  const one = connect();
  one.send(...Array.from({ length: 100 }, (_, n) => `${n}`));
  const first = await workers.next();
  t.same(
    contents(first)[1],
    Array.from({ length: 64 }, (_, n) => `${n}`),
    'one connection does not fill it',
  );
  one.send('100');
  await sleep(20);
  t.equal(workers.given.length, 0);
  first.done();
  const second = await workers.next();
  t.same(
    contents(second)[1],
    Array.from({ length: 37 }, (_, n) => `${64 + n}`),
  );
});

t.test('frames before one that is too large are answered, then the connection is closed', async (t) => {
  const { workers, connect } = setUp(t);
  const one = connect();
  one.send('a', 'b', 'too-large');
  const batch = await workers.next();
  t.same(contents(batch), { 1: ['a', 'b'] });
  t.equal(one.connection.closed, undefined);
  batch.done();
  t.equal(one.connection.closed, 'TOO_LARGE');
});

t.test('a client that has ended is let go when everything is answered', async (t) => {
  const { workers, connect } = setUp(t);
  const one = connect();
  one.connection.ended = true;
  one.send('a');
  const batch = await workers.next();
  t.equal(one.connection.closed, undefined);
  batch.done();
  t.equal(one.connection.closed, 'CLIENT_GONE');
});

t.test('requests of a client wait until it has read what it got', async (t) => {
  const { workers, dispatcher, connect } = setUp(t);
  const one = connect();
  one.connection.pendingOutput = 251;
  one.send('a');
  await sleep(150);
  t.equal(workers.given.length, 0);
  t.ok(one.client.unreadSince > 0);
  await until('a stop need not wait for it', () => dispatcher.isIdle, 1000);
  one.connection.pendingOutput = 250;
  t.same(contents(await workers.next()), { 1: ['a'] });
  t.equal(one.client.unreadSince, 0);
});

t.test('what a worker gives back waits too, and in its place', async (t) => {
  const { workers, connect } = setUp(t);
  const one = connect();
  one.send('a', 'b', 'c');
  const batch = await workers.next();
  one.send('d');
  one.connection.pendingOutput = 251;
  batch.effects((effects) => {
    effects.continue(one.connection.id, 1, '');
    effects.freed(one.connection.id);
  });
  batch.done();
  await sleep(100);
  t.equal(workers.given.length, 0);
  one.connection.pendingOutput = 0;
  t.same(contents(await workers.next()), { 1: ['b', 'c', 'd'] });
});

t.test('a client over its rate waits, others do not', async (t) => {
  const { workers, connect } = setUp(t, { framesPerSecond: 10 });
  const fast = connect();
  const other = connect();
  fast.send(...Array.from({ length: 12 }, (_, n) => `${n}`));
  const first = await workers.next();
  t.equal(contents(first)[1]?.length, 10);
  first.done();
  other.send('x');
  const second = await workers.next();
  t.same(contents(second), { 2: ['x'] });
  second.done();
  t.same(contents(await workers.next()), { 1: ['10'] }, 'after a tenth of a second');
});

t.test('while batches hang, small frames are looked at out of their turn, once', async (t) => {
  const { workers, connect } = setUp(t);
  const one = connect();
  one.send('send');
  const stuck = await workers.next();
  const large = 'x'.repeat(600);
  one.send('ping', 'history', large);
  const ahead = await workers.next();
  t.ok(ahead.overtaking);
  t.same(contents(ahead), { 1: ['ping', 'history'] });
  ahead.effects((effects) => effects.overtook(one.connection.id, 0));
  ahead.done();
  await sleep(150);
  t.equal(workers.given.length, 0, 'what needs the database keeps its place');
  one.send('ping again');
  const again = await workers.next();
  t.same(contents(again), { 1: ['ping again'] });
  again.done();
  stuck.done();
  const rest = await workers.next();
  t.notOk(rest.overtaking);
  t.same(contents(rest), { 1: ['history', large, 'ping again'] });
});
