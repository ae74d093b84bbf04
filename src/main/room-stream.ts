import type { Effect } from '../shared/effects.js';
import { id, type RoomId, type Seq, type UserId } from '../shared/ids.js';
import type { Client } from './client.js';

export type RoomEffect = Extract<Effect, { kind: 'room' }>;

/** What a {@link RoomStream} tells its owner. */
export interface StreamOwner {
  /** Act upon the effect: it is the next in order. */
  release(stream: RoomStream, effect: RoomEffect): void;
  /** The stream is beyond the effect's entry: nobody needs that, but who came in or went with it, and the reply, do count. */
  releaseLate(stream: RoomStream, effect: RoomEffect): void;
  /** There is a hole in front of what waits. */
  holeFound(stream: RoomStream): void;
}

/** More than this waits behind a hole: the stream lets it go and reads everything back from the database. */
const MAX_WAITING = 4096;
/** Of so many users it is known when they were last removed: more than can be on their way at the same time. */
const MAX_REMOVALS = 1000;

/**
 * The sequencer of one room: entries come from several workers and processes in any order, or not at all, and leave
 * in the order of their `seq`, each once. Exists while a connection of this process is in the room.
 */
export class RoomStream {
  readonly roomId: RoomId;
  /**
   * The connections in the room, and up to where each has it: what its login's reply or `room.added` told. Entries up
   * to there are not for it, and a removal up to there is over, as the user has come back since.
   */
  readonly clients = new Map<Client, Seq>();
  /** Everything up to here was released. `undefined` until a login or a join says where the room stands. */
  #position: Seq | undefined;
  /** Where users were last taken out: who came in before that, and is only told of now, does not come in. */
  readonly #removals = new Map<UserId, number>();
  /** Entries up to here are released for a second time, for one late connection. */
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
      this.#owner.releaseLate(this, effect);
    }
    this.#advance();
  }

  /**
   * Goes back to `seq`, so that what came after it is read back and released again for `late`, which has missed it. The
   * others have it, but those that are still logging in: they hold both releases and sort them out by themselves.
   */
  rewind(seq: Seq, late: Client): void {
    if (this.#position === undefined || this.#position <= seq) return;
    for (const [client, upto] of this.clients) {
      if (client !== late && client.hold === null && upto < this.#position)
        this.clients.set(client, this.#position);
    }
    if (this.#position > this.#replayUpto) this.#replayUpto = this.#position;
    this.knows(this.#position);
    this.#position = seq;
    this.knows(seq);
  }

  /** The user was taken out after the entry `seq`. */
  noteRemoval(userId: UserId, seq: number): void {
    const before = this.#removals.get(userId) ?? 0;
    this.#removals.delete(userId);
    this.#removals.set(userId, Math.max(seq, before));
    if (this.#removals.size <= MAX_REMOVALS) return;
    for (const oldest of this.#removals.keys()) {
      this.#removals.delete(oldest);
      return;
    }
  }

  /** Whether the user, who came in with or before the entry `seq`, is known to have been taken out since. */
  isRemovedSince(userId: UserId, seq: Seq): boolean {
    return (this.#removals.get(userId) ?? 0) > seq;
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
      this.#owner.releaseLate(this, effect);
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
    // Looked at anew each time, as a release may have gone back.
    while (this.#position !== undefined) {
      if (this.#after.length > 0) this.#releaseAfter(this.#position);
      const next = id.seq(this.#position + 1);
      const effect = this.#waiting.get(next);
      if (effect === undefined) return;
      this.#waiting.delete(next);
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
    for (const effect of this.#waiting.values()) this.#owner.releaseLate(this, effect);
    this.#waiting.clear();
  }
}
