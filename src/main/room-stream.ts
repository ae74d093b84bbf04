import type { Effect } from '../shared/effects.js';
import { id, type RoomId, type Seq } from '../shared/ids.js';
import type { Client } from './client.js';

export type RoomEffect = Extract<Effect, { kind: 'room' }>;

/** What a {@link RoomStream} tells its owner. */
export interface StreamOwner {
  /** Act upon the effect: it is the next in order. */
  release(stream: RoomStream, effect: RoomEffect): void;
  /** The effect's entry was released before; only its reply is left to send. */
  releaseLate(effect: RoomEffect): void;
  /** There is a hole in front of what waits. */
  holeFound(stream: RoomStream): void;
}

/** More than this waits behind a hole: the stream lets it go and reads everything back from the database. */
const MAX_WAITING = 4096;

/**
 * The sequencer of one room: entries come from several workers and processes in any order, or not at all, and leave
 * in the order of their `seq`, each once. Exists while a connection of this process is in the room.
 */
export class RoomStream {
  readonly roomId: RoomId;
  readonly clients = new Set<Client>();
  /** Everything up to here was released. `undefined` until a login or a join says where the room stands. */
  #position: Seq | undefined;
  /** Entries up to here are released for a second time, for one late connection: their notices are done. */
  #replayUpto: Seq = id.seq(0);
  /** The highest entry known to exist. */
  #known: Seq = id.seq(0);
  readonly #waiting = new Map<Seq, RoomEffect>();
  /** Effects that are no entries and happen after the entry at their `seq`. */
  #after: RoomEffect[] = [];
  readonly #owner: StreamOwner;

  constructor(roomId: RoomId, owner: StreamOwner) {
    this.roomId = roomId;
    this.#owner = owner;
  }

  get position(): Seq | undefined {
    return this.#position;
  }

  /** The entries that are missing: `afterSeq < seq <= uptoSeq`. */
  get hole(): { readonly afterSeq: Seq; readonly uptoSeq: Seq } | undefined {
    if (this.#position === undefined || this.#known <= this.#position) return undefined;
    let upto = this.#known;
    for (const seq of this.#waiting.keys()) if (seq <= upto) upto = id.seq(seq - 1);
    return { afterSeq: this.#position, uptoSeq: upto };
  }

  /** Says where the room stands, if that is not known yet. Entries that wait below are in what the caller has read. */
  startAt(seq: Seq): void {
    if (this.#position !== undefined) return;
    this.#position = seq;
    for (const [waiting, effect] of [...this.#waiting]) {
      if (waiting > seq) continue;
      this.#waiting.delete(waiting);
      this.#owner.releaseLate(effect);
    }
    this.#advance();
  }

  /**
   * Goes back to `seq`, so that what came after it is read back and released again: a connection that listened
   * before anybody knew where the room stands has missed it. The others are covered up to the old position.
   */
  rewind(seq: Seq): void {
    if (this.#position === undefined || this.#position <= seq) return;
    if (this.#position > this.#replayUpto) this.#replayUpto = this.#position;
    this.knows(this.#position);
    this.#position = seq;
    this.knows(seq);
  }

  /** Whether the entry was released before. */
  isReplay(seq: Seq): boolean {
    return seq <= this.#replayUpto;
  }

  /** The room has entries up to `seq`, as the database says. */
  knows(seq: Seq): void {
    if (seq > this.#known) this.#known = seq;
    if (this.hole !== undefined) this.#owner.holeFound(this);
  }

  accept(effect: RoomEffect): void {
    const { seq } = effect;
    if (effect.event === null) {
      this.#after.push(effect);
    } else if (this.#position !== undefined && seq <= this.#position) {
      this.#owner.releaseLate(effect);
      return;
    } else {
      // Of an entry that was read back and one that comes with its reply, the latter stays.
      const before = this.#waiting.get(seq);
      if (before === undefined || before.reply === null) this.#waiting.set(seq, effect);
      if (seq > this.#known) this.#known = seq;
    }
    if (this.#position === undefined) {
      if (this.#waiting.size > MAX_WAITING) this.#shed();
      return;
    }
    this.#advance();
    if (this.#waiting.size > MAX_WAITING) this.#shed();
    if (this.#known > this.#position) this.#owner.holeFound(this);
  }

  /** Takes out what still waits, in order, when the last connection of the room is gone. */
  drain(): RoomEffect[] {
    const waiting = [...this.#waiting.values(), ...this.#after].sort((a, b) => a.seq - b.seq);
    this.#waiting.clear();
    this.#after = [];
    return waiting;
  }

  #advance(): void {
    let position = this.#position;
    if (position === undefined) return;
    for (;;) {
      if (this.#after.length > 0) this.#releaseAfter(position);
      const next = id.seq(position + 1);
      const effect = this.#waiting.get(next);
      if (effect === undefined) return;
      this.#waiting.delete(next);
      position = next;
      this.#position = next;
      this.#owner.release(this, effect);
    }
  }

  #releaseAfter(position: Seq): void {
    const due = this.#after.filter((effect) => effect.seq <= position);
    if (due.length === 0) return;
    this.#after = this.#after.filter((effect) => effect.seq > position);
    for (const effect of due) this.#owner.release(this, effect);
  }

  /** Bounded memory before speed: what waits is in the database too. */
  #shed(): void {
    for (const effect of this.#waiting.values()) this.#owner.releaseLate(effect);
    this.#waiting.clear();
  }
}
