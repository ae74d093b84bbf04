import fc from 'fast-check';
import type { RequestData, RequestType } from '../../src/shared/protocol/requests.js';

/** Requests made up by fast-check: valid ones of every type, and what becomes of them under mutation. */

/** A request as a client writes it. */
export interface WrittenRequest {
  readonly id: string | number;
  readonly type: string;
  readonly data?: unknown;
}

// Small numbers, so that rooms and users which exist are hit; and the largest.
const someId = fc.oneof(
  { weight: 9, arbitrary: fc.integer({ min: 1, max: 8 }) },
  fc.maxSafeNat().map((n) => n || 1),
);
const seq = fc.oneof({ weight: 9, arbitrary: fc.integer({ min: 0, max: 12 }) }, fc.maxSafeNat());
const text = (minLength: number, maxLength: number) =>
  fc.string({ unit: 'grapheme', minLength, maxLength: maxLength / 4 });
const key = text(1, 64);
const name = text(1, 100);
const limit = (max: number) => fc.integer({ min: 1, max });
const path = fc.stringMatching(/^\/images\/[\wㄱ-힣 ]{1,40}$/);
const cursor = fc.oneof(
  fc.constantFrom('1', '1.1', '0', 'x'),
  fc.string({ unit: 'grapheme', maxLength: 20 }),
);
const visibility = fc.constantFrom('public' as const, 'private' as const);

/** Only some of the fields, each value never undefined: a client leaves a field out. */
const some = <T extends object>(model: { [K in keyof T]: fc.Arbitrary<T[K]> }) =>
  fc.record(model, { requiredKeys: [] });

function both<A extends object, B extends object>(a: fc.Arbitrary<A>, b: fc.Arbitrary<B>) {
  return fc.tuple(a, b).map(([one, other]) => ({ ...one, ...other }));
}

const room = fc.record({ roomId: someId });
const roomAndUser = fc.record({ roomId: someId, userId: someId });
const empty = fc.constant({});
const image = both(
  fc.record({ path }),
  some({
    thumbnailPath: path,
    width: limit(1_000_000),
    height: limit(1_000_000),
    bytes: fc.maxSafeNat(),
    mimeType: text(1, 127),
    caption: text(0, 1000),
  }),
);
const device = both(fc.record({ id: text(1, 128) }), some({ name: text(0, 100), platform: text(0, 100) }));

/** Data that passes the schema of its request (not every one of them succeeds). */
const DATA: { readonly [T in RequestType]: fc.Arbitrary<RequestData<T>> } = {
  ping: empty,
  'auth.login': fc.record({ token: fc.string({ minLength: 1, maxLength: 100 }), device }),
  'auth.refresh': fc.record({ token: fc.string({ minLength: 1, maxLength: 100 }) }),
  'auth.logout': empty,
  'room.create': both(
    fc.record({ name }),
    some({
      visibility,
      memberIds: fc.array(fc.integer({ min: 1, max: 6 }), { maxLength: 6 }),
      memberLimit: limit(100),
      clientRoomId: key,
    }),
  ),
  'room.direct': fc.record({ userId: someId }),
  'room.list': both(
    fc.record({ scope: fc.constantFrom('mine' as const, 'public' as const) }),
    some({ query: text(0, 100), cursor, limit: limit(100) }),
  ),
  'room.get': room,
  'room.join': room,
  'room.invite': fc.record({ roomId: someId, userIds: fc.array(someId, { minLength: 1, maxLength: 8 }) }),
  'room.leave': room,
  'room.members': both(room, some({ cursor, limit: limit(200) })),
  'room.update': both(room, some({ name, visibility, memberLimit: limit(100) })),
  'room.kick': both(roomAndUser, some({ ban: fc.boolean() })),
  'room.unban': roomAndUser,
  'room.transfer': roomAndUser,
  'room.delete': room,
  'message.send': fc.oneof(
    both(
      fc.record({
        roomId: someId,
        clientMessageId: key,
        kind: fc.constant('text' as const),
        text: text(1, 400),
      }),
      some({ replyTo: fc.integer({ min: 1, max: 12 }) }),
    ),
    fc.record({ roomId: someId, clientMessageId: key, kind: fc.constant('image' as const), image }),
  ),
  'message.history': both(room, some({ beforeSeq: seq, afterSeq: seq, limit: limit(100) })),
  'message.delivered': fc.record({ roomId: someId, seq }),
  'message.read': fc.record({ roomId: someId, seq }),
  typing: fc.record({ roomId: someId, typing: fc.boolean() }),
  sync: both(
    fc.record({ cursors: fc.array(fc.record({ roomId: someId, afterSeq: seq }), { maxLength: 8 }) }),
    some({ limit: limit(1000) }),
  ),
  'user.get': fc.record({ userIds: fc.array(someId, { maxLength: 10 }) }),
  'user.list': some({ query: text(0, 100), cursor, limit: limit(100) }),
  'presence.subscribe': fc.record({ userIds: fc.array(someId, { maxLength: 10 }) }),
};

const requestId = fc.oneof(key, fc.maxSafeNat());

/** A request that passes its schema, of every type but those left out. */
export function validRequest(without: readonly RequestType[] = []): fc.Arbitrary<WrittenRequest> {
  const types = Object.entries(DATA).filter(([type]) => !without.some((one) => one === type));
  return fc.oneof(
    ...types.map(([type, data]) => fc.record({ id: requestId, type: fc.constant(type), data })),
  );
}

/** What stands in the wrong place. */
const ODD: fc.Arbitrary<unknown> = fc.oneof(
  fc.constantFrom<unknown>(
    null,
    true,
    '',
    '\u0000',
    '\ud800',
    'a\udc00',
    "' OR 1=1 -- ",
    '__proto__',
    0,
    -1,
    1.5,
    2 ** 53,
    -(2 ** 53),
    1e300,
    Number.MIN_VALUE,
    [],
    {},
    [[]],
    'x'.repeat(2000),
    '/images/../x',
  ),
  fc.jsonValue({ maxDepth: 3 }),
  fc.string({ unit: 'binary' }),
);

type Mutation =
  | { readonly kind: 'replace' | 'add'; readonly at: number; readonly value: unknown; readonly name: string }
  | { readonly kind: 'drop'; readonly at: number };

const NAMES = ['__proto__', 'constructor', 'id', 'type', 'data', 'roomId', 'toString', 'x', '\ud800', ''];
const mutation: fc.Arbitrary<Mutation> = fc.oneof(
  fc.record({
    kind: fc.constantFrom('replace' as const, 'add' as const),
    at: fc.nat(1000),
    value: ODD,
    name: fc.oneof(fc.constantFrom(...NAMES), fc.string()),
  }),
  fc.record({ kind: fc.constant('drop' as const), at: fc.nat(1000) }),
);

/** The request with one to three places replaced, dropped or added. */
export function mutated(request: fc.Arbitrary<WrittenRequest>): fc.Arbitrary<unknown> {
  return fc.tuple(request, fc.array(mutation, { minLength: 1, maxLength: 3 })).map(([one, mutations]) => {
    let value: unknown = structuredClone(one);
    for (const each of mutations) value = mutate(value, each);
    return value;
  });
}

/** Counts the places of the value in depth; the one at `at` is where it happens. */
function mutate(value: unknown, mutation: Mutation): unknown {
  const places = countPlaces(value);
  let left = mutation.at % places;
  const walk = (node: unknown): unknown => {
    const isHere = left-- === 0;
    if (isHere && mutation.kind === 'replace') return mutation.value;
    if (isHere && mutation.kind === 'drop') return undefined;
    if (Array.isArray(node)) {
      const items = node.map(walk).filter((item) => item !== undefined);
      return isHere && mutation.kind === 'add' ? [...items, mutation.value] : items;
    }
    if (typeof node === 'object' && node !== null) {
      const entries = Object.entries(node).map(([name, item]): [string, unknown] => [name, walk(item)]);
      if (isHere && mutation.kind === 'add') entries.push([mutation.name, mutation.value]);
      // Defines own fields, `__proto__` as well.
      return Object.fromEntries(entries);
    }
    return node;
  };
  return walk(value) ?? null;
}

function countPlaces(value: unknown): number {
  if (typeof value !== 'object' || value === null) return 1;
  return Object.values(value).reduce((sum: number, item) => sum + countPlaces(item), 1);
}
