import type { Marks } from './store/members.js';

/** Head of a room: what marks are compared with. */
export interface Head {
  readonly last_seq: number;
  readonly last_ordinal: number;
}

/** How one kind of mark moves and is answered. */
export interface MarkKind<Ok> {
  /** The marks after the request; `ordinal` is that of the entry at `seq`. */
  move(marks: Marks, seq: number, ordinal: number): Marks;
  ok(marks: Marks, head: Head): Ok;
}
