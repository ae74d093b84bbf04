import { parseArgs } from 'node:util';
import type { Config } from '../../shared/config.js';
import { Problem, UsageProblem } from '../problem.js';

export interface LoadOptions {
  readonly users: number;
  readonly rooms: number;
  /** Messages per second and user. */
  readonly rate: number;
  readonly seconds: number;
  /** Bytes of each text in UTF-8. */
  readonly textBytes: number;
  readonly host: string;
  readonly port: number;
}

export const LOAD_USAGE = `Usage: npx sarangbang load [options]

Simulates users against the running server and checks that every acknowledged message reaches everyone once, in order.

  --users N        users, one device each (5)
  --rooms N        rooms among which the users are divided (1)
  --rate R         messages per second and user (2)
  --seconds S      how long (10)
  --text-bytes B   bytes per text in UTF-8 (100)
  --host H         the server; another than this machine only if named here
  --port P         its TCP port`;

const LOOPBACK = /^(localhost|::1|127(\.\d{1,3}){3})$/;
const ANY_ADDRESS = new Set(['0.0.0.0', '::']);

/**
 * Reads the command line.
 * @returns the options, or `'help'`
 * @throws {UsageProblem} that names the mistake; what `parseArgs` throws
 */
export function loadOptions(args: readonly string[], config: Config): LoadOptions | 'help' {
  const text = { type: 'string' } as const;
  const { values: parsed } = parseArgs({
    args: [...args],
    options: {
      users: text,
      rooms: text,
      rate: text,
      seconds: text,
      'text-bytes': text,
      host: text,
      port: text,
      help: { type: 'boolean', short: 'h' },
    },
  });
  const values: Record<string, string | boolean | undefined> = parsed;
  if (values.help === true) return 'help';

  const number = (name: string, otherwise: number, min: number, max: number, whole = true): number => {
    const value = values[name];
    if (value === undefined) return otherwise;
    const n = typeof value === 'string' && value.trim() !== '' ? Number(value) : Number.NaN;
    if (!(n >= min && n <= max) || (whole && !Number.isInteger(n))) {
      throw new UsageProblem(
        `--${name} must be ${whole ? 'a whole number' : 'a number'} from ${min} to ${max}`,
      );
    }
    return n;
  };

  const users = number('users', 5, 1, 10_000);
  const rooms = number('rooms', 1, 1, 10_000);
  if (rooms > users) throw new UsageProblem(`--rooms ${rooms} needs at least as many --users, not ${users}`);
  return {
    users,
    rooms,
    rate: number('rate', 2, 0.01, 1000, false),
    seconds: number('seconds', 10, 0.1, 86_400, false),
    textBytes: number('text-bytes', 100, 1, config.CHAT_MAX_TEXT_CHARS),
    host: typeof values.host === 'string' ? values.host : defaultHost(config.CHAT_TCP_HOST),
    port: number('port', config.CHAT_TCP_PORT, 1, 65_535),
  };
}

function defaultHost(configured: string): string {
  if (LOOPBACK.test(configured)) return configured;
  if (ANY_ADDRESS.has(configured)) return '127.0.0.1';
  throw new Problem(
    `The server listens on ${configured}: name it with --host ${configured} to put load on it.`,
  );
}

/** Whether the address is this machine's own. */
export function isLoopback(host: string): boolean {
  return LOOPBACK.test(host);
}
