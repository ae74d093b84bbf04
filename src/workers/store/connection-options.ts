import type { ConnectionOptions } from 'mysql2/promise';

/**
 * How every part of the program connects to MySQL, from the one URL of the configuration
 * (`mysql://user:password@host:port/database`, with `?socketPath=/…` for a Unix socket and `?ssl=yes` for TLS with
 * a certificate that is verified). One function, so that character set and time zone cannot differ between a worker,
 * a migration and a command.
 *
 * Several statements in one query stay off, because they are what makes an injection worse: the migrations ask for
 * them where they run their files.
 * @throws {Error} when the URL has a parameter that this program does not know
 */
export function connectionOptions(mysqlUrl: string): ConnectionOptions {
  const url = new URL(mysqlUrl);
  const options: ConnectionOptions = {
    user: decodeURIComponent(url.username) || 'root',
    password: decodeURIComponent(url.password),
    database: decodeURIComponent(url.pathname.slice(1)),
    charset: 'utf8mb4_unicode_ci',
    timezone: 'Z',
    supportBigNumbers: false,
    dateStrings: false,
    multipleStatements: false,
    connectTimeout: 5_000,
  };
  const socketPath = url.searchParams.get('socketPath');
  if (socketPath === null) {
    // WHATWG URLs keep the brackets of an IPv6 address, net.connect wants it without.
    options.host = url.hostname.replace(/^\[|\]$/g, '');
    options.port = url.port === '' ? 3306 : Number(url.port);
  } else {
    options.socketPath = socketPath;
  }
  if (url.searchParams.get('ssl') === 'yes') options.ssl = {};
  for (const [name, value] of url.searchParams) {
    if (name === 'socketPath' || (name === 'ssl' && (value === 'yes' || value === 'no'))) continue;
    throw new Error(`CHAT_MYSQL_URL: ${name}=${value} is unknown; known are socketPath=/… and ssl=yes`);
  }
  return options;
}
