import { parseArgs } from 'node:util';
import type { Connection } from 'mysql2/promise';
import type { Config } from '../shared/config.js';
import {
  ACCOUNTS_LISTED,
  type Account,
  addAccount,
  disableAccount,
  findAccount,
  listAccounts,
  usersAreAView,
} from '../workers/store/accounts.js';
import { withDatabase } from './database.js';
import { Problem, UsageProblem } from './problem.js';
import { createTable } from './table.js';

const VIEW =
  "chat_user is a view of the site's own users here: they are added and disabled where the site keeps them, not by this program.";

/** `sarangbang user add|list|disable` */
export async function user(args: string[], config: Config): Promise<number> {
  const [action, ...rest] = args;
  switch (action) {
    case 'add':
      return add(rest, config);
    case 'list':
      return list(rest, config);
    case 'disable':
      return disable(rest, config);
    default:
      throw new UsageProblem(
        action === undefined ? 'user: add, list or disable?' : `user: there is no "${action}"`,
      );
  }
}

async function add(args: string[], config: Config): Promise<number> {
  const { positionals, values } = parseArgs({
    args,
    allowPositionals: true,
    options: { 'display-name': { type: 'string' }, password: { type: 'string' } },
  });
  const username = oneName(positionals);
  if (!/^[\p{L}\p{M}\p{N}._-]{1,64}$/u.test(username)) {
    throw new Problem(
      `"${username}" is no user name: 1 to 64 letters, digits, dots, underscores or hyphens.`,
    );
  }
  const displayName = values['display-name'] ?? username;
  if (!/^[^\p{Cc}\p{Cs}]{1,100}$/u.test(displayName)) {
    throw new Problem('A display name has 1 to 100 characters and no control characters.');
  }
  if (values.password === '') throw new Problem('The password is empty.');
  const account = await withDatabase(config, async (connection) => {
    await refuseView(connection);
    return addAccount(connection, { username, displayName, password: values.password });
  });
  if (account === null) throw new Problem(`The name ${username} is taken.`);
  print(account);
  return 0;
}

async function list(args: string[], config: Config): Promise<number> {
  const { values } = parseArgs({ args, options: { json: { type: 'boolean', default: false } } });
  const accounts = await withDatabase(config, listAccounts);
  if (values.json) {
    process.stdout.write(`${JSON.stringify(accounts)}\n`);
    return 0;
  }
  const table = createTable({ head: ['id', 'name', 'display name', 'disabled'] });
  for (const { id, username, displayName, disabledAt } of accounts) {
    table.push([id, username, displayName, disabledAt === null ? '' : new Date(disabledAt).toISOString()]);
  }
  process.stdout.write(`${table.toString()}\n`);
  if (accounts.length === ACCOUNTS_LISTED)
    process.stdout.write(`Only the first ${ACCOUNTS_LISTED} are shown.\n`);
  return 0;
}

async function disable(args: string[], config: Config): Promise<number> {
  const { positionals } = parseArgs({ args, allowPositionals: true });
  const username = oneName(positionals);
  const account = await withDatabase(config, async (connection) => {
    await refuseView(connection);
    return disableAccount(connection, username);
  });
  if (account === null) throw new Problem(`There is no user ${username}.`);
  print(account);
  return 0;
}

/** The user of that name, or a {@link Problem} that says what is wrong with it. */
export async function enabledAccount(connection: Connection, username: string): Promise<Account> {
  const account = await findAccount(connection, username);
  if (account === null) {
    throw new Problem(`There is no user ${username}; \`npx sarangbang user list\` shows those there are.`);
  }
  if (account.disabledAt !== null) throw new Problem(`The user ${username} is disabled.`);
  return account;
}

async function refuseView(connection: Connection): Promise<void> {
  if (await usersAreAView(connection)) throw new Problem(VIEW);
}

/** The one positional argument of a command about a user. */
export function oneName(positionals: readonly string[]): string {
  const [name, ...more] = positionals;
  if (name === undefined) throw new UsageProblem('the NAME of the user is missing');
  if (more.length > 0) throw new UsageProblem(`one NAME, not "${positionals.join(' ')}"`);
  return name;
}

function print(account: Account): void {
  process.stdout.write(`${JSON.stringify(account)}\n`);
}
