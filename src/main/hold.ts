import { id, type RoomId, type Seq } from '../shared/ids.js';

/** What a line tells of a room: an entry, that the user came in or was taken out, anything else, or what may be dropped. */
export type LineKind = 'entry' | 'added' | 'removed' | 'other' | 'volatile';

interface Held {
  readonly line: Buffer;
  readonly kind: LineKind;
  /** `Infinity` for what stands at no entry. */
  readonly seq: number;
}

/**
 * What gathers for a connection between the admission of its login and the reply: sent after the reply, if that does
 * not cover it.
 */
export class Hold {
  readonly #rooms = new Map<RoomId, Held[]>();

  get roomIds(): Iterable<RoomId> {
    return this.#rooms.keys();
  }

  add(line: Buffer, roomId: RoomId, kind: LineKind, seq: number): void {
    const lines = this.#rooms.get(roomId);
    if (lines === undefined) this.#rooms.set(roomId, [{ line, kind, seq }]);
    else lines.push({ line, kind, seq });
  }

  /**
   * Sends what a reply that tells of the room up to `lastSeq` (`undefined`: not at all) does not cover.
   * @returns up to where the connection has the room now; `undefined` if the user is not in it
   */
  release(
    roomId: RoomId,
    lastSeq: Seq | undefined,
    send: (line: Buffer, volatile: boolean) => void,
  ): Seq | undefined {
    let upto: number | undefined = lastSeq;
    for (const { line, kind, seq } of inOrder(this.#rooms.get(roomId) ?? [])) {
      if (kind === 'added') {
        if (upto !== undefined && seq <= upto) continue;
        upto = seq;
      } else if (upto === undefined) {
        continue;
      } else if (kind === 'removed') {
        if (seq <= upto) continue;
        upto = undefined;
      } else if (kind === 'entry') {
        // Behind a gap nothing is sent: the stream goes back to it and releases the rest again.
        if (seq !== upto + 1) continue;
        upto = seq;
      }
      send(line, kind === 'volatile');
    }
    return upto === undefined ? undefined : id.seq(upto);
  }
}

/** By `seq`, as entries that were released again, for another connection, came twice; the rest keeps its place. */
function inOrder(lines: readonly Held[]): Held[] {
  let place = 0;
  const placed = lines.map((held) => {
    if (held.seq !== Number.POSITIVE_INFINITY && held.seq > place) place = held.seq;
    return { held, place: held.seq === Number.POSITIVE_INFINITY ? place : held.seq };
  });
  return placed.sort((a, b) => a.place - b.place).map(({ held }) => held);
}
