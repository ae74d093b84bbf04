import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Connection, createConnection } from 'mysql2/promise';
import type { Test } from 'tap';
import type { Step, TranscriptLine } from '../../src/docs/transcript.js';
import { connectionOptions } from '../../src/workers/store/connection-options.js';
import { type TestServer, tokenFor } from './server.js';

/** Names in the order of their ids, which begin with 1. */
const PEOPLE = ['mina', 'jun', 'sora', 'hyun', 'bora'];

const PATIENCE_MS = 8000;
/** Recording: what comes within this time came of the step; after a break longer than the grace time of the tests. */
const QUIET_MS = 180;
const QUIET_AFTER_BREAK_MS = 1000;
/** Ids of requests that are not in the transcript. */
const BARRIER = 'barrier ';

/** A bare connection: the lines in the order they came, replies and events together. */
class Wire {
  readonly lines: string[] = [];
  isClosed = false;
  readonly #socket: Socket;
  #partial = '';

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.setEncoding('utf8');
    socket.on('data', (text: string) => {
      const lines = (this.#partial + text).split('\n');
      this.#partial = lines.pop() ?? '';
      this.lines.push(...lines);
    });
    socket.on('error', () => undefined);
    socket.on('close', () => {
      this.isClosed = true;
    });
  }

  send(line: string): void {
    this.#socket.write(`${line}\n`);
  }

  hangUp(): void {
    this.#socket.resetAndDestroy();
  }
}

/** Plays the steps of a transcript on a server and tells what everybody got. */
export class TranscriptPlayer {
  readonly #t: Test;
  readonly #server: TestServer;
  readonly #wires = new Map<string, Wire>();
  #blocker: Connection | undefined;
  #barriers = 0;
  #nextCursor = '';

  constructor(t: Test, server: TestServer) {
    this.#t = t;
    this.#server = server;
    t.teardown(() => this.#blocker?.destroy());
  }

  /**
   * Does what the step does and returns it with all that came of it, the sender first. Waits for what the step
   * expects; `record`: for whatever comes.
   */
  async play(step: Step, record: boolean): Promise<TranscriptLine[]> {
    const done: TranscriptLine[] = [];
    for (const line of step.lines) {
      if (line.kind === 'gets' || line.kind === 'is closed') continue;
      await this.#do(line);
      done.push(line);
      if (line.kind === 'connects') done.push(...(await this.#hello(line.who)));
    }
    const isBreak = done.some((line) => line.kind === 'world' || line.kind === 'hangs up');
    if (record) await sleep(isBreak ? QUIET_AFTER_BREAK_MS : QUIET_MS);
    else await this.#until(() => this.#hasAll(step));
    await this.#barrier(step);
    const first = done.find((line) => line.kind !== 'world');
    const names = [...this.#wires.keys()].sort((a, b) => Number(b === first?.who) - Number(a === first?.who));
    for (const who of names) done.push(...this.#collect(who));
    return done;
  }

  /** The server speaks first. */
  async #hello(who: string): Promise<TranscriptLine[]> {
    const lines = this.#wires.get(who)?.lines ?? [];
    await this.#until(() => lines.length > 0);
    return lines.splice(0, 1).map((frame) => ({ kind: 'gets', who, frame }));
  }

  async #do(line: TranscriptLine): Promise<void> {
    switch (line.kind) {
      case 'connects': {
        const socket = connect({ host: '127.0.0.1', port: this.#server.port });
        this.#t.teardown(() => socket.destroy());
        this.#wires.set(line.who, new Wire(socket));
        await once(socket, 'connect');
        return;
      }
      case 'sends':
        this.#wires.get(line.who)?.send(await this.#spellOut(line.frame));
        return;
      case 'hangs up':
        this.#wires.get(line.who)?.hangUp();
        return;
      case 'world':
        await this.#change(line.what);
    }
  }

  /** Puts in what a transcript can't hold: tokens, cursors, very long texts. */
  async #spellOut(frame: string): Promise<string> {
    let line = frame.replace(/\(a × (\d+)\)/, (_, count: string) => 'a'.repeat(Number(count)));
    line = line.replace('(nextCursor)', this.#nextCursor);
    const [token, name = '', seconds = '3600'] = /eyJ…(\w+)(?: for (\d+) s)?/.exec(line) ?? [];
    if (token !== undefined) {
      line = line.replace(token, await tokenFor(PEOPLE.indexOf(name) + 1, Number(seconds)));
    }
    return line;
  }

  async #change(what: string): Promise<void> {
    switch (what) {
      case 'the database hangs':
        this.#blocker = await createConnection(connectionOptions(this.#server.databaseUrl));
        await this.#blocker.query('LOCK TABLES chat_room WRITE');
        return;
      case 'the database answers again':
        await this.#blocker?.query('UNLOCK TABLES');
        // As long as retryAfterMs says.
        await sleep(1500);
        return;
      case 'the server stops':
        void this.#server.server.stop();
        return;
      default:
        throw new Error(`the player does not know how ${what}`);
    }
  }

  #hasAll(step: Step): boolean {
    for (const [who, wire] of this.#wires) {
      const isTheirs = (line: TranscriptLine) => line.kind !== 'world' && line.who === who;
      const isNew = step.lines.some((line) => line.kind === 'connects' && isTheirs(line));
      const expected = step.lines.filter((line) => line.kind === 'gets' && isTheirs(line)).length;
      // Its hello was collected when it connected.
      if (wire.lines.length < expected - (isNew ? 1 : 0)) return false;
      const closes = step.lines.some((line) => line.kind === 'is closed' && line.who === who);
      if (closes && !wire.isClosed) return false;
    }
    return true;
  }

  /** What was on its way to anybody has arrived when everybody's ping is answered. */
  async #barrier(step: Step): Promise<void> {
    if (step.lines.some((line) => line.kind === 'world' && line.what === 'the server stops')) return;
    const ping = JSON.stringify({ id: `${BARRIER}${++this.#barriers}`, type: 'ping' });
    for (const wire of this.#wires.values()) wire.send(ping);
    const isBack = (wire: Wire) =>
      wire.isClosed || wire.lines.some((line) => line.includes(`"id":"${BARRIER}${this.#barriers}"`));
    await this.#until(() => [...this.#wires.values()].every(isBack));
  }

  #collect(who: string): TranscriptLine[] {
    const wire = this.#wires.get(who);
    if (wire === undefined) return [];
    const lines = wire.lines.splice(0).filter((line) => !line.includes(`"id":"${BARRIER}`));
    for (const line of lines) this.#nextCursor = /"nextCursor":"([^"]*)"/.exec(line)?.[1] ?? this.#nextCursor;
    const got = lines.map((frame): TranscriptLine => ({ kind: 'gets', who, frame }));
    if (wire.isClosed) {
      this.#wires.delete(who);
      got.push({ kind: 'is closed', who });
    }
    return got;
  }

  async #until(fulfilled: () => boolean): Promise<void> {
    const giveUpAt = performance.now() + PATIENCE_MS;
    while (!fulfilled() && performance.now() < giveUpAt) await sleep(5);
  }
}

/** What differs from run to run: compared by type, and times by being the same where they were the same. */
const VOLATILE = /^(\w+At|sessionId|server|reconnectAfterMs|retryAfterMs|nextCursor)$/;
/** These are read off a clock for every answer; all other times are of an event that several answers may tell. */
const OWN_CLOCK = new Set(['serverAt', 'lastActiveAt', 'tokenExpiresAt']);

type Json = string | number | boolean | null | Json[] | { [key: string]: Json };

/** Makes what was got comparable with what the transcript says. */
export class Comparison {
  readonly #times = new Map<string, number>();

  /** The frame, with the transcript's values where only the run differs. */
  align(expected: string, actual: string): string {
    return JSON.stringify(this.#align(JSON.parse(expected), JSON.parse(actual), ''));
  }

  #align(expected: Json | undefined, actual: Json, key: string): Json {
    if (Array.isArray(actual)) {
      return actual.map((value, i) =>
        this.#align(Array.isArray(expected) ? expected[i] : undefined, value, key),
      );
    }
    if (isObject(actual)) {
      const entries = Object.entries(actual).map(([name, value]) => {
        return [name, this.#align(isObject(expected) ? expected[name] : undefined, value, name)];
      });
      return Object.fromEntries(entries);
    }
    if (expected === undefined || !VOLATILE.test(key) || typeof expected !== typeof actual) return actual;
    return this.#isSameTime(key, expected, actual) ? expected : actual;
  }

  #isSameTime(key: string, expected: Json, actual: Json): boolean {
    if (typeof expected !== 'number' || typeof actual !== 'number' || !key.endsWith('At')) return true;
    if (OWN_CLOCK.has(key)) return true;
    const known = this.#times.get(String(expected));
    this.#times.set(String(expected), known ?? actual);
    return known === undefined || known === actual;
  }
}

/** Puts values in the place of volatile ones that look the same in every recording. */
export class Sampler {
  /** Monday 5 January 2026, noon in Seoul. */
  readonly #start = Date.UTC(2026, 0, 5, 3);
  readonly #times = new Map<string, number>();

  sample(frame: string): string {
    return JSON.stringify(this.#sample(JSON.parse(frame), ''));
  }

  #sample(value: Json, key: string): Json {
    if (Array.isArray(value)) return value.map((item) => this.#sample(item, key));
    if (isObject(value)) {
      return Object.fromEntries(
        Object.entries(value).map(([name, item]) => [name, this.#sample(item, name)]),
      );
    }
    if (value === null || !VOLATILE.test(key)) return value;
    if (key === 'server') return 'host-1.4242.9f2c61d0';
    if (key === 'reconnectAfterMs') return 2750;
    if (key === 'retryAfterMs') return 850;
    if (key === 'nextCursor')
      return String(value).replace(/^\d{13}/, (at) => String(this.#time('', Number(at))));
    return typeof value === 'number' ? this.#time(OWN_CLOCK.has(key) ? key : '', value) : value;
  }

  #time(clock: string, at: number): number {
    const known = this.#times.get(`${clock} ${at}`);
    if (known !== undefined) return known;
    // Times to come keep their distance from now, to ten seconds.
    const ahead = Math.max(0, Math.round((at - Date.now()) / 10_000) * 10_000);
    const sample = this.#start + this.#times.size * 1000 + ahead;
    this.#times.set(`${clock} ${at}`, sample);
    return sample;
  }
}

function isObject(value: Json | undefined): value is { [key: string]: Json } {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
