import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';

/** Which folders of `src` may import which: imports go one way. */
const MAY_IMPORT: Record<string, readonly string[]> = {
  shared: [],
  io: ['shared'],
  workers: ['shared'],
  main: ['shared', 'io', 'workers'],
  cli: ['shared', 'workers', 'main'],
  docs: ['shared'],
};

const SOURCE = join(import.meta.dirname, '../../src');

t.test('imports between the folders of src go one way', async (t) => {
  for (const folder of readdirSync(SOURCE)) {
    t.ok(folder in MAY_IMPORT, `${folder} has its place in the order`);
    for (const file of readdirSync(join(SOURCE, folder), { recursive: true, encoding: 'utf8' })) {
      if (!file.endsWith('.ts')) continue;
      const text = readFileSync(join(SOURCE, folder, file), 'utf8');
      const depth = file.split('/').length;
      const outside = new RegExp(`(?:from|import\\() ?'(?:\\.\\./){${depth}}([a-z-]+)/`, 'g');
      for (const [, target = ''] of text.matchAll(outside)) {
        if (target === folder) continue;
        t.ok(MAY_IMPORT[folder]?.includes(target), `${folder}/${file} imports ${target}`);
      }
    }
  }
});

t.test('SQL stands in the store and nowhere else', async (t) => {
  const statement = /['"`]\s*(SELECT|INSERT|UPDATE|DELETE|REPLACE|CREATE|ALTER|DROP)\s/;
  for (const file of readdirSync(SOURCE, { recursive: true, encoding: 'utf8' })) {
    if (!file.endsWith('.ts') || file.startsWith(join('workers', 'store'))) continue;
    t.notMatch(readFileSync(join(SOURCE, file), 'utf8'), statement, file);
  }
});

t.test('connections are written to by src/io alone', async (t) => {
  for (const folder of ['main', 'workers', 'shared']) {
    for (const file of readdirSync(join(SOURCE, folder), { recursive: true, encoding: 'utf8' })) {
      // Not clients: PM2's output, and the socket that keeps a second `npm start` away.
      if (!file.endsWith('.ts') || /^(start|instance-lock|hello|process-manager)\.ts$/.test(file)) continue;
      t.notMatch(readFileSync(join(SOURCE, folder, file), 'utf8'), /socket\.(write|end)\(/, file);
    }
  }
});
