/**
 * The log as the rest of the program sees it: an event name and fields per line, in categories as Log4j has them.
 * Where the lines go is decided once per thread with {@link setLogSink}: in the main thread to log4js
 * (`src/main/log-files.ts`), in a worker to the main thread, so that one process writes one set of files.
 */

export const LOG_CATEGORIES = [
  'connection',
  'room',
  'message',
  'presence',
  'store',
  'bus',
  'http',
  'push',
  'server',
] as const;
export type LogCategory = (typeof LOG_CATEGORIES)[number];

export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'off'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];
type LineLevel = Exclude<LogLevel, 'off'>;

/** Values of a line. Never a token, a password or, unless `CHAT_LOG_TEXT` says so, the text of a message. */
export type LogFields = Readonly<Record<string, string | number | boolean | null | undefined>>;

/** A finished line on its way to the files. */
export interface LogLine {
  readonly level: LineLevel;
  readonly category: LogCategory;
  readonly line: string;
}

let sink: (line: LogLine) => void = () => undefined;
let threshold: number = LOG_LEVELS.indexOf('off');

/** Says where this thread's lines go and from which level on. */
export function setLogSink(level: LogLevel, write: (line: LogLine) => void): void {
  threshold = LOG_LEVELS.indexOf(level);
  sink = write;
}

/** Passes on a line that another thread has finished. */
export function relayLogLine(line: LogLine): void {
  sink(line);
}

const PLAIN = /^[\w.:/@+,[\]-]+$/;

/** `event key=value key="quoted value"`: quoted as JSON, so that no value can begin a new line. */
export function formatLine(event: string, fields: LogFields): string {
  let line = event;
  for (const key in fields) {
    const value = fields[key];
    if (value === undefined) continue;
    line += ` ${key}=${typeof value === 'string' && !PLAIN.test(value) ? quote(value) : value}`;
  }
  return line;
}

const UNSAFE = /[\u007f-\u009f\u2028\u2029]/g;

function quote(value: string): string {
  return JSON.stringify(value).replace(UNSAFE, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/** Writes lines of one category. */
export class Log {
  readonly #category: LogCategory;

  constructor(category: LogCategory) {
    this.#category = category;
  }

  /** Whether `debug` lines are written: asked before building the fields of a per-message line. */
  get debugging(): boolean {
    return threshold <= LOG_LEVELS.indexOf('debug');
  }

  debug(event: string, fields: LogFields = {}): void {
    this.#write('debug', event, fields);
  }

  info(event: string, fields: LogFields = {}): void {
    this.#write('info', event, fields);
  }

  warn(event: string, fields: LogFields = {}): void {
    this.#write('warn', event, fields);
  }

  /** `error` is a bug or an outage: its stack is in the line. */
  error(event: string, fields: LogFields = {}, error?: unknown): void {
    const stack = error instanceof Error ? (error.stack ?? error.message) : error;
    this.#write('error', event, stack === undefined ? fields : { ...fields, stack: String(stack) });
  }

  #write(level: LineLevel, event: string, fields: LogFields): void {
    if (LOG_LEVELS.indexOf(level) < threshold) return;
    sink({ level, category: this.#category, line: formatLine(event, fields) });
  }
}

/** One log per category. */
export const log = {
  connection: new Log('connection'),
  room: new Log('room'),
  message: new Log('message'),
  presence: new Log('presence'),
  store: new Log('store'),
  bus: new Log('bus'),
  http: new Log('http'),
  push: new Log('push'),
  server: new Log('server'),
} as const satisfies Record<LogCategory, Log>;
