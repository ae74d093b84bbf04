import t from 'tap';
import { Report } from './report.js';

const TAP = `TAP version 14
1..3
# Subtest: dist/test/a.test.js
    # Subtest: one
        ok 1 - fine
        1..1
    ok 1 - one # time=12.5ms
    
    # Subtest: two
        not ok 1 - should be equal
          ---
          diff: |
            -1
            +2
          ...
        1..1
        # failed 1 test
    not ok 2 - two # time=3ms
      ---
      at: somewhere
      ...
    ok 3 - later # SKIP no time
    1..3
not ok 1 - dist/test/a.test.js # time=100.4ms
  ---
  exitCode: 1
  ...
# Subtest: dist/test/b.test.js
    ok 1 - plain
    1..1
ok 2 - dist/test/b.test.js # time=5ms
# Subtest: dist/test/c.test.js
    ok 1 - first
not ok 3 - timeout! # time=120000ms
  ---
  signal: SIGTERM
  ...
`;

t.test(
  'tests are counted, and a failure is shown with its reason, wherever the pipe cuts the output',
  async (t) => {
    for (const size of [1, 7, 100, TAP.length]) {
      const lines: string[] = [];
      const report = new Report((line) => lines.push(line));
      for (let at = 0; at < TAP.length; at += size) report.read(TAP.slice(at, at + size));
      t.match(report, { passed: 3, failed: 2 });
      t.same(lines, [
        '✗ test/a.test.ts 100 ms',
        '        ✗ should be equal',
        '          diff: |',
        '            -1',
        '            +2',
        '    in: two',
        '✓ test/b.test.ts 5 ms',
        '✗ timeout! 120000 ms',
        '✗ timeout!',
        '  signal: SIGTERM',
      ]);
    }
  },
);
