import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { documents, ROOT } from './documents.js';

/** `npm run docs`: writes the reference from the schemas and the examples. A test fails when that was forgotten. */

mkdirSync(join(ROOT, 'docs/schema'), { recursive: true });
for (const [path, content] of documents()) writeFileSync(join(ROOT, path), content);
