// What PM2 runs. In production: `pm2 start ecosystem.config.js`, with the settings in the environment or in .env.
// `npm start` runs the same apps in the foreground, on an embedded database if there is no CHAT_MYSQL_URL.
import { existsSync } from 'node:fs';
import { join } from 'node:path';

const root = import.meta.dirname;
const dotenv = join(root, '.env');
if (existsSync(dotenv)) process.loadEnvFile(dotenv);

export const apps = [
  {
    name: 'chat',
    cwd: root,
    script: join(root, 'dist/src/main/chat.js'),
    exec_mode: 'cluster',
    instances: Number(process.env.CHAT_INSTANCES ?? 1),
    // MB of young generation before it is collected: the default doubles the memory of an idle connection.
    node_args: ['--max-semi-space-size=8'],
    // A process counts as started when it says so, and the old one of a reload is only stopped then.
    wait_ready: true,
    listen_timeout: 600_000,
    // A stop drains: accepted work is finished and the log is written. Killed only after that has failed.
    kill_timeout: 12_000,
    // The chat has threads but no child processes; PM2 would look for them with `ps`, which slim images lack.
    treekill: false,
    // A process that ended on purpose stays ended; one that crashed comes back, later and later if it keeps crashing.
    stop_exit_codes: [0],
    exp_backoff_restart_delay: 100,
    // The chat writes and rotates its own files in CHAT_LOG_DIR, with a copy to stdout for `pm2 logs`.
    merge_logs: true,
    vizion: false,
    pmx: false,
  },
];
