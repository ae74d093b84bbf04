// `npm run bench`
import { prepareOrExit } from './prepare.js';

await prepareOrExit();
await import('../dist/bench/main.js');
