import { accessSync, constants, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import log4js from 'log4js';
import { LOG_CATEGORIES, type LogLevel, setLogSink } from '../shared/log.js';

const MAX_FILE_BYTES = 20 * 1024 * 1024;
const KEPT_FILES = 10;

/**
 * Sends the log of this process to `<dir>/<name>.log` with rotation, and to standard output for PM2.
 * `disableClustering`: under PM2's cluster mode log4js would send every line to a primary that has no log4js, where
 * it is lost; so each process has files of its own.
 * @throws {Error} of the system, when the directory can't be written
 */
export function openLogFiles(options: { dir: string; name: string; level: LogLevel }): void {
  // log4js would say so later, on its own, and go on.
  mkdirSync(options.dir, { recursive: true });
  accessSync(options.dir, constants.W_OK);
  const layout = { type: 'pattern', pattern: '%d{yyyy-MM-ddThh:mm:ss.SSSO} %-5p %-10c %m' };
  log4js.configure({
    appenders: {
      stdout: { type: 'stdout', layout },
      file: {
        type: 'file',
        filename: join(options.dir, `${options.name}.log`),
        maxLogSize: MAX_FILE_BYTES,
        backups: KEPT_FILES,
        keepFileExt: true,
        layout,
      },
    },
    categories: { default: { appenders: ['stdout', 'file'], level: options.level } },
    disableClustering: true,
  });
  const loggers = new Map(LOG_CATEGORIES.map((category) => [category, log4js.getLogger(category)]));
  setLogSink(options.level, ({ level, category, line }) => loggers.get(category)?.[level](line));
}

/** Writes out what is buffered. Without it a process that exits loses its last lines. */
export async function closeLogFiles(): Promise<void> {
  await new Promise<void>((done) => {
    log4js.shutdown(() => done());
  });
}
