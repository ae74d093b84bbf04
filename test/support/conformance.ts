import { isDeepStrictEqual } from 'node:util';
import type { Test } from 'tap';
import type { ChatClient } from '../../src/cli/client.js';
import { CLOSES } from '../../src/shared/closes.js';
import { ERRORS } from '../../src/shared/errors.js';
import { EVENTS } from '../../src/shared/protocol/events.js';
import type { RequestSchemas } from '../../src/shared/protocol/requests.js';

type Json = { readonly [name: string]: unknown };

/** What a schema is needed for here. */
interface Schema {
  safeParse(value: unknown): { success: boolean; data?: unknown; error?: { message: string } | undefined };
}

/**
 * Looks over the shoulder of a client, in every test: each line that the server sends must be what PROTOCOL and the
 * schemas say, with no field more, each request is answered once, and the entries of a room arrive in order without
 * a hole, the `ok` of an own `message.send` standing for its entry.
 */
export function watchConformance(
  t: Pick<Test, 'fail'>,
  client: ChatClient,
  schemas: RequestSchemas,
  name: string,
): void {
  const blame = (what: string, line: unknown) =>
    void t.fail(`${name}: ${what}`, { line: JSON.stringify(line).slice(0, 2000) });
  const conformance = new Conformance(schemas, blame);
  for (const event of client.events) conformance.received({ ...event });

  const { socket } = client;
  const write = socket.write.bind(socket);
  const sent = new Lines((line) => conformance.sent(line));
  socket.write = (chunk: string | Uint8Array, ...rest: unknown[]) => {
    sent.push(Buffer.from(chunk));
    return Reflect.apply(write, socket, [chunk, ...rest]);
  };
  const received = new Lines((line) => {
    if (LONE_SURROGATE.test(line)) blame('a lone surrogate, which strict JSON parsers refuse', line);
    conformance.received(JSON.parse(line));
  });
  socket.on('data', (chunk: Buffer) => received.push(chunk));
}

/** JSON.stringify escapes a surrogate only where its partner is missing. */
const LONE_SURROGATE = /(?<!\\)(\\\\)*\\ud[89a-f]/;

class Lines {
  readonly #take: (line: string) => void;
  #partial: Buffer[] = [];

  constructor(take: (line: string) => void) {
    this.#take = take;
  }

  push(chunk: Buffer): void {
    let start = 0;
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, start)) {
      const line = Buffer.concat([...this.#partial, chunk.subarray(start, end)]);
      this.#partial = [];
      this.#take(line.toString('utf8'));
      start = end + 1;
    }
    if (start < chunk.length) this.#partial.push(chunk.subarray(start));
  }
}

class Conformance {
  readonly #schemas: Readonly<Record<string, { readonly ok: Schema } | undefined>>;
  readonly #blame: (what: string, line: unknown) => void;
  /** Requests without a reply yet, by id as JSON. */
  readonly #open = new Map<string, { readonly type: unknown; readonly data: unknown }[]>();
  /** The last entry of each room that the connection has got. */
  readonly #seqs = new Map<unknown, number>();

  constructor(schemas: RequestSchemas, blame: (what: string, line: unknown) => void) {
    this.#schemas = schemas;
    this.#blame = blame;
  }

  sent(line: string): void {
    const request = parse(line);
    // Any other id is answered with `id` null.
    if (request === undefined || (typeof request.id !== 'string' && typeof request.id !== 'number')) return;
    const key = JSON.stringify(request.id);
    const same = this.#open.get(key);
    const entry = { type: request.type, data: request.data };
    if (same === undefined) this.#open.set(key, [entry]);
    else same.push(entry);
  }

  received(line: Json): void {
    if (line.type === 'ok') this.#ok(line);
    else if (line.type === 'error') this.#error(line);
    else this.#event(line);
  }

  #ok(line: Json): void {
    this.#fields(line, ['type', 'id', 'data']);
    const request = this.#answered(line);
    if (request === undefined) return;
    const schema = typeof request.type === 'string' ? this.#schemas[request.type]?.ok : undefined;
    if (schema === undefined) {
      this.#blame('ok to a request of no known type', line);
      return;
    }
    this.#matches(schema, line.data, `ok to ${request.type}`);
    this.#follow(request, line);
  }

  #error(line: Json): void {
    this.#fields(line, ['type', 'id', 'error']);
    const error = isJson(line.error) ? line.error : {};
    const { code, message, retryable, retryAfterMs, issues, traceId } = error;
    this.#fields(error, ['code', 'message', 'retryable', 'retryAfterMs', 'issues', 'traceId']);
    if (typeof message !== 'string' || message === '') this.#blame('error without a message', line);
    const known: Readonly<Record<string, { readonly retryable: boolean } | undefined>> = ERRORS;
    const entry = typeof code === 'string' ? known[code] : undefined;
    if (line.id !== null) {
      this.#answered(line);
      if (code === 'INTERNAL') this.#blame('INTERNAL, which is a bug', line);
    }
    if (line.id === null && typeof code === 'string' && code in CLOSES) return;
    if (entry === undefined) {
      this.#blame('error with a code that is not in the catalogue', line);
      return;
    }
    if (retryable !== entry.retryable) this.#blame('retryable is not what the catalogue says', line);
    if (entry.retryable !== (Number.isInteger(retryAfterMs) && Number(retryAfterMs) > 0)) {
      this.#blame('retryAfterMs stands with retryable codes, and only there', line);
    }
    if ((code === 'BAD_REQUEST') !== (Array.isArray(issues) && issues.length > 0)) {
      this.#blame('issues stand with BAD_REQUEST, and only there', line);
    }
    for (const issue of Array.isArray(issues) ? issues : []) {
      this.#fields(issue, ['path', 'message']);
      if (typeof issue.path !== 'string' || typeof issue.message !== 'string') {
        this.#blame('an issue has a path and a message', line);
      }
    }
    if ((code === 'INTERNAL') !== (typeof traceId === 'string')) {
      this.#blame('a traceId stands with INTERNAL, and only there', line);
    }
  }

  #event(line: Json): void {
    this.#fields(line, ['type', 'data']);
    const events: Readonly<Record<string, { readonly data: Schema } | undefined>> = EVENTS;
    const schema = typeof line.type === 'string' ? events[line.type]?.data : undefined;
    if (schema === undefined) {
      this.#blame('an event of no known type', line);
      return;
    }
    this.#matches(schema, line.data, `event ${line.type}`);
    if (!isJson(line.data)) return;
    if (line.type === 'message') this.#entry(line.data.roomId, line.data.seq, line);
    else if (line.type === 'room.added') this.#entered(line.data.room);
    else if (line.type === 'room.removed') this.#seqs.delete(line.data.roomId);
  }

  /** What a reply tells of the streams that the connection gets. */
  #follow({ type, data: asked }: { type: unknown; data: unknown }, line: Json): void {
    const { data } = line;
    if (!isJson(data)) return;
    if (type === 'auth.login' && Array.isArray(data.rooms))
      for (const room of data.rooms) this.#entered(room);
    else if (type === 'room.create' || type === 'room.join' || type === 'room.direct')
      this.#entered(data.room);
    else if ((type === 'room.leave' || type === 'room.delete') && isJson(asked))
      this.#seqs.delete(asked.roomId);
    else if (type === 'message.send' && data.duplicate === false) this.#entry(data.roomId, data.seq, line);
  }

  #entered(room: unknown): void {
    if (!isJson(room) || this.#seqs.has(room.id)) return;
    this.#seqs.set(room.id, Number(room.lastSeq));
  }

  #entry(roomId: unknown, seq: unknown, line: Json): void {
    const before = this.#seqs.get(roomId);
    if (before === undefined) this.#blame('an entry of a room that the user is not in', line);
    else if (seq !== before + 1) this.#blame(`entry ${seq} after entry ${before}`, line);
    this.#seqs.set(roomId, Number(seq));
  }

  #answered(line: Json): { readonly type: unknown; readonly data: unknown } | undefined {
    const request = this.#open.get(JSON.stringify(line.id))?.shift();
    if (request === undefined) this.#blame('a reply that answers no request, or a second one', line);
    return request;
  }

  #matches(schema: Schema, data: unknown, what: string): void {
    const { success, data: known, error } = schema.safeParse(data);
    if (!success) this.#blame(`${what} is not as its schema says: ${error?.message}`, data);
    else if (!isDeepStrictEqual(known, data)) this.#blame(`${what} has fields that its schema has not`, data);
  }

  #fields(value: Json, names: readonly string[]): void {
    for (const name of Object.keys(value)) {
      if (!names.includes(name)) this.#blame(`unexpected field ${name}`, value);
    }
  }
}

function parse(line: string): Json | undefined {
  try {
    const value: unknown = JSON.parse(line);
    return isJson(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

function isJson(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
