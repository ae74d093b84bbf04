import { z } from 'zod';
import { CLOSES } from '../shared/closes.js';
import { configSchema } from '../shared/config.js';
import { ERRORS } from '../shared/errors.js';
import { EVENTS } from '../shared/protocol/events.js';
import { OBJECTS } from '../shared/protocol/objects.js';
import { type RequestType, requestIdSchema, requestSchemas } from '../shared/protocol/requests.js';

/** JSON Schema of what clients send and get, made from the zod schemas: for validators and for code generators. */

export type JsonSchema = z.core.JSONSchema.BaseSchema;

const DRAFT = 'https://json-schema.org/draft/2020-12/schema';

/** The limits that a server has with its defaults. */
const defaults = configSchema.parse({});
const limits = {
  maxTextChars: defaults.CHAT_MAX_TEXT_CHARS,
  memberLimit: defaults.CHAT_ROOM_MEMBER_LIMIT,
  roomsPerUser: defaults.CHAT_ROOMS_PER_USER,
  imagePathPrefix: defaults.CHAT_IMAGE_PATH_PREFIX,
};
export const REQUESTS = requestSchemas({ auth: 'jwt', ...limits });
/** The one request that differs in open mode. */
export const OPEN_LOGIN = requestSchemas({ auth: 'open', ...limits })['auth.login'];
export const REQUEST_TYPES = Object.keys(REQUESTS) as RequestType[];

// Objects with an id become `$defs`, so that a code generator makes one class of each.
for (const [id, schema] of Object.entries(OBJECTS)) {
  z.globalRegistry.add(schema, { ...z.globalRegistry.get(schema), id });
}

/** A schema by itself; the objects of the protocol are references to `#/$defs/…`. */
export function jsonSchemaOf(schema: z.ZodType): JsonSchema {
  const { $schema: _, $defs: __, ...own } = convert(schema);
  return own;
}

function convert(schema: z.ZodType): JsonSchema {
  // 'input': what the server sends may grow, so its objects are not closed; those of requests are strict by themselves.
  return z.toJSONSchema(schema, { io: 'input' });
}

/** The objects of PROTOCOL 5 by name. */
export function objectSchemas(): Record<string, JsonSchema> {
  const found: Record<string, JsonSchema> = {};
  for (const [name, schema] of Object.entries(OBJECTS)) {
    const { $ref, $defs } = convert(schema);
    const definition = $ref === undefined ? jsonSchemaOf(schema) : $defs?.[name];
    if (definition === undefined) throw new Error(`${name} has no definition`);
    const { id: _, $schema: __, $defs: ___, ...own } = definition;
    found[name] = own;
  }
  return found;
}

/** Every frame that a client may send: `docs/schema/client.json`. */
export function clientSchema(): JsonSchema {
  const $defs: Record<string, JsonSchema> = { RequestId: jsonSchemaOf(requestIdSchema) };
  const frames: JsonSchema[] = [];
  for (const type of REQUEST_TYPES) {
    const { doc, data: schema } = REQUESTS[type];
    const data =
      type === 'auth.login'
        ? { anyOf: [jsonSchemaOf(schema), { ...jsonSchemaOf(OPEN_LOGIN.data), description: 'in open mode' }] }
        : jsonSchemaOf(schema);
    const isOptional = schema.safeParse({}).success;
    $defs[`${pascalCase(type)}Request`] = {
      type: 'object',
      description: doc,
      properties: { id: { $ref: '#/$defs/RequestId' }, type: { const: type }, data },
      required: ['id', 'type', ...(isOptional ? [] : ['data'])],
      additionalProperties: false,
    };
    frames.push({ $ref: `#/$defs/${pascalCase(type)}Request` });
  }
  return { $schema: DRAFT, title: 'What a Sarangbang client sends', anyOf: frames, $defs };
}

/** Every frame that a client may get, and the `data` of each kind of `ok`: `docs/schema/server.json`. */
export function serverSchema(): JsonSchema {
  const $defs = objectSchemas();
  for (const type of REQUEST_TYPES) {
    $defs[`${pascalCase(type)}Ok`] = {
      description: `\`data\` of the \`ok\` to \`${type}\``,
      ...jsonSchemaOf(REQUESTS[type].ok),
    };
  }
  const id = jsonSchemaOf(requestIdSchema);
  $defs.Ok = {
    type: 'object',
    description: 'A request succeeded; what `data` is depends on the type of the request with this id.',
    properties: { type: { const: 'ok' }, id, data: { type: 'object' } },
    required: ['type', 'id', 'data'],
  };
  $defs.Error = errorSchema(id);
  const frames: JsonSchema[] = [{ $ref: '#/$defs/Ok' }, { $ref: '#/$defs/Error' }];
  for (const [type, { doc, data }] of Object.entries(EVENTS)) {
    $defs[`${pascalCase(type)}Event`] = {
      type: 'object',
      description: doc,
      properties: { type: { const: type }, data: jsonSchemaOf(data) },
      required: ['type', 'data'],
    };
    frames.push({ $ref: `#/$defs/${pascalCase(type)}Event` });
  }
  return { $schema: DRAFT, title: 'What a Sarangbang server sends', anyOf: frames, $defs };
}

function errorSchema(id: JsonSchema): JsonSchema {
  const announced = Object.entries(CLOSES).flatMap(([reason, close]) => (close.announced ? [reason] : []));
  return {
    type: 'object',
    description: 'A request was refused; with `id` null the frame could not be read, or the server closes.',
    properties: {
      type: { const: 'error' },
      id: { anyOf: [id, { type: 'null' }] },
      error: {
        type: 'object',
        properties: {
          code: { enum: [...new Set([...Object.keys(ERRORS), ...announced])] },
          message: { type: 'string' },
          retryable: { type: 'boolean' },
          retryAfterMs: { type: 'integer', minimum: 0 },
          issues: {
            type: 'array',
            items: {
              type: 'object',
              properties: { path: { type: 'string' }, message: { type: 'string' } },
              required: ['path', 'message'],
            },
          },
          traceId: { type: 'string' },
        },
        required: ['code', 'message', 'retryable'],
      },
    },
    required: ['type', 'id', 'error'],
  };
}

/** `room.create` → `RoomCreate`. */
function pascalCase(type: string): string {
  return type.replace(/(^|\.)([a-z])/g, (_, __, letter: string) => letter.toUpperCase());
}
