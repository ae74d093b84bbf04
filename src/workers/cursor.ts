/** Cursors of paged lists: the place of the last row, as numbers. Opaque to clients. */

export function encodeCursor(place: readonly number[]): string {
  return place.join('.');
}

/** The numbers of a cursor, or `undefined` if it is none that {@link encodeCursor} made with so many numbers. */
export function decodeCursor(cursor: string, length: number): number[] | undefined {
  if (!/^\d{1,16}(\.\d{1,16})*$/.test(cursor)) return undefined;
  const place = cursor.split('.').map(Number);
  return place.length === length && place.every(Number.isSafeInteger) ? place : undefined;
}
