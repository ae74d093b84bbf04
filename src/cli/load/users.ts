import type { Connection } from 'mysql2/promise';
import type { Config } from '../../shared/config.js';
import { type Account, addAccount, findAccount, usersAreAView } from '../../workers/store/accounts.js';
import { withDatabase } from '../database.js';
import { Problem } from '../problem.js';
import { signToken } from '../token.js';

/** With whose rights a phone logs in. */
export interface Credentials {
  readonly userId: number;
  readonly who: { readonly token: string } | { readonly userId: number };
}

/** Seconds that a token stays good after the planned end of the run. */
const SPARE_S = 3600;

/**
 * The users `load-0001`, `load-0002` … of the server's database, made if they are not there yet, and a token for
 * each. They stay for the next run.
 * @throws {Problem} if they can't be made
 */
export async function credentials(count: number, seconds: number, config: Config): Promise<Credentials[]> {
  const accounts = await withDatabase(config, (connection) => loadAccounts(connection, count));
  if (config.CHAT_AUTH === 'open') return accounts.map(({ id }) => ({ userId: id, who: { userId: id } }));
  return Promise.all(
    accounts.map(async ({ id }) => {
      const { token } = await signToken(config, id, Math.ceil(seconds) + SPARE_S);
      return { userId: id, who: { token } };
    }),
  );
}

async function loadAccounts(connection: Connection, count: number): Promise<Account[]> {
  const accounts: Account[] = [];
  let isView: boolean | undefined;
  for (let n = 1; n <= count; n++) {
    const username = `load-${String(n).padStart(4, '0')}`;
    let account = await findAccount(connection, username);
    if (account === null) {
      isView ??= await usersAreAView(connection);
      if (isView) {
        throw new Problem(
          `chat_user is a view of your own users, so load can't add ${username}: add load-0001 to ` +
            `load-${String(count).padStart(4, '0')} there`,
        );
      }
      const user = { username, displayName: `Load ${n}`, password: undefined };
      // `null`: another run made it in between.
      account = (await addAccount(connection, user)) ?? (await findAccount(connection, username));
    }
    if (account === null || account.disabledAt !== null)
      throw new Problem(`The user ${username} is disabled.`);
    accounts.push(account);
  }
  return accounts;
}
