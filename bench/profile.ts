import { readdir, readFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The parts of a V8 CPU profile that matter here. */
interface CpuProfile {
  readonly nodes: readonly {
    readonly id: number;
    readonly callFrame: { readonly functionName: string; readonly url: string; readonly lineNumber: number };
  }[];
  readonly samples: readonly number[];
  /** µs since the sample before. */
  readonly timeDeltas: readonly number[];
}

/** Functions listed per kind of thread. */
const TOP = 25;
/** V8's names for time in which no thread of ours did anything. */
const IDLE = '(idle)';

/** Reads the profiles of a directory (see record-profile.ts) and says where main thread and workers spent their time. */
export async function profileSummary(directory: string): Promise<string> {
  const profiles = { 'main thread': new Map<string, number>(), 'worker threads': new Map<string, number>() };
  const threads = { 'main thread': 0, 'worker threads': 0 };
  for (const file of await readdir(directory)) {
    const thread = file === 'main.cpuprofile' ? 'main thread' : 'worker threads';
    threads[thread]++;
    const profile: CpuProfile = JSON.parse(await readFile(join(directory, file), 'utf8'));
    addSelfTimes(profile, profiles[thread]);
  }
  return Object.entries(profiles)
    .map(([thread, times]) => list(`${thread} (${threads[thread as keyof typeof threads]})`, times))
    .join('\n');
}

function addSelfTimes({ nodes, samples, timeDeltas }: CpuProfile, times: Map<string, number>): void {
  const names = new Map(nodes.map(({ id, callFrame }) => [id, nameOf(callFrame)]));
  for (const [index, id] of samples.entries()) {
    const name = names.get(id) ?? '?';
    times.set(name, (times.get(name) ?? 0) + (timeDeltas[index + 1] ?? 0));
  }
}

function nameOf({ functionName, url, lineNumber }: CpuProfile['nodes'][number]['callFrame']): string {
  const name = functionName === '' ? '(anonymous)' : functionName;
  if (url === '') return name;
  const where = url.startsWith('file:') ? relative(process.cwd(), fileURLToPath(url)) : url;
  return `${name}  ${where.replace(/^.*node_modules\//, '')}:${lineNumber + 1}`;
}

function list(title: string, times: ReadonlyMap<string, number>): string {
  const idle = times.get(IDLE) ?? 0;
  const all = [...times.values()].reduce((total, time) => total + time, 0);
  const busy = all - idle;
  if (all === 0) return `${title}: no profile`;
  const lines = [...times]
    .filter(([name]) => name !== IDLE)
    .sort(([, a], [, b]) => b - a)
    .slice(0, TOP)
    .map(([name, time]) => `  ${((100 * time) / busy).toFixed(1).padStart(5)} %  ${name}`);
  return `${title}: busy ${((100 * busy) / all).toFixed(0)} % of the time; self time of that\n${lines.join('\n')}\n`;
}
