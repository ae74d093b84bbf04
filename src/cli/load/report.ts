import { type Options, SingleBar } from 'cli-progress';
import { createTable } from '../table.js';
import type { Latency, Totals } from './ledger.js';

/** Shows how far a run is: a bar on a terminal, else a line now and then. */
export interface Progress {
  update(seconds: number, totals: Totals): void;
  stop(): void;
}

/** Seconds between two lines where there is no terminal. */
const LINE_EVERY_S = 2;

/** `total` in seconds. */
export function showProgress(out: NodeJS.WriteStream, total: number): Progress {
  if (out.isTTY) {
    const options: Options = {
      stream: out,
      format: '{bar} {seconds}/{total} s   sent {sent}   acknowledged {acknowledged}   delivered {delivered}',
      barsize: 24,
      barCompleteChar: '█',
      barIncompleteChar: '░',
      hideCursor: true,
    };
    const bar = new SingleBar(options);
    bar.start(total, 0, { seconds: 0, sent: 0, acknowledged: 0, delivered: 0 });
    return {
      update: (seconds, { sent, acknowledged, delivered }) =>
        bar.update(Math.min(seconds, total), { seconds: Math.floor(seconds), sent, acknowledged, delivered }),
      stop: () => bar.stop(),
    };
  }
  let next = LINE_EVERY_S;
  return {
    update: (seconds, { sent, acknowledged, delivered }) => {
      if (seconds < next) return;
      next = (Math.floor(seconds / LINE_EVERY_S) + 1) * LINE_EVERY_S;
      out.write(
        `${Math.floor(seconds)}/${total} s: sent ${sent}, acknowledged ${acknowledged}, delivered ${delivered}\n`,
      );
    },
    stop: () => {},
  };
}

/** The result as a table of text. */
export function reportTable(totals: Totals, notes: readonly (readonly [string, string])[]): string {
  const table = createTable({ right: true });
  table.push(
    ['sent', count(totals.sent)],
    ['acknowledged', count(totals.acknowledged)],
    ['delivered', count(totals.delivered)],
    ['lost', count(totals.lost)],
    ['duplicated', count(totals.duplicated)],
    ['out of order', count(totals.outOfOrder)],
  );
  if (totals.altered > 0) table.push(['altered', count(totals.altered)]);
  if (totals.refused > 0) table.push(['refused', count(totals.refused)]);
  for (const [name, value] of notes) table.push([name, value]);
  table.push(
    ['send → ok, p50 / p99 / max', latency(totals.toAcknowledged)],
    ['send → last receiver, p50 / p99 / max', latency(totals.toLastReceiver)],
  );
  return table.toString();
}

function count(n: number): string {
  return n.toLocaleString('en-US');
}

function latency({ count: samples, p50, p99, max }: Latency): string {
  if (samples === 0) return '–';
  return `${[p50, p99, max].map((ms) => ms.toFixed(1)).join(' / ')} ms`;
}
