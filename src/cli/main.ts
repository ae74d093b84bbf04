import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { type Config, ConfigError, loadConfig } from '../shared/config.js';
import { doctor } from './doctor.js';
import { load } from './load.js';
import { Problem, UsageProblem } from './problem.js';
import { token } from './token.js';
import { user } from './user.js';
import { who } from './who.js';

/** `npx sarangbang …`: finds the command, runs it, and turns what goes wrong into words and an exit code. */

const USAGE = `Usage: npx sarangbang COMMAND

  user add NAME [--display-name TEXT] [--password TEXT]
                            adds a user and prints it as JSON
  user list [--json]        shows the users
  user disable NAME         a disabled user cannot log in any more
  token NAME [--ttl 1h]     prints JSON with a token to log in with
  who [--json]              shows who is connected, from where, and in which rooms
  doctor [--user NAME]      checks everything, up to a message through the running server
  load [--help]             simulates users and checks that nothing is lost
  check-config              checks the settings in the environment and .env

The settings are those of the server: the environment and .env.`;

const COMMANDS: Readonly<Record<string, (args: string[], config: Config) => Promise<number>>> = {
  user,
  token,
  who,
  doctor,
  load,
  'check-config': async () => {
    process.stdout.write('The configuration is in order.\n');
    return 0;
  },
};

async function main([name, ...args]: string[]): Promise<number> {
  if (name === undefined) throw new UsageProblem('which command?');
  if (name === 'help' || name === '--help' || name === '-h' || (args.includes('--help') && name !== 'load')) {
    process.stdout.write(`${USAGE}\n`);
    return 0;
  }
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (command === undefined) throw new UsageProblem(`there is no command "${name}"`);
  const root = join(import.meta.dirname, '../../..');
  const dotenv = join(root, '.env');
  if (existsSync(dotenv)) process.loadEnvFile(dotenv);
  return command(args, loadConfig(process.env, root));
}

function report(error: unknown): number {
  if (error instanceof UsageProblem || isParseArgsError(error)) {
    process.stderr.write(`sarangbang: ${error.message}\n\n${USAGE}\n`);
    return 2;
  }
  const expected = error instanceof Problem || error instanceof ConfigError;
  const text = error instanceof Error ? (expected ? error.message : error.stack) : String(error);
  process.stderr.write(`${text}\n`);
  return 1;
}

/** What `parseArgs` throws about an unknown option or a missing value. */
function isParseArgsError(error: unknown): error is Error {
  return error instanceof Error && 'code' in error && String(error.code).startsWith('ERR_PARSE_ARGS_');
}

process.exitCode = await main(process.argv.slice(2)).catch(report);
