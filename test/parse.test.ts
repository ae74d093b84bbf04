import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { ERRORS } from '../src/shared/errors.js';
import { errorLine } from '../src/shared/protocol/replies.js';
import { requestSchemas } from '../src/shared/protocol/requests.js';
import { hasLoneSurrogate } from '../src/shared/protocol/text.js';
import { type Parsed, RequestParser } from '../src/workers/parse.js';
import { mutated, validRequest } from './support/requests.js';

/** `RequestParser` on whatever bytes there are: it never throws, and says what PROTOCOL 3 says. */
const parser = new RequestParser(
  requestSchemas({
    auth: 'jwt',
    maxTextChars: 1000,
    memberLimit: 100,
    roomsPerUser: 1000,
    imagePathPrefix: '/images/',
  }),
);

const parse = (value: unknown, isLoggedIn = true) =>
  parser.parse(Buffer.from(JSON.stringify(value)), isLoggedIn);

/** The property holds of so many made-up values; a counterexample is shown with the seed that finds it again. */
function holds<T>(t: Pick<Test, 'doesNotThrow'>, property: fc.IProperty<T>, numRuns: number): void {
  t.doesNotThrow(() => fc.assert(property, { numRuns }));
}

/** What holds of every answer of the parser, whatever came in. */
function isSound(parsed: Parsed): boolean {
  if ('request' in parsed) return Object.keys(parsed.request).sort().join() === 'data,id,type';
  const line = errorLine(parsed.id, parsed.refusal);
  const { failure, issues = [] } = parsed.refusal;
  return (
    failure in ERRORS &&
    failure !== 'INTERNAL' &&
    (failure === 'BAD_REQUEST') === issues.length > 0 &&
    issues.every(({ path, message }) => message !== '' && !hasLoneSurrogate(path + message)) &&
    line.length < 10_000 &&
    line.indexOf('\n') === line.length - 1
  );
}

t.test('any bytes: an answer, and never a request', async (t) => {
  holds(
    t,
    fc.property(fc.uint8Array({ maxLength: 300 }), fc.boolean(), (bytes, isLoggedIn) => {
      const parsed = parser.parse(bytes, isLoggedIn);
      return isSound(parsed) && 'refusal' in parsed;
    }),
    3000,
  );
});

t.test('any text: an answer', async (t) => {
  const text = fc.string({ unit: 'binary', maxLength: 200 });
  holds(
    t,
    fc.property(text, (one) => isSound(parser.parse(Buffer.from(one), true))),
    3000,
  );
});

t.test('any JSON: an answer, and BAD_JSON exactly where it is no object', async (t) => {
  holds(
    t,
    fc.property(fc.jsonValue({ maxDepth: 5 }), (value) => {
      const parsed = parse(value);
      const isObject = typeof value === 'object' && value !== null && !Array.isArray(value);
      return isSound(parsed) && ('refusal' in parsed && parsed.refusal.failure === 'BAD_JSON') !== isObject;
    }),
    3000,
  );
});

t.test('a valid request of every type is read as it was written', async (t) => {
  holds(
    t,
    fc.property(validRequest(), (request) => {
      const parsed = parse(request);
      if (!('request' in parsed)) throw new Error(JSON.stringify(parsed));
      // Through JSON, where -0 is 0.
      const { data = {} } = JSON.parse(JSON.stringify(request));
      return isDeepStrictEqual(parsed.request, { ...request, data });
    }),
    1000,
  );
});

t.test('before the login only ping and auth.login are looked into', async (t) => {
  holds(
    t,
    fc.property(validRequest(), (request) => {
      const parsed = parse(request, false);
      if (request.type === 'ping' || request.type === 'auth.login') return 'request' in parsed;
      return 'refusal' in parsed && parsed.refusal.failure === 'NOT_AUTHENTICATED';
    }),
    500,
  );
});

t.test(
  'a mutated request: an answer with the id, and nothing accepted that has a field too many',
  async (t) => {
    holds(
      t,
      fc.property(mutated(validRequest()), (request) => isSound(parse(request))),
      5000,
    );
    holds(
      t,
      fc.property(validRequest(), fc.string({ minLength: 1, maxLength: 20 }), (request, name) => {
        fc.pre(!['id', 'type', 'data'].includes(name));
        const parsed = parser.parse(
          Buffer.from(`${JSON.stringify(request).slice(0, -1)},${JSON.stringify(name)}:1}`),
          true,
        );
        return 'refusal' in parsed && parsed.refusal.failure === 'BAD_REQUEST' && parsed.id === request.id;
      }),
      1000,
    );
  },
);

t.test('a valid request with one byte changed, left out or added: an answer', async (t) => {
  const change = fc.record({ at: fc.nat(), byte: fc.nat(255), kind: fc.constantFrom('set', 'drop', 'add') });
  holds(
    t,
    fc.property(validRequest(), change, (request, { at, byte, kind }) => {
      const bytes = [...Buffer.from(JSON.stringify(request))];
      const place = at % bytes.length;
      if (kind === 'set') bytes[place] = byte;
      else if (kind === 'drop') bytes.splice(place, 1);
      else bytes.splice(place, 0, byte);
      return isSound(parser.parse(Uint8Array.from(bytes), true));
    }),
    3000,
  );
});

t.test('frames that are views into a larger buffer are read from their place only', async (t) => {
  const line = '{"id":"ä","type":"ping"}';
  const around = Buffer.from(`\ufffd\ufffd${line}\ufffd\ufffd`);
  const parsed = parser.parse(around.subarray(6, 6 + Buffer.byteLength(line)), false);
  t.match(parsed, { request: { id: 'ä', type: 'ping' } });
});

t.test('an error names 16 fields at most, with names that are cut', async (t) => {
  const data = Object.fromEntries(Array.from({ length: 1000 }, (_, i) => [`${'x'.repeat(200)}${i}`, i]));
  const parsed = parse({ id: 1, type: 'ping', data });
  if (!('refusal' in parsed)) throw new Error();
  t.equal(parsed.refusal.issues?.length, 16);
  t.ok(parsed.refusal.issues?.every(({ path }) => path.length <= 100));
});
