/**
 * Turns the TAP that a run prints into what a person wants to read: a line per test file, and of what failed all
 * that is known. tap's own reporters redraw the screen, which a log file and a pipe can't show.
 */

/** Lines of the explanation of a failure that are shown; a diff of two big objects has thousands. */
const LONGEST_EXPLANATION = 60;

const POINT = /^( *)(not )?ok \d+(?: - (.*?))?(?: # time=([\d.]+)ms)?( \{)?$/;

export class Report {
  /** Tests that passed: those that stand directly in the files, with everything inside them. */
  passed = 0;
  /** Tests that failed, and files that failed in another way, by a crash or the time limit. */
  failed = 0;
  readonly #say: (line: string) => void;
  #rest = '';
  /** Failures since the last file ended. */
  #failures: string[] = [];
  #failedInFile = 0;
  /** Indentation of the last failure: what encloses it fails too, and need not be told. */
  #told = 0;
  /** Lines of the explanation that is being read; undefined between explanations. */
  #explanation: string[] | undefined;
  #explains = false;

  constructor(say: (line: string) => void) {
    this.#say = say;
  }

  /** Takes the next piece of output. */
  read(text: string): void {
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop() ?? '';
    for (const line of lines) this.#line(line);
  }

  #line(line: string): void {
    if (this.#explanation !== undefined) {
      if (/^ *\.\.\.$/.test(line)) this.#explained();
      else this.#explanation.push(line);
      return;
    }
    if (/^ *---$/.test(line)) {
      this.#explanation = [];
      return;
    }
    this.#explains = false;
    const point = POINT.exec(line);
    if (point === null) return;
    const [, indentation = '', not, title = '', time] = point;
    const depth = indentation.length;
    if (depth === 4 && !/# (SKIP|TODO)/i.test(title)) this.#count(not === undefined);
    if (not !== undefined && !/# TODO/i.test(title)) this.#failure(depth, title);
    if (depth === 0) this.#file(title, time, not !== undefined);
  }

  #count(ok: boolean): void {
    if (ok) this.passed += 1;
    else this.failed += 1;
    if (!ok) this.#failedInFile += 1;
  }

  #failure(depth: number, title: string): void {
    // A test ends after the assertions in it, so what encloses a failure comes later and with less indentation.
    const encloses = depth < this.#told;
    this.#told = depth;
    if (encloses) {
      if (depth > 0) this.#failures.push(`${' '.repeat(depth)}in: ${title}`);
      return;
    }
    this.#failures.push(`${' '.repeat(depth)}✗ ${title}`);
    this.#explains = true;
  }

  #explained(): void {
    const lines = this.#explanation ?? [];
    this.#explanation = undefined;
    if (!this.#explains) return;
    const shown = lines.slice(0, LONGEST_EXPLANATION);
    if (shown.length < lines.length) shown.push(`      … ${lines.length - shown.length} more lines`);
    // A file is told of before its explanation comes.
    if (this.#failures.length > 0) this.#failures.push(...shown);
    else for (const line of shown) this.#say(line);
  }

  #file(title: string, time: string | undefined, failed: boolean): void {
    const ms = time === undefined ? '' : ` ${Math.round(Number(time))} ms`;
    this.#say(`${failed ? '✗' : '✓'} ${title.replace(/^dist\//, '').replace(/\.js$/, '.ts')}${ms}`);
    for (const line of this.#failures) this.#say(line);
    if (failed && this.#failedInFile === 0) this.failed += 1;
    this.#failures = [];
    this.#failedInFile = 0;
    this.#told = 0;
  }
}
