// `npm start`. One process from here to the end, so that signals and the exit code are its own.
import { prepareOrExit } from './prepare.js';

await prepareOrExit();
await import('../dist/src/main/start.js');
