#!/usr/bin/env node
import { existsSync } from 'node:fs';
import { join } from 'node:path';

// A deployed copy has its build and nothing to build it with; a fresh clone is made ready first.
if (!existsSync(join(import.meta.dirname, '../dist/src/cli/main.js'))) {
  const { prepareOrExit } = await import('../scripts/prepare.js');
  await prepareOrExit();
}
await import('../dist/src/cli/main.js');
