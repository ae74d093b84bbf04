import fc from 'fast-check';
import t, { type Test } from 'tap';
import type { ChatClient, Reply } from '../src/cli/client.js';
import { ERRORS } from '../src/shared/errors.js';
import type { RequestType } from '../src/shared/protocol/requests.js';
import { mutated, validRequest } from './support/requests.js';
import { type Phone, say, startServer, type TestServer } from './support/server.js';

/**
 * Requests that fast-check makes up, against a real server: each gets exactly one reply, with a code of the catalogue
 * and never INTERNAL. That every line fits its schema is checked by the harness. A counterexample comes with its seed.
 */
const server = await startServer(t);

const line = (value: unknown) => JSON.stringify(value);

/** Requests after which the connection may be closed. */
const ENDING = ['auth.login', 'auth.refresh', 'auth.logout'] as const;

/**
 * Sends the lines in one go and returns what came in reply. Replies may overtake each other, but requests take effect
 * in order: when one behind them that waits for the database was answered, and then another, they were too.
 */
async function answers(client: ChatClient, lines: readonly (string | Buffer)[]): Promise<Reply[]> {
  client.sendRaw(Buffer.concat(lines.flatMap((line) => [Buffer.from(line), Buffer.from('\n')])));
  await fence(client, 'presence.subscribe');
  await fence(client, 'user.get');
  return client.unmatched.splice(0);
}

/** A request of our own, with an id that no other has. */
async function fence(client: ChatClient, type: RequestType): Promise<Reply> {
  const id = crypto.randomUUID();
  client.sendRaw(`${line({ id, type, ...(type !== 'ping' && { data: { userIds: [] } }) })}\n`);
  return client.waitForReply(id);
}

function codeOf(reply: Reply): string {
  return reply.type === 'ok' ? 'ok' : reply.error.code;
}

/** A room of three, one of two and a direct one, with something in them, so that requests find something. */
async function furnish(here: TestServer): Promise<[Phone, Phone, Phone]> {
  const [mina, jun, sora] = await here.phones('mina', 'jun', 'sora');
  const rooms = [await here.room(mina, [jun, sora]), await here.room(jun, [mina], { visibility: 'private' })];
  const { room: direct } = await mina.client.request('room.direct', { userId: sora.userId });
  for (const { id } of [...rooms, direct]) for (let i = 0; i < 3; i++) await say(mina, id, `${i}`);
  return [mina, jun, sora];
}

async function holds(
  t: Pick<Test, 'resolves'>,
  here: TestServer,
  lines: fc.Arbitrary<string[]>,
  numRuns: number,
): Promise<void> {
  const phones = await furnish(here);
  let turn = 0;
  const property = fc.asyncProperty(lines, async (some) => {
    const phone = phones[turn++ % phones.length] ?? phones[0];
    const replies = await answers(phone.client, some);
    const codes = replies.map(codeOf);
    if (replies.length !== some.length) throw new Error(`${some.length} requests, ${replies.length} replies`);
    const strange = codes.filter((code) => code !== 'ok' && (code === 'INTERNAL' || !(code in ERRORS)));
    if (strange.length > 0) throw new Error(`answered with ${strange.join()}`);
  });
  await t.resolves(fc.assert(property, { numRuns, endOnFailure: true }));
}

t.test('valid requests of every type, in whatever state the rooms are', async (t) => {
  const requests = fc.array(validRequest(ENDING).map(line), { minLength: 1, maxLength: 12 });
  await holds(t, server.within(t), requests, 70);
});

t.test('mutated requests of every type', async (t) => {
  const requests = fc.array(mutated(validRequest(ENDING)).map(line), { minLength: 1, maxLength: 30 });
  await holds(t, server.within(t), requests, 70);
});

t.test('any JSON values', async (t) => {
  const values = fc.array(fc.json({ maxDepth: 6, noUnicodeString: false }), { minLength: 1, maxLength: 30 });
  await holds(t, server.within(t), values, 60);
});

t.test('lines of any bytes', async (t) => {
  const here = server.within(t);
  const { client } = await here.phone('hyun');
  const bytes = fc
    .uint8Array({ minLength: 1, maxLength: 200 })
    .map((one) => Buffer.from(one.map((byte) => (byte === 10 ? 11 : byte))))
    // A carriage return alone is an empty line, which is ignored.
    .filter((one) => !(one.length === 1 && one[0] === 13));
  const property = fc.asyncProperty(fc.array(bytes, { minLength: 1, maxLength: 30 }), async (lines) => {
    const replies = await answers(client, lines);
    const codes = new Set(replies.map(codeOf));
    codes.delete('BAD_JSON');
    codes.delete('BAD_REQUEST');
    return replies.length === lines.length && codes.size === 0;
  });
  await t.resolves(fc.assert(property, { numRuns: 80 }));
});

t.test('requests before the login', async (t) => {
  const here = server.within(t);
  const client = await here.connect();
  const property = fc.asyncProperty(
    fc.array(validRequest(['ping', 'auth.login']).map(line), { minLength: 1, maxLength: 20 }),
    async (lines) => {
      client.sendRaw(lines.map((one) => `${one}\n`).join(''));
      await fence(client, 'ping');
      const replies = client.unmatched.splice(0);
      return (
        replies.length === lines.length && replies.every((reply) => codeOf(reply) === 'NOT_AUTHENTICATED')
      );
    },
  );
  await t.resolves(fc.assert(property, { numRuns: 60 }));
});

t.test('logins and refreshes, valid and mutated, are refused', async (t) => {
  const here = server.within(t);
  const requests = validRequest().filter(({ type }) => type === 'auth.login' || type === 'auth.refresh');
  const refusals = new Set(['AUTH_FAILED', 'BAD_REQUEST', 'BAD_JSON', 'UNKNOWN_TYPE', 'NOT_AUTHENTICATED']);
  const property = fc.asyncProperty(
    fc.oneof(requests, mutated(requests)),
    fc.boolean(),
    async (request, isLoggedIn) => {
      const { client } = isLoggedIn ? await here.phone('bora') : { client: await here.connect() };
      client.sendRaw(`${line(request)}\n`);
      // A refused token ends the connection; anything else leaves it.
      await fence(client, 'ping').catch(() => client.closed);
      const codes = client.unmatched.map(codeOf);
      client.destroy();
      return (
        codes.length === 1 && codes.every((code) => refusals.has(code) || (isLoggedIn && code === 'CONFLICT'))
      );
    },
  );
  await t.resolves(fc.assert(property, { numRuns: 30, endOnFailure: true }));
});

t.test('the server is as it was', async (t) => {
  const here = server.within(t);
  const [mina, jun] = await here.phones('mina', 'jun');
  const room = await here.room(mina, [jun]);
  const { seq } = await say(mina, room.id, 'all is well');
  t.match(await jun.client.waitFor('message', (message) => message.roomId === room.id), {
    seq,
    text: 'all is well',
  });
});
