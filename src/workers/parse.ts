import { isUtf8 } from 'node:buffer';
import type { z } from 'zod';
import { type Failure, fail, type Issue } from '../shared/errors.js';
import {
  type RequestData,
  type RequestId,
  type RequestSchemas,
  type RequestType,
  requestIdSchema,
} from '../shared/protocol/requests.js';

/** A request that passed validation. */
export type ParsedRequest = {
  [T in RequestType]: { readonly id: RequestId; readonly type: T; readonly data: RequestData<T> };
}[RequestType];

/** What a frame turned out to be; `id` is null where none could be read. */
export type Parsed =
  | { readonly request: ParsedRequest }
  | { readonly id: RequestId | null; readonly refusal: Failure };

const MAX_ISSUES = 16;
const BEFORE_LOGIN: ReadonlySet<string> = new Set<RequestType>(['ping', 'auth.login']);
const ENVELOPE: ReadonlySet<string> = new Set(['id', 'type', 'data']);

/** Turns frames into requests, by the schemas and nothing else. Never throws, whatever the bytes are. */
export class RequestParser {
  readonly #schemas: RequestSchemas;

  constructor(schemas: RequestSchemas) {
    this.#schemas = schemas;
  }

  /** `loggedIn`: before login only `ping` and `auth.login` are looked into. */
  parse(frame: Uint8Array, loggedIn: boolean): Parsed {
    if (!isUtf8(frame)) return refuse(null, fail('BAD_JSON', 'the frame is not UTF-8'));
    let envelope: unknown;
    try {
      envelope = JSON.parse(Buffer.from(frame.buffer, frame.byteOffset, frame.byteLength).toString('utf8'));
    } catch {
      // V8's message quotes the frame; what is wrong with it is for the client to find.
      return refuse(null, fail('BAD_JSON', 'the frame is not JSON'));
    }
    if (typeof envelope !== 'object' || envelope === null || Array.isArray(envelope)) {
      return refuse(null, fail('BAD_JSON', 'the frame is not a JSON object'));
    }
    return this.#envelope(envelope, loggedIn);
  }

  #envelope(envelope: object, loggedIn: boolean): Parsed {
    const { id: givenId, type, data = {} }: { id?: unknown; type?: unknown; data?: unknown } = envelope;
    const id = requestIdSchema.safeParse(givenId);
    if (!id.success) {
      const message = 'must be a string of 1–64 characters or an integer from 0 to 2^53-1';
      return refuse(null, fail('BAD_REQUEST', `id ${message}`, { issues: [{ path: 'id', message }] }));
    }
    const unknown = Object.keys(envelope).filter((key) => !ENVELOPE.has(key));
    if (unknown.length > 0)
      return refuse(id.data, badRequest(unknown.slice(0, MAX_ISSUES).map(unknownField)));
    if (typeof type !== 'string') {
      return refuse(id.data, badRequest([{ path: 'type', message: 'must be a string' }]));
    }
    if (!this.#isType(type)) {
      return refuse(
        id.data,
        fail('UNKNOWN_TYPE', `there is no request type ${JSON.stringify(type.slice(0, 64))}`),
      );
    }
    if (!loggedIn && !BEFORE_LOGIN.has(type)) {
      return refuse(id.data, fail('NOT_AUTHENTICATED', `${type} needs a login first`));
    }
    const result = this.#schemas[type].data.safeParse(data);
    if (!result.success) return refuse(id.data, toFailure(result.error));
    // The schema of this very type has accepted the data, which the compiler can't follow through the index.
    return { request: { id: id.data, type, data: result.data } as ParsedRequest };
  }

  #isType(type: string): type is RequestType {
    return Object.hasOwn(this.#schemas, type);
  }
}

function refuse(id: RequestId | null, refusal: Failure): Parsed {
  return { id, refusal };
}

function unknownField(path: string): Issue {
  // By way of UTF-8, as the name, or the cut, may leave a lone surrogate: strict JSON parsers refuse those.
  const readable = Buffer.from(path.slice(0, 100)).toString('utf8');
  return { path: readable, message: 'is not a field of this request' };
}

function badRequest(issues: readonly Issue[]): Failure {
  const [first] = issues;
  return fail('BAD_REQUEST', first === undefined ? 'bad request' : `${first.path}: ${first.message}`, {
    issues,
  });
}

function toFailure(error: z.ZodError): Failure {
  const [first] = error.issues;
  if (error.issues.length === 1 && first?.code === 'custom' && first.params?.tooLarge === true) {
    return fail('TOO_LARGE', `${dotted(first.path)}: ${first.message}`);
  }
  const issues: Issue[] = [];
  for (const issue of error.issues) {
    if (issue.code === 'unrecognized_keys') {
      for (const key of issue.keys) issues.push(unknownField(dotted([...issue.path, key])));
    } else {
      issues.push({ path: dotted(issue.path), message: issue.message });
    }
    if (issues.length >= MAX_ISSUES) break;
  }
  return badRequest(issues.slice(0, MAX_ISSUES));
}

/** The place of an issue, from the top of the frame. */
function dotted(path: readonly PropertyKey[]): string {
  return ['data', ...path.map(String)].join('.');
}
