import t from 'tap';
import type { RequestData } from '../src/shared/protocol/requests.js';
import { codeOf, type Phone, startServer, USERS } from './support/server.js';

/** PROTOCOL 8: `user.get` and `user.list`. */
const server = await startServer(t);

/** Users beside those of every test, from id 11 on: [username, displayName]. */
const MORE = [
  ['percent', '100% sure'],
  ['under_score', 'Under_Score'],
  ['underXscore', 'UnderXScore'],
  ['back\\slash', 'C:\\temp\\new'],
  ["o'brien", "Conan O'Brien"],
  ['bang', 'Hey! You!'],
  ['quote', 'The "quoted" one'],
  ['kim.minsu', '김민수'],
  ['kim.minji', '김민지'],
  ['smile', '별 😀'],
  ['cool', '달 😎'],
  ['rtl', 'שלום'],
  ['minimal', 'Someone Else'],
  ['not-a-prefix-mina', 'Nobody'],
  ['away', 'Disabled One'],
] as const;

for (const [i, [username, displayName]] of MORE.entries()) {
  await server.sql('INSERT INTO chat_user (id, username, display_name, avatar_path) VALUES (?, ?, ?, ?)', [
    11 + i,
    username,
    displayName,
    username === 'smile' ? '/images/avatars/smile.png' : null,
  ]);
}
await server.sql("UPDATE chat_user SET disabled_at = NOW(3) WHERE username = 'away'");

async function list(phone: Phone, query?: string): Promise<string[]> {
  const { users } = await phone.client.request('user.list', query === undefined ? {} : { query });
  return users.map(({ username }) => username);
}

t.test('user.get: users by id, whole', async (t) => {
  const mina = await server.within(t).phone('mina');
  const { users } = await mina.client.request('user.get', { userIds: [20, 1] });
  t.strictSame(
    users.toSorted((a, b) => a.id - b.id),
    [
      { id: 1, username: 'mina', displayName: 'MINA', avatarPath: null },
      { id: 20, username: 'smile', displayName: '별 😀', avatarPath: '/images/avatars/smile.png' },
    ],
  );
});

t.test(
  'user.get: unknown ids are left out, repeated ones come once, disabled users are still somebody',
  async (t) => {
    const mina = await server.within(t).phone('mina');
    const get = async (...userIds: number[]) => {
      const { users } = await mina.client.request('user.get', { userIds });
      return users.map(({ username }) => username).sort();
    };
    t.strictSame(await get(999_999, 1, 1, 2, Number.MAX_SAFE_INTEGER), ['jun', 'mina']);
    t.strictSame(await get(), []);
    t.strictSame(await get(999_999), []);
    t.strictSame(await get(10 + MORE.length), ['away'], 'a message of theirs still has an author');
  },
);

t.test('user.get: 100 ids at most, each a user id', async (t) => {
  const mina = await server.within(t).phone('mina');
  const get = (...userIds: number[]) => codeOf(mina.client.request('user.get', { userIds }));
  const ids = Array.from({ length: 101 }, (_, i) => i + 1);
  t.equal(await get(...ids.slice(0, 100)), 'ok');
  for (const wrong of [ids, [0], [-1], [1.5], [2 ** 53]]) t.equal(await get(...wrong), 'BAD_REQUEST');
});

t.test('user.list: without a query everybody who is not disabled', async (t) => {
  const mina = await server.within(t).phone('mina');
  const everybody = [...USERS, ...MORE.map(([username]) => username)].filter((name) => name !== 'away');
  t.strictSame(await list(mina), everybody);
  t.strictSame(await list(mina, ''), everybody, 'an empty query is none');
});

t.test('user.list: by the beginning of the username or a part of the display name', async (t) => {
  const mina = await server.within(t).phone('mina');
  t.strictSame(await list(mina, 'min'), ['mina', 'minimal'], 'not in the middle of a username');
  t.strictSame(await list(mina, 'MIN'), ['mina', 'minimal'], 'whatever the case');
  t.strictSame(await list(mina, '김민'), ['kim.minsu', 'kim.minji']);
  t.strictSame(await list(mina, '민지'), ['kim.minji'], 'in the middle of a display name');
  t.strictSame(await list(mina, 'kim.'), ['kim.minsu', 'kim.minji']);
  t.strictSame(await list(mina, 'Else'), ['minimal'], 'at its end');
  t.strictSame(await list(mina, 'שלום'), ['rtl']);
  t.strictSame(await list(mina, 'nobody at all'), []);
  t.strictSame(await list(mina, 'Disabled'), [], 'disabled users are not found');
});

t.test('user.list: %, _, \\, ! and quotes in the query are just characters', async (t) => {
  const mina = await server.within(t).phone('mina');
  const expected: Record<string, string[]> = {
    '%': ['percent'],
    '100%': ['percent'],
    '1%0': [],
    '%%': [],
    '%a%': [],
    _: ['under_score'],
    under_: ['under_score'],
    Under_S: ['under_score'],
    underX: ['underXscore'],
    __: [],
    '\\': ['back\\slash'],
    'back\\': ['back\\slash'],
    ':\\temp\\': ['back\\slash'],
    '\\\\': [],
    '\\%': [],
    '\\_': [],
    '!': ['bang'],
    '!!': [],
    '! Y': ['bang'],
    '!%': [],
    '!_': [],
    "'": ["o'brien"],
    "O'": ["o'brien"],
    '"quoted"': ['quote'],
    "' OR 1=1 -- ": [],
    "') UNION SELECT 1,2,3,4 -- ": [],
    '\u0000': [],
    '?': [],
    '*': [],
    ':': ['back\\slash'],
  };
  for (const [query, names] of Object.entries(expected)) {
    t.strictSame(await list(mina, query), names, JSON.stringify(query));
  }
});

t.test('user.list: one emoji is not another', async (t) => {
  const mina = await server.within(t).phone('mina');
  t.strictSame(await list(mina, '😀'), ['smile']);
  t.strictSame(await list(mina, '😎'), ['cool']);
  t.strictSame(await list(mina, '🤖'), []);
});

t.test('user.list: pages show everybody once, in one order', async (t) => {
  const mina = await server.within(t).phone('mina');
  const everybody = await list(mina);
  for (const limit of [1, 4, 7, everybody.length, 100]) {
    const seen: string[] = [];
    let pages = 0;
    for (let cursor: string | null | undefined; cursor !== null; pages++) {
      const { users, nextCursor } = await mina.client.request('user.list', {
        limit,
        ...(cursor && { cursor }),
      });
      t.ok(users.length <= limit);
      seen.push(...users.map(({ username }) => username));
      cursor = nextCursor;
    }
    t.strictSame(seen, everybody, `${limit} per page`);
    t.equal(pages, Math.ceil(everybody.length / limit), 'and no empty page at the end');
  }
  const first = await mina.client.request('user.list', { query: 'min', limit: 1 });
  t.strictSame(
    first.users.map(({ username }) => username),
    ['mina'],
  );
  const cursor = first.nextCursor ?? '';
  const second = await mina.client.request('user.list', { query: 'min', limit: 1, cursor });
  t.strictSame(
    second.users.map(({ username }) => username),
    ['minimal'],
  );
  t.equal(second.nextCursor, null);
});

t.test('user.list: limits, queries and cursors out of range are BAD_REQUEST', async (t) => {
  const mina = await server.within(t).phone('mina');
  const wrong: [RequestData<'user.list'>, string][] = [
    [{ limit: 0 }, 'data.limit'],
    [{ limit: 101 }, 'data.limit'],
    [{ limit: 1.5 }, 'data.limit'],
    [{ query: 'x'.repeat(101) }, 'data.query'],
    [{ query: '\ud83d' }, 'data.query'],
    [{ cursor: '' }, 'data.cursor'],
    [{ cursor: 'x' }, 'data.cursor'],
    [{ cursor: '1.2' }, 'data.cursor'],
    [{ cursor: '-1' }, 'data.cursor'],
    [{ cursor: '1e3' }, 'data.cursor'],
    [{ cursor: '9007199254740992' }, 'data.cursor'],
    [{ cursor: '9'.repeat(200) }, 'data.cursor'],
    [{ cursor: '1 OR 1=1' }, 'data.cursor'],
  ];
  for (const [data, path] of wrong) {
    await t.rejects(
      mina.client.request('user.list', data),
      { code: 'BAD_REQUEST', issues: [{ path }] },
      JSON.stringify(data).slice(0, 60),
    );
  }
  t.equal(await codeOf(mina.client.request('user.list', { query: '😀'.repeat(100) })), 'ok');
  t.equal(await codeOf(mina.client.request('user.list', { cursor: '9007199254740991' })), 'ok');
});
