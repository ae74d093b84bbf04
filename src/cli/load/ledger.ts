import { createHistogram, type RecordableHistogram } from 'node:perf_hooks';
import { SeqSet } from './seq-set.js';

/** What the ledger needs of a `Message`. */
export interface Entry {
  readonly roomId: number;
  readonly seq: number;
  readonly kind: 'text' | 'image' | 'system';
  readonly text?: string | undefined;
  readonly clientMessageId?: string | undefined;
}

/** Percentiles of a latency, in ms with three decimals. */
export interface Latency {
  readonly count: number;
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
}

export interface Totals {
  /** Messages handed to `message.send`, each counted once however often it was repeated. */
  readonly sent: number;
  /** Of these, answered with `ok`. */
  readonly acknowledged: number;
  /** Of these, refused for good, with a code that is not retryable. */
  readonly refused: number;
  /** Acknowledged messages seen by a device other than the sender's: members − 1 per message when all is well. */
  readonly delivered: number;
  /** Acknowledged messages that a device has not got, and those missing in the history of their room. */
  readonly lost: number;
  /** Entries pushed twice on one connection, and messages stored under two numbers or two under one number. */
  readonly duplicated: number;
  /** Jumps and steps back of `seq` on a connection, holes in `sync` or history, `ok`s against the order of sending. */
  readonly outOfOrder: number;
  /** Entries whose content differs from what was sent, or that nobody sent. */
  readonly altered: number;
  /** First send to `ok`. */
  readonly toAcknowledged: Latency;
  /** First send until the last device of the room has it. */
  readonly toLastReceiver: Latency;
}

interface Sending {
  readonly key: string;
  readonly text: string;
  readonly senderId: number;
  /** ms on a monotonic clock. */
  readonly at: number;
  state: 'open' | 'acknowledged' | 'refused';
}

/** What is known of one (roomId, seq). A device may get an entry before its sender gets the `ok`. */
interface Known {
  readonly key: string | undefined;
  /** The text that the first one saw; the others must see the same. */
  readonly text: string | undefined;
  /** Set when acknowledged. */
  sending: Sending | undefined;
  /** Devices other than the sender's that have it. */
  receivers: number;
  /** When the last of them got it. */
  lastReceivedAt: number;
  inHistory: boolean;
}

interface RoomAccount {
  readonly devices: Map<number, DeviceAccount>;
  readonly entries: Map<number, Known>;
  /** `clientMessageId` → seq. */
  readonly seqOf: Map<string, number>;
}

interface DeviceAccount {
  /** `seq` up to which the device asked for nothing: its room began there for it. */
  readonly begin: number;
  /** What the device has, however it came. */
  readonly has: SeqSet;
  /** What this connection pushed, from {@link Ledger.connected} on. */
  live: SeqSet;
  /** The `lastSeq` of the login: what comes after it is pushed, and nothing else. */
  base: number;
  /** The largest `seq` pushed on this connection, `base` before the first. */
  last: number;
  /** The place in the order of sending of the last `ok`. */
  lastAttempt: number;
  /** Own entries answered with `duplicate: true`: they may be pushed here too, or not. */
  either: SeqSet;
}

/** Longest latency that is told apart, ms. */
const LONGEST_MS = 3_600_000;

/**
 * Keeps the books of a load run: what was sent and acknowledged, and what every device saw of it, each by
 * (roomId, seq). Pure: it knows neither sockets nor clocks, and is told everything.
 *
 * The rules are those of PROTOCOL 5 and 7. On one connection a room's entries come in `seq` order without holes,
 * each once, the `ok` of an own send standing for its entry. What `sync` returns may overlap with what is
 * pushed; a device that keeps (roomId, seq) sees each once, so an overlap is no fault.
 */
export class Ledger {
  readonly #rooms = new Map<number, RoomAccount>();
  readonly #sendings = new Map<string, Sending>();
  readonly #toAcknowledged = createHistogram();
  readonly #toLastReceiver = createHistogram();
  #acknowledged = 0;
  #refused = 0;
  #delivered = 0;
  #lost = 0;
  #duplicated = 0;
  #outOfOrder = 0;
  #altered = 0;
  /** Deliveries of acknowledged messages that are still to come. */
  #awaited = 0;
  readonly #faults: string[] = [];
  readonly #onSettled: () => void;

  /** `onSettled` is called whenever {@link settled} becomes true. */
  constructor(onSettled: () => void = () => {}) {
    this.#onSettled = onSettled;
  }

  /**
   * A device begins to follow a room, or does so again on a new connection. `lastSeq` is what the login (or
   * `room.added`) reported: everything after it is pushed. At the first time the device is taken to have, and
   * to need, nothing up to `lastSeq`. Devices must all be there before the room's first send.
   */
  connected(deviceId: number, roomId: number, lastSeq: number): void {
    let room = this.#rooms.get(roomId);
    if (room === undefined) {
      room = { devices: new Map(), entries: new Map(), seqOf: new Map() };
      this.#rooms.set(roomId, room);
    }
    const device = room.devices.get(deviceId);
    if (device === undefined) {
      room.devices.set(deviceId, {
        begin: lastSeq,
        has: new SeqSet(),
        live: new SeqSet(),
        base: lastSeq,
        last: lastSeq,
        lastAttempt: 0,
        either: new SeqSet(),
      });
    } else {
      device.live = new SeqSet();
      device.either = new SeqSet();
      device.base = lastSeq;
      device.last = lastSeq;
      device.lastAttempt = 0;
    }
  }

  /** The `seq` up to which the device has everything: its cursor for `sync`. */
  cursor(deviceId: number, roomId: number): number {
    const { device } = this.#account(deviceId, roomId);
    return device.has.contiguousFrom(device.begin);
  }

  /** A message is sent for the first time. `key` is its `clientMessageId`; `at` in ms of a monotonic clock. */
  sent(key: string, senderId: number, text: string, at: number): void {
    this.#sendings.set(key, { key, text, senderId, at, state: 'open' });
  }

  /** A send was refused for good. */
  refused(key: string, why: string): void {
    const sending = this.#sendings.get(key);
    if (sending === undefined || sending.state !== 'open') return;
    sending.state = 'refused';
    this.#refused++;
    this.#fault(`refused: ${why}`);
    this.#settle();
  }

  /**
   * The `ok` of a send. `attempt` counts the frames this device sent on this connection: requests take effect in
   * that order. Returns whether the entry came in order; if not, the device calls `sync`.
   */
  acknowledged(
    key: string,
    ok: { readonly roomId: number; readonly seq: number; readonly duplicate: boolean },
    attempt: number,
    at: number,
  ): boolean {
    const sending = this.#sendings.get(key);
    if (sending === undefined) {
      this.#altered++;
      this.#fault(`an ok for ${key}, which was never sent`);
      return true;
    }
    const { senderId, text } = sending;
    const { room, device } = this.#account(senderId, ok.roomId);
    const first = sending.state === 'open';
    if (first) {
      sending.state = 'acknowledged';
      this.#acknowledged++;
      record(this.#toAcknowledged, at - sending.at);
    }
    const known = this.#see(room, {
      roomId: ok.roomId,
      seq: ok.seq,
      kind: 'text',
      text,
      clientMessageId: key,
    });
    if (known.sending !== undefined && known.sending !== sending) {
      this.#duplicated++;
      this.#fault(`room ${ok.roomId}: ${key} and ${known.sending.key} were both acknowledged as ${ok.seq}`);
    } else if (first) {
      known.sending = sending;
      this.#delivered += known.receivers;
      this.#awaited += room.devices.size - 1 - known.receivers;
      this.#complete(room, known);
    }
    device.has.add(ok.seq);
    let inOrder = true;
    if (ok.duplicate) {
      // The entry is older than this answer: it has no place of its own on this connection.
      device.either.add(ok.seq);
    } else {
      if (attempt < device.lastAttempt) {
        this.#outOfOrder++;
        this.#fault(`room ${ok.roomId}: ${key} was sent before another and took effect after it`);
      }
      device.lastAttempt = Math.max(device.lastAttempt, attempt);
      inOrder = this.#push(device, ok.roomId, ok.seq);
    }
    this.#settle();
    return inOrder;
  }

  /** An entry was pushed. Returns whether it came in order; if not, the device calls `sync`. */
  received(deviceId: number, entry: Entry, at: number): boolean {
    const { room, device } = this.#account(deviceId, entry.roomId);
    const inOrder = this.#push(device, entry.roomId, entry.seq);
    this.#take(room, device, deviceId, entry, at);
    return inOrder;
  }

  /** A page of `sync` for one room: it must begin right after `afterSeq` and have no holes. */
  synced(deviceId: number, roomId: number, afterSeq: number, entries: readonly Entry[], at: number): void {
    const { room, device } = this.#account(deviceId, roomId);
    let expected = afterSeq;
    for (const entry of entries) {
      expected++;
      if (entry.seq !== expected) {
        this.#outOfOrder++;
        this.#fault(`room ${roomId}: sync after ${afterSeq} has ${entry.seq} where ${expected} belongs`);
        expected = entry.seq;
      }
      this.#take(room, device, deviceId, entry, at);
    }
  }

  /** A page of a room's history, ascending, from the beginning and without gaps between pages. */
  history(roomId: number, afterSeq: number, entries: readonly Entry[]): void {
    const room = this.#rooms.get(roomId);
    if (room === undefined) return;
    let expected = afterSeq;
    for (const entry of entries) {
      expected++;
      if (entry.seq !== expected) {
        this.#outOfOrder++;
        this.#fault(`room ${roomId}: the history has ${entry.seq} where ${expected} belongs`);
        expected = entry.seq;
      }
      this.#see(room, entry).inHistory = true;
    }
  }

  /** Closes the books: whatever is acknowledged must now be at every device and, if asked, in the history. */
  close(withHistory: boolean): void {
    for (const [roomId, room] of this.#rooms) {
      for (const [seq, { key, sending, inHistory }] of room.entries) {
        if (sending === undefined) {
          if (inHistory && this.#sendings.get(key ?? '')?.state === 'refused') {
            this.#altered++;
            this.#fault(`room ${roomId}: ${seq} (${key}) is in the history, though it was refused`);
          }
          continue;
        }
        for (const [deviceId, device] of room.devices) {
          if (device.has.has(seq)) continue;
          this.#lost++;
          this.#fault(`room ${roomId}: ${seq} (${sending.key}) never came to device ${deviceId}`);
        }
        if (withHistory && !inHistory) {
          this.#lost++;
          this.#fault(`room ${roomId}: ${seq} (${sending.key}) is not in the history`);
        }
      }
    }
  }

  /** Whether every send is answered and every acknowledged message is at every device. */
  get settled(): boolean {
    return this.#sendings.size === this.#acknowledged + this.#refused && this.#awaited === 0;
  }

  /** Deliveries of acknowledged messages that are still to come. */
  get awaited(): number {
    return this.#awaited;
  }

  /** The first faults, in words. */
  get faults(): readonly string[] {
    return this.#faults;
  }

  /** Whether nothing was lost, doubled, out of order or altered, and something was acknowledged. */
  get clean(): boolean {
    const faults = this.#lost + this.#duplicated + this.#outOfOrder + this.#altered + this.#refused;
    return faults === 0 && this.#acknowledged > 0;
  }

  get totals(): Totals {
    return {
      sent: this.#sendings.size,
      acknowledged: this.#acknowledged,
      refused: this.#refused,
      delivered: this.#delivered,
      lost: this.#lost,
      duplicated: this.#duplicated,
      outOfOrder: this.#outOfOrder,
      altered: this.#altered,
      toAcknowledged: latency(this.#toAcknowledged),
      toLastReceiver: latency(this.#toLastReceiver),
    };
  }

  #account(deviceId: number, roomId: number): { room: RoomAccount; device: DeviceAccount } {
    const room = this.#rooms.get(roomId);
    const device = room?.devices.get(deviceId);
    if (room === undefined || device === undefined) {
      throw new Error(`device ${deviceId} was never connected to room ${roomId}`);
    }
    return { room, device };
  }

  /** An entry takes its place in the pushes of a connection. Returns whether that was the next place. */
  #push(device: DeviceAccount, roomId: number, seq: number): boolean {
    const { live, either, base, last } = device;
    if (!live.add(seq)) {
      if (either.has(seq)) return true;
      this.#duplicated++;
      this.#fault(`room ${roomId}: ${seq} was pushed twice on one connection`);
      return true;
    }
    if (seq > last) {
      device.last = seq;
      for (let missing = last + 1; missing < seq; missing++) {
        if (either.has(missing)) continue;
        this.#outOfOrder++;
        this.#fault(`room ${roomId}: ${seq} was pushed after ${last}`);
        return false;
      }
      return true;
    }
    // After a jump the missing ones come late, and the jump was counted.
    if (seq <= base && !either.has(seq)) {
      this.#outOfOrder++;
      this.#fault(`room ${roomId}: ${seq} was pushed, though the login already said ${base}`);
    }
    return true;
  }

  /** A device gets an entry, by push or by `sync`. */
  #take(room: RoomAccount, device: DeviceAccount, deviceId: number, entry: Entry, at: number): void {
    const known = this.#see(room, entry);
    if (!device.has.add(entry.seq)) return;
    const sender = known.sending ?? this.#sendings.get(entry.clientMessageId ?? '');
    if (entry.kind === 'system' || sender?.senderId === deviceId) return;
    known.receivers++;
    known.lastReceivedAt = at;
    if (known.sending === undefined) return;
    this.#delivered++;
    this.#awaited--;
    this.#complete(room, known);
    this.#settle();
  }

  /** Notes an entry the first time, and compares its content from then on. */
  #see(room: RoomAccount, entry: Entry): Known {
    const { roomId, seq, text, clientMessageId } = entry;
    let known = room.entries.get(seq);
    if (known === undefined) {
      known = {
        key: clientMessageId,
        text,
        sending: undefined,
        receivers: 0,
        lastReceivedAt: 0,
        inHistory: false,
      };
      room.entries.set(seq, known);
      if (clientMessageId !== undefined) {
        const other = room.seqOf.get(clientMessageId);
        if (other === undefined) {
          room.seqOf.set(clientMessageId, seq);
        } else if (other !== seq) {
          this.#duplicated++;
          this.#fault(`room ${roomId}: ${clientMessageId} is stored twice, as ${other} and ${seq}`);
        }
      }
      if (entry.kind !== 'system' && this.#sendings.get(clientMessageId ?? '')?.text !== text) {
        this.#altered++;
        this.#fault(`room ${roomId}: ${seq} is not what was sent as ${clientMessageId}`);
      }
    } else if (known.text !== text) {
      this.#altered++;
      this.#fault(`room ${roomId}: ${seq} (${clientMessageId}) has another text than before`);
    }
    return known;
  }

  #complete(room: RoomAccount, known: Known): void {
    const { sending, receivers, lastReceivedAt } = known;
    if (sending === undefined || receivers === 0 || receivers !== room.devices.size - 1) return;
    record(this.#toLastReceiver, lastReceivedAt - sending.at);
  }

  #settle(): void {
    if (this.settled) this.#onSettled();
  }

  #fault(text: string): void {
    if (this.#faults.length < 20) this.#faults.push(text);
  }
}

function record(histogram: RecordableHistogram, ms: number): void {
  histogram.record(Math.max(1, Math.round(Math.min(ms, LONGEST_MS) * 1000)));
}

function latency(histogram: RecordableHistogram): Latency {
  const { count } = histogram;
  if (count === 0) return { count, p50: 0, p99: 0, max: 0 };
  return {
    count,
    p50: histogram.percentile(50) / 1000,
    p99: histogram.percentile(99) / 1000,
    max: histogram.max / 1000,
  };
}
