// `npm test`
import { prepareOrExit } from './prepare.js';

await prepareOrExit({ tests: true });
await import('../dist/test/run.js');
