import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import t from 'tap';
import { ROOT } from '../src/docs/documents.js';
import { configSchema } from '../src/shared/config.js';
import { startServer } from './support/server.js';

const read = (path: string) => readFileSync(join(ROOT, path), 'utf8');
const english = read('README.md');
const korean = read('README.ko.md');

/** The fenced blocks with their language. */
function blocks(text: string): { language: string; content: string }[] {
  return [...text.matchAll(/^```(\w+)\n(.*?)^```$/gms)].map(([, language = '', content = '']) => ({
    language,
    content,
  }));
}

/** What a translation must have in the same places: levels of headings, rows, list items, code. */
function shape(text: string): string[] {
  const prose = text.replace(/^```\w+\n.*?^```$/gms, 'code');
  return prose
    .split('\n')
    .map((line) => /^(#+|\||-|code)/.exec(line)?.[1] ?? '')
    .filter((mark) => mark !== '');
}

/** Names of settings, commands, codes and files, as often as they are there. */
function names(text: string): string[] {
  return [...text.matchAll(/`([^`\n]+)`/g)].map(([, name = '']) => name).sort();
}

t.test('the Korean README has the sections, tables and code of the English one', async (t) => {
  t.strictSame(shape(korean), shape(english));
  t.strictSame(blocks(korean), blocks(english));
  t.strictSame([...new Set(names(korean))], [...new Set(names(english))]);
});

t.test('the conversation of the README works as it is written', async (t) => {
  const server = await startServer(t);
  const mina = await server.phone('mina', 'terminal');
  const lines =
    blocks(english)
      .find(({ language }) => language === 'json')
      ?.content.trim()
      .split('\n') ?? [];
  t.equal(lines.length, 4);
  for (const line of [...lines, lines[1] ?? '']) {
    const { id, type }: { id: number; type: string } = JSON.parse(line);
    mina.client.sendRaw(`${line}\n`);
    const reply = await mina.client.waitForReply(id);
    t.equal(reply.type, 'ok', `${type} ${JSON.stringify(reply)}`);
  }
});

t.test('every setting that the README names is one, and files that it links to are there', async (t) => {
  for (const text of [english, korean, read('docs/architecture.md')]) {
    for (const [, name = ''] of text.matchAll(/`(CHAT_[A-Z_]+)/g)) {
      t.ok(Object.hasOwn(configSchema.shape, name), name);
    }
  }
  for (const page of [
    'README.md',
    'README.ko.md',
    'CONTRIBUTING.md',
    'docs/architecture.md',
    'docs/protocol.md',
  ]) {
    for (const [, target = ''] of read(page).matchAll(/\]\((?!https?:|#)([^)#]+)/g)) {
      t.ok(existsSync(join(ROOT, dirname(page), target)), `${page}: ${target}`);
    }
  }
});

t.test('what the architecture page names is in the source', async (t) => {
  const page = read('docs/architecture.md');
  const sources = readdirSync(join(ROOT, 'src'), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts'))
    .map((file) => read(join('src', file)))
    .join('\n');
  for (const [, path = ''] of page.matchAll(/`((?:src|test|sql)\/[\w./-]*)`/g))
    t.ok(existsSync(join(ROOT, path)), path);
  for (const [, name = ''] of page.matchAll(/`([A-Z]+(?:_[A-Z]+)+)`/g)) {
    t.match(sources, new RegExp(`\\b${name}\\b`), name);
  }
  const effects = /\*(reply · .*)\*\./.exec(page)?.[1]?.split(' · ') ?? [];
  const kinds = [...read('src/shared/effects.ts').matchAll(/^ {2}(\w+): \d+,$/gm)].map(
    ([, kind = '']) => kind,
  );
  t.strictSame(effects.sort(), kinds.sort());
});

t.test('every dependency has its reason', async (t) => {
  const {
    dependencies,
    devDependencies,
  }: Record<string, Record<string, string>> = JSON.parse(read('package.json'));
  const page = read('docs/dependencies.md');
  for (const name of Object.keys({ ...dependencies, ...devDependencies })) t.match(page, `\`${name}\``, name);
});
