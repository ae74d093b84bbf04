import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { Session } from 'node:inspector';
import { join } from 'node:path';
import { BroadcastChannel, isMainThread, threadId } from 'node:worker_threads';

// Preloaded into a server that is profiled, in every thread of it: SIGUSR2 starts the profilers of all threads, and
// once more stops them. Unlike `--cpu-prof` this leaves out the start. A thread's file ends in `.recording` until
// it is whole.
const directory = process.env.BENCH_PROFILE_DIR ?? '.';
const file = join(directory, isMainThread ? 'main' : `worker-${threadId}`);
const channel = new BroadcastChannel('sarangbang-bench-profile');
channel.unref();
const session = new Session();
session.connect();
let recording = false;

function toggle(): void {
  recording = !recording;
  if (recording) {
    mkdirSync(directory, { recursive: true });
    writeFileSync(`${file}.recording`, '');
    session.post('Profiler.enable');
    session.post('Profiler.setSamplingInterval', { interval: 500 });
    session.post('Profiler.start');
    return;
  }
  session.post('Profiler.stop', (error, result) => {
    if (error !== null) throw error;
    writeFileSync(`${file}.recording`, JSON.stringify(result.profile));
    renameSync(`${file}.recording`, `${file}.cpuprofile`);
  });
}

channel.onmessage = toggle;
if (isMainThread) {
  process.on('SIGUSR2', () => {
    channel.postMessage(undefined);
    toggle();
  });
}
