import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { configurationPage } from './configuration-page.js';
import { clientSchema, serverSchema } from './json-schema.js';
import { protocolPage } from './protocol-page.js';
import { readTranscript } from './transcript.js';

export const ROOT = join(import.meta.dirname, '../../..');

/** Every generated file under `docs/`: path from the root, and content. */
export function documents(): ReadonlyMap<string, string> {
  const template = readFileSync(join(ROOT, 'src/docs/protocol.template.md'), 'utf8');
  return new Map([
    ['docs/protocol.md', protocolPage(template, readTranscript())],
    ['docs/configuration.md', configurationPage()],
    ['docs/schema/client.json', `${JSON.stringify(clientSchema(), null, 2)}\n`],
    ['docs/schema/server.json', `${JSON.stringify(serverSchema(), null, 2)}\n`],
  ]);
}
