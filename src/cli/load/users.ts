import { SignJWT } from 'jose';
import { type Connection, createConnection } from 'mysql2/promise';
import { embeddedDatabaseUrl } from '../../main/embedded-database.js';
import type { Config } from '../../shared/config.js';
import { jwtSecret } from '../../shared/secret.js';
import { type Account, addAccount, findAccount, usersAreAView } from '../../workers/store/accounts.js';
import { connectionOptions } from '../../workers/store/connection-options.js';
import { LoadError } from './options.js';

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
 * @throws {LoadError} if they can't be made
 */
export async function credentials(count: number, seconds: number, config: Config): Promise<Credentials[]> {
  const url = config.CHAT_MYSQL_URL ?? embeddedDatabaseUrl(config.CHAT_DATA_DIR);
  let accounts: Account[];
  try {
    const connection = await createConnection(connectionOptions(url));
    try {
      accounts = await loadAccounts(connection, count);
    } finally {
      connection.destroy();
    }
  } catch (error) {
    if (error instanceof LoadError || !(error instanceof Error && 'code' in error)) throw error;
    throw new LoadError(`its users can't be made in the database (${error.message}); does the server run?`);
  }
  if (config.CHAT_AUTH === 'open') return accounts.map(({ id }) => ({ userId: id, who: { userId: id } }));
  if (config.CHAT_JWT_JWKS !== undefined && config.CHAT_JWT_SECRET === undefined) {
    throw new LoadError(
      'the server takes tokens of CHAT_JWT_JWKS only: set CHAT_JWT_SECRET too, so that load can sign',
    );
  }
  const key = new TextEncoder().encode(jwtSecret(config));
  const expiresAt = Math.ceil(Date.now() / 1000 + seconds + SPARE_S);
  return Promise.all(
    accounts.map(async ({ id }) => {
      const jwt = new SignJWT()
        .setProtectedHeader({ alg: 'HS256' })
        .setSubject(String(id))
        .setExpirationTime(expiresAt);
      if (config.CHAT_JWT_ISSUER !== undefined) jwt.setIssuer(config.CHAT_JWT_ISSUER);
      if (config.CHAT_JWT_AUDIENCE !== undefined) jwt.setAudience(config.CHAT_JWT_AUDIENCE);
      return { userId: id, who: { token: await jwt.sign(key) } };
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
        throw new LoadError(
          `chat_user is a view of your own users, so load can't add ${username}: add load-0001 to ` +
            `load-${String(count).padStart(4, '0')} there`,
        );
      }
      const user = { username, displayName: `Load ${n}`, password: undefined };
      // `null`: another run made it in between.
      account = (await addAccount(connection, user)) ?? (await findAccount(connection, username));
    }
    if (account === null || account.disabledAt !== null)
      throw new LoadError(`the user ${username} is disabled`);
    accounts.push(account);
  }
  return accounts;
}
