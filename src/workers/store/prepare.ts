import { log } from '../../shared/log.js';
import type { TaskAnswer } from '../../shared/tasks.js';
import { migrate } from './migrate.js';

/** Brings the schema up to date before the process serves anybody. */
export async function prepareDatabase(url: string): Promise<TaskAnswer> {
  try {
    const { applied } = await migrate(url);
    if (applied > 0) log.store.info('migrated', { applied });
    return { ok: true };
  } catch (error) {
    return { ok: false, reason: error instanceof Error ? error.message : String(error) };
  }
}
