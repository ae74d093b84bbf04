import Table from 'cli-table3';

/** A table for a terminal or a pipe: no colours, no lines between the rows. */
export function createTable(options: { head?: string[]; right?: boolean } = {}) {
  return new Table({
    ...(options.head !== undefined && { head: options.head }),
    ...(options.right === true && { colAligns: ['left', 'right'] }),
    style: { head: [], border: [] },
    chars: { mid: '', 'left-mid': '', 'mid-mid': '', 'right-mid': '' },
  });
}
