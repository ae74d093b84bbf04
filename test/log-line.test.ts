import fc from 'fast-check';
import t, { type Test } from 'tap';
import {
  formatLine,
  LOG_CATEGORIES,
  LOG_LEVELS,
  type LogLine,
  log,
  relayLogLine,
  setLogSink,
} from '../src/shared/log.js';

/** DESIGN 7: a line per event, from which no value can break out. */

/** What ends a line or moves the cursor somewhere: terminals, editors and log collectors take more than \n. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: that is what this looks for
const BREAKS = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/;

function collect(t: Pick<Test, 'teardown'>, level: (typeof LOG_LEVELS)[number]): LogLine[] {
  const lines: LogLine[] = [];
  setLogSink(level, (line) => lines.push(line));
  t.teardown(() => setLogSink('off', () => undefined));
  return lines;
}

t.test('a line is the event and its fields', async (t) => {
  const fields = { user: 7, name: 'mina', ok: true, nothing: null, missing: undefined, remote: '[::1]:9000' };
  t.equal(formatLine('login', fields), 'login user=7 name=mina ok=true nothing=null remote=[::1]:9000');
  t.equal(formatLine('ready', {}), 'ready');
});

t.test('values that are more than a word are quoted', async (t) => {
  const quoted: [string, string][] = [
    ['two words', '"two words"'],
    ['', '""'],
    ['a=b', '"a=b"'],
    ['say "hi"', '"say \\"hi\\""'],
    ['back\\slash', '"back\\\\slash"'],
    ['김민수', '"김민수"'],
    ['a\nb', '"a\\nb"'],
    ['\u001b[2J', '"\\u001b[2J"'],
    ['\u007f\u0085\u009b', '"\\u007f\\u0085\\u009b"'],
    ['a\u2028b', '"a\\u2028b"'],
  ];
  for (const [value, expected] of quoted) t.equal(formatLine('e', { value }), `e value=${expected}`);
});

t.test('a newline in a value can not forge a line', async (t) => {
  const forged = 'x\n2024-05-01 12:00:00.000 INFO connection login user=1 name=admin';
  const line = formatLine('login refused', { device: forged, reason: 'bad' });
  t.equal(line.split('\n').length, 1);
  t.ok(line.endsWith(' reason=bad'), 'what comes after it stands where it belongs');
});

t.test('no value breaks out of its line or its field, whatever it is', async (t) => {
  const text = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.string({
      unit: fc.constantFrom('\n', '\r', '"', '\\', ' ', '=', '\u2028', '\u0085', '\u001b', '\ud800', 'a'),
    }),
  );
  const property = fc.property(text, text, (one, two) => {
    const line = formatLine('event', { one, two });
    if (BREAKS.test(line)) return false;
    // Whoever reads it field by field finds two of them, with the values that went in.
    const fields = [...line.matchAll(/ (\w+)=("(?:[^"\\]|\\.)*"|[^\s"]+)/g)];
    const values = fields.map(([, , value = '']) => (value.startsWith('"') ? JSON.parse(value) : value));
    return (
      fields.map(([whole]) => whole).join('') === line.slice('event'.length) &&
      values[0] === one &&
      values[1] === two
    );
  });
  t.doesNotThrow(() => fc.assert(property, { numRuns: 3000 }));
});

t.test('levels: what is below the level is not written, and off is off', async (t) => {
  for (const [i, level] of LOG_LEVELS.entries()) {
    const lines = collect(t, level);
    log.room.debug('d');
    log.room.info('i');
    log.room.warn('w');
    log.room.error('e');
    const expected = (['debug', 'info', 'warn', 'error'] as const).filter(
      (one) => LOG_LEVELS.indexOf(one) >= i,
    );
    t.strictSame(
      lines.map((line) => line.level),
      expected,
      level,
    );
    t.equal(
      log.room.debugging,
      i <= LOG_LEVELS.indexOf('debug'),
      'debugging says whether debug lines are written',
    );
  }
});

t.test('categories: each has a log that names it', async (t) => {
  const lines = collect(t, 'info');
  t.strictSame(Object.keys(log), [...LOG_CATEGORIES]);
  for (const category of LOG_CATEGORIES) log[category].info('x');
  t.strictSame(
    lines.map(({ category }) => category),
    [...LOG_CATEGORIES],
  );
});

t.test('an error is logged with its stack, on one line', async (t) => {
  const lines = collect(t, 'error');
  log.server.error('failed', { room: 3 }, new Error('first\nsecond'));
  log.server.error('failed', {}, 'no error object\nat all');
  log.server.error('failed', { why: 'nothing thrown' });
  t.equal(lines.length, 3);
  for (const { line } of lines) t.notMatch(line, BREAKS);
  t.match(lines[0]?.line, /^failed room=3 stack="Error: first\\nsecond\\n {4}at /);
  t.match(lines[1]?.line, /stack="no error object\\nat all"$/);
  t.equal(lines[2]?.line, 'failed why="nothing thrown"');
});

t.test('a line of another thread is passed on as it is', async (t) => {
  const lines = collect(t, 'warn');
  const line = { level: 'info', category: 'store', line: 'from a worker' } as const;
  relayLogLine(line);
  t.strictSame(lines, [line]);
});
