import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { documents, ROOT } from '../src/docs/documents.js';
import { clientSchema, type JsonSchema, REQUEST_TYPES, serverSchema } from '../src/docs/json-schema.js';
import { COMMON_ERRORS, REQUEST_ERRORS } from '../src/docs/request-errors.js';
import { readTranscript, toExchange } from '../src/docs/transcript.js';
import { CLOSES } from '../src/shared/closes.js';
import { configSchema } from '../src/shared/config.js';
import { ERRORS } from '../src/shared/errors.js';
import { EVENTS } from '../src/shared/protocol/events.js';
import { OBJECTS } from '../src/shared/protocol/objects.js';

const read = (path: string) => readFileSync(join(ROOT, path), 'utf8');
const page = read('docs/protocol.md');

/** What the first group of the pattern finds, in order. */
function found(text: string, pattern: RegExp): string[] {
  return [...text.matchAll(pattern)].map((match) => match[1] ?? '');
}

/** The part of the page under a heading, up to the next one. */
function part(heading: string): string {
  const from = page.indexOf(`\n${heading}\n`);
  return page.slice(from, page.indexOf('\n#', from + heading.length + 1));
}

t.test('the committed reference is what npm run docs makes', async (t) => {
  for (const [path, content] of documents()) t.ok(read(path) === content, `${path} (npm run docs)`);
});

t.test('every request type is documented, and nothing else', async (t) => {
  t.strictSame(found(page, /^### `([\w.]+)`$/gm).sort(), [...REQUEST_TYPES].sort());
});

t.test('every event type is documented, and nothing else', async (t) => {
  t.strictSame(found(page, /^### Event `([\w.]+)`$/gm).sort(), Object.keys(EVENTS).sort());
});

t.test('every error code is documented, and nothing else', async (t) => {
  t.strictSame(found(part('### Errors'), /^\| `([A-Z_]+)`/gm), Object.keys(ERRORS));
});

t.test('every close reason is documented with its WebSocket code, and nothing else', async (t) => {
  const rows = [...part('### Closes').matchAll(/^\| `([A-Z_]+)` \| (\d+)/gm)].map(([, name, code]) => [
    name,
    code,
  ]);
  t.strictSame(
    rows,
    Object.entries(CLOSES).map(([name, { code }]) => [name, String(code)]),
  );
});

t.test('every object is documented, and nothing else', async (t) => {
  const objects = page.slice(page.indexOf('\n## 5.'), page.indexOf('\n### The room stream'));
  t.strictSame(found(objects, /^### (\w+)$/gm), Object.keys(OBJECTS));
});

t.test('every setting is documented, and nothing else', async (t) => {
  const settings = found(read('docs/configuration.md'), /^\| `(CHAT_\w+)`/gm);
  t.strictSame(settings, Object.keys(configSchema.shape));
});

t.test('no request is answered with an error that its section does not name', async (t) => {
  for (const { step, type, reply } of readTranscript().steps.map(toExchange)) {
    if (type === undefined || reply === undefined || !('error' in reply)) continue;
    const { code } = reply.error;
    const isCommon = COMMON_ERRORS.some((common) => common === code);
    const own = Object.entries(REQUEST_ERRORS).find(([name]) => name === type)?.[1] ?? {};
    t.ok(isCommon || Object.hasOwn(own, code), `${type} ${code}: ${step.title}`);
  }
});

t.test('links within the reference lead somewhere', async (t) => {
  const anchors = new Set(
    found(page, /^#+ (.*)$/gm).map((heading) =>
      heading
        .toLowerCase()
        .replace(/[^\w -]/g, '')
        .replaceAll(' ', '-'),
    ),
  );
  for (const anchor of new Set(found(page, /\]\(#([\w-]+)\)/g))) t.ok(anchors.has(anchor), `#${anchor}`);
});

t.test('every reference in the JSON Schema files has its definition', async (t) => {
  for (const schema of [clientSchema(), serverSchema()]) {
    const names = found(JSON.stringify(schema), /"#\/\$defs\/(\w+)"/g);
    for (const name of new Set(names)) t.ok(isDefined(schema, name), name);
  }
});

function isDefined({ $defs = {} }: JsonSchema, name: string): boolean {
  return Object.hasOwn($defs, name);
}
