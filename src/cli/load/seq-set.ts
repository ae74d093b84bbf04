/** A set of whole numbers that mostly follow each other, kept as ranges: as small as the number of its holes. */
export class SeqSet {
  /** Disjoint, ascending, never touching: `[from, to]`, both included. */
  readonly #ranges: [from: number, to: number][] = [];

  /** Adds one number. Returns whether it was new. */
  add(n: number): boolean {
    const after = this.#after(n);
    const before = this.#ranges[after - 1];
    const next = this.#ranges[after];
    if (before !== undefined && n <= before[1]) return false;
    const joinsBefore = before !== undefined && before[1] === n - 1;
    const joinsNext = next !== undefined && next[0] === n + 1;
    if (joinsBefore && joinsNext) {
      before[1] = next[1];
      this.#ranges.splice(after, 1);
    } else if (joinsBefore) {
      before[1] = n;
    } else if (joinsNext) {
      next[0] = n;
    } else {
      this.#ranges.splice(after, 0, [n, n]);
    }
    return true;
  }

  has(n: number): boolean {
    const range = this.#ranges[this.#after(n) - 1];
    return range !== undefined && n <= range[1];
  }

  /** The largest `n` of which everything after `base` up to `n` is in the set; `base` if the next is missing. */
  contiguousFrom(base: number): number {
    const range = this.#ranges[this.#after(base + 1) - 1];
    return range !== undefined && range[1] > base ? range[1] : base;
  }

  /** Index of the first range that begins after `n`. The newest number is nearly always the one that is asked for. */
  #after(n: number): number {
    let index = this.#ranges.length;
    for (
      let range = this.#ranges[index - 1];
      range !== undefined && range[0] > n;
      range = this.#ranges[index - 1]
    ) {
      index--;
    }
    return index;
  }
}
