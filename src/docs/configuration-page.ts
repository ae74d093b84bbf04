import { z } from 'zod';
import { configSchema } from '../shared/config.js';

/** Defaults that depend on the machine, in words. */
const COMPUTED: Readonly<Record<string, string>> = { CHAT_WORKER_THREADS: 'one per core, at most 8' };

/** `docs/configuration.md` from the one schema of the settings. */
export function configurationPage(): string {
  const rows = Object.entries(configSchema.shape).map(([name, schema]) => {
    const values = z.toJSONSchema(schema, { io: 'output', unrepresentable: 'any' });
    const meaning = (values.description ?? '').replaceAll('|', '\\|');
    return `| \`${name}\` | ${COMPUTED[name] ?? defaultOf(values.default)} | ${allowed(values)} | ${meaning} |`;
  });
  return `${[HEAD, '| name | default | allowed | meaning |', '|---|---|---|---|', ...rows].join('\n')}\n\n${TAIL}\n`;
}

function defaultOf(value: unknown): string {
  if (value === undefined) return '–';
  // What the schema turns into a boolean is written `yes` or `no`.
  return `\`${typeof value === 'boolean' ? (value ? 'yes' : 'no') : value}\``;
}

function allowed(values: z.core.JSONSchema.BaseSchema): string {
  if (typeof values.default === 'boolean') return '`yes`, `no`';
  if (values.enum !== undefined) return values.enum.map((value) => `\`${value}\``).join(', ');
  const { minimum, maximum } = values;
  return minimum === undefined || maximum === undefined ? '' : `${minimum}–${maximum}`;
}

const HEAD = `<!-- Made by \`npm run docs\` from src/shared/config.ts: change that. -->

# Configuration

Settings are environment variables. A file \`.env\` in the project's directory is read at start; what the environment
says already wins over it. All of them are checked before anything else happens: a mistake stops the start, with
every problem listed. An empty value is the same as none. A name that begins with \`CHAT_\` and is no setting is told in
the log, as it may be a typo.
`;

const TAIL = `Names that end in \`_MS\` are milliseconds, in \`_BYTES\` bytes. Relative paths are meant from the project's directory.

\`CHAT_MYSQL_URL\` takes two parameters: \`socketPath=/path\` for a Unix socket in the place of host and port, and \`ssl=yes\` for
TLS with a certificate that is verified. Characters of the password that mean something in a URL are percent-encoded
(\`@\` is \`%40\`).

An example of a \`.env\`:

\`\`\`sh
CHAT_TCP_HOST=0.0.0.0
CHAT_MYSQL_URL=mysql://chat:secret@db.example.com:3306/site
CHAT_JWT_SECRET=at-least-32-characters-that-the-API-server-knows-too
CHAT_JWT_ISSUER=https://www.example.com
\`\`\``;
