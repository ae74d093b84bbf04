import { z } from 'zod';
import { memberSchema, messageSchema, presenceSchema, roomSchema, userSchema } from './objects.js';
import { codePoints, hasLoneSurrogate } from './text.js';

/** The limits of a request that a site can set. */
export interface ProtocolLimits {
  readonly auth: 'jwt' | 'open';
  readonly maxTextChars: number;
  readonly memberLimit: number;
  readonly roomsPerUser: number;
  readonly imagePathPrefix: string;
}

/** Marks an issue that is answered with `TOO_LARGE` instead of `BAD_REQUEST`. */
export const TOO_LARGE_ISSUE = { tooLarge: true } as const;

const wellFormed = (value: string) => !hasLoneSurrogate(value);
const noLoneSurrogate = 'holds a lone surrogate';

/** Text of `min`–`max` code points: the JSON Schema says so too, as there a character is a code point. */
const text = (min: number, max: number) =>
  z
    .string()
    .refine(wellFormed, noLoneSurrogate)
    .refine((value) => value.length >= min && (value.length <= max || codePoints(value) <= max), {
      message: `must have ${min}–${max} characters`,
    })
    .meta({ minLength: min, maxLength: max });

const userId = z.int().min(1).describe('user id');
const roomId = z.int().min(1).describe('room id');
const seq = z.int().min(1);
const cursor = z
  .string()
  .max(200)
  .refine(wellFormed, noLoneSurrogate)
  .describe('`nextCursor` of the page before');
const key = text(1, 64);
const visibility = z.enum(['public', 'private']);
const limit = (max: number) =>
  z.int().min(1).max(max).optional().describe(`length of the page, ${max} if left out`);
const uniqueIds = (max: number) => z.array(userId).min(1).max(max);

/** The id of a request: chosen by the client, echoed in the reply. */
export const requestIdSchema = z.union([text(1, 64), z.int().min(0)]);
export type RequestId = z.infer<typeof requestIdSchema>;

// A browser that resolves the path would take these for "." "/" "\" or a control character (URL Standard, 4.4).
const ENCODED_ESCAPE = /%(2e|2f|5c|[01][0-9a-f]|7f)/i;
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what this looks for
const CONTROL = /[\u0000-\u001f\u007f-\u009f]/;

const imagePath = (prefix: string) =>
  text(1, 512)
    .refine((path) => path.startsWith(prefix) && path.length > prefix.length, `must start with ${prefix}`)
    .refine(
      (path) =>
        !path.includes('..') &&
        !path.includes('\\') &&
        !path.includes('//') &&
        !CONTROL.test(path) &&
        !ENCODED_ESCAPE.test(path),
      'must hold no scheme, "..", "//", backslash or control character, nor one of them percent-encoded',
    );

/**
 * The schema of every request: its data, its `ok` data, and the line that stands in the reference.
 * Types, validation, JSON Schema files and `docs/protocol.md` all come from here.
 */
export function requestSchemas(limits: ProtocolLimits) {
  const empty = z.strictObject({});
  const room = z.strictObject({ roomId });
  const roomAndUser = z.strictObject({ roomId, userId });
  const roomAndSeq = z.strictObject({ roomId, seq: z.int().min(0) });
  const name = text(1, 100);
  const memberLimit = z.int().min(1).max(limits.memberLimit);
  /** As long as a message may be; more is `TOO_LARGE`. */
  const longText = (min: number) =>
    z
      .string()
      .min(min)
      .refine(wellFormed, noLoneSurrogate)
      .refine((value) => value.length <= limits.maxTextChars || codePoints(value) <= limits.maxTextChars, {
        message: `must have at most ${limits.maxTextChars} characters`,
        params: TOO_LARGE_ISSUE,
      })
      .meta({ minLength: min, maxLength: limits.maxTextChars });
  const device = z.strictObject({
    id: text(1, 128).describe('made once per installation; a second login with it replaces the first'),
    name: text(0, 100).optional().describe('for people, e.g. `Pixel 8`'),
    platform: text(0, 100).optional().describe('e.g. `android`'),
  });
  const path = imagePath(limits.imagePathPrefix).describe(`begins with \`${limits.imagePathPrefix}\``);
  const token = z
    .string()
    .min(1)
    .max(16_384)
    .describe('JSON Web Token: `sub` is the user id, `exp` is required');
  const image = z.strictObject({
    path,
    thumbnailPath: path.optional(),
    width: z.int().min(1).max(1_000_000).optional(),
    height: z.int().min(1).max(1_000_000).optional(),
    bytes: z.int().min(0).optional(),
    mimeType: text(1, 127).optional(),
    caption: longText(0).optional(),
  });
  const nextCursor = z.string().nullable().describe('null on the last page');
  const roomPage = z.object({ rooms: z.array(roomSchema), nextCursor });
  const removal = z.object({});

  return {
    ping: {
      doc: 'A sign of life; allowed before login.',
      data: empty,
      ok: z.object({ serverAt: z.int() }),
    },
    'auth.login': {
      doc: 'Logs the connection in. From the moment `ok` is written, every entry after `room.lastSeq` of every room in `rooms` is pushed.',
      data: limits.auth === 'jwt' ? z.strictObject({ token, device }) : z.strictObject({ userId, device }),
      ok: z.object({
        user: userSchema,
        sessionId: z.string(),
        device: z.object({ id: z.string(), name: z.string().optional(), platform: z.string().optional() }),
        rooms: z.array(roomSchema),
        serverAt: z.int(),
        tokenExpiresAt: z.int().optional(),
      }),
    },
    'auth.refresh': {
      doc: 'A new token of the same user, before the old one expires.',
      data: z.strictObject({ token }),
      ok: z.object({ tokenExpiresAt: z.int() }),
    },
    'auth.logout': {
      doc: 'Ends the session; the server closes the connection after `ok`, and presence changes at once.',
      data: empty,
      ok: z.object({}),
    },
    'room.create': {
      doc: 'Makes a group room, owned by the caller. The same `clientRoomId` by the same user returns the first room.',
      data: z.strictObject({
        name,
        visibility: visibility.optional().describe('`public` if left out'),
        memberIds: z
          .array(userId)
          .max(limits.memberLimit)
          .optional()
          .describe('who is in it beside the caller'),
        memberLimit: memberLimit.optional().describe('the highest value if left out'),
        clientRoomId: key.optional().describe('makes a repetition harmless; a UUID is best'),
      }),
      ok: z.object({ room: roomSchema }),
    },
    'room.direct': {
      doc: 'The one direct room of the caller and the other user, made if there is none.',
      data: z.strictObject({ userId }),
      ok: z.object({ room: roomSchema, created: z.boolean().describe('false if there was one already') }),
    },
    'room.list': {
      doc: "The caller's rooms, or the public ones; `query` is part of the name.",
      data: z.strictObject({
        scope: z.enum(['mine', 'public']),
        query: text(0, 100).optional().describe("part of the name; in a direct room of the other one's name"),
        cursor: cursor.optional(),
        limit: limit(100),
      }),
      ok: roomPage,
    },
    'room.get': { doc: 'One room.', data: room, ok: z.object({ room: roomSchema }) },
    'room.join': {
      doc: 'Joins a public room and returns its latest 100 messages. Joining again is harmless.',
      data: room,
      ok: z.object({ room: roomSchema, messages: z.array(messageSchema) }),
    },
    'room.invite': {
      doc: 'Adds users to a group room. `invited` are those who were not in it yet.',
      data: z.strictObject({ roomId, userIds: uniqueIds(limits.memberLimit) }),
      ok: z.object({ invited: z.array(z.int()) }),
    },
    'room.leave': {
      doc: 'Leaves a group room. If the owner leaves, the longest-standing member becomes owner; when the last one leaves, the room is deleted.',
      data: room,
      ok: removal,
    },
    'room.members': {
      doc: 'The members of a room, the longest-standing first.',
      data: z.strictObject({ roomId, cursor: cursor.optional(), limit: limit(200) }),
      ok: z.object({ members: z.array(memberSchema), nextCursor }),
    },
    'room.update': {
      doc: 'Changes name, visibility or member limit. Owner.',
      data: z.strictObject({
        roomId,
        name: name.optional(),
        visibility: visibility.optional(),
        memberLimit: memberLimit.optional(),
      }),
      ok: z.object({ room: roomSchema }),
    },
    'room.kick': {
      doc: 'Removes a member; with `ban` they can’t come back. Owner, not oneself.',
      data: z.strictObject({ roomId, userId, ban: z.boolean().optional().describe('false if left out') }),
      ok: removal,
    },
    'room.unban': { doc: 'Lifts a ban. Owner.', data: roomAndUser, ok: removal },
    'room.transfer': {
      doc: 'Makes another member the owner. Owner.',
      data: roomAndUser,
      ok: z.object({ room: roomSchema }),
    },
    'room.delete': {
      doc: 'Ends the room for everyone. History stays stored. Owner.',
      data: room,
      ok: removal,
    },
    'message.send': {
      doc: '`ok` means committed in the database. Unanswered or `UNAVAILABLE`: send it again with the same `clientMessageId`.',
      data: z.discriminatedUnion('kind', [
        z.strictObject({
          roomId,
          clientMessageId: key,
          kind: z.literal('text'),
          text: longText(1),
          replyTo: seq.optional().describe('`seq` of the entry that this answers'),
        }),
        z.strictObject({ roomId, clientMessageId: key, kind: z.literal('image'), image }),
      ]),
      ok: z.object({
        roomId: z.int(),
        seq: z.int(),
        sentAt: z.int(),
        duplicate: z.boolean().describe('it was stored before; `seq` and `sentAt` are of then'),
      }),
    },
    'message.history': {
      doc: 'A page of the stream, ascending; with neither bound the latest. A page of very long texts may hold fewer than `limit`; `hasMore` tells.',
      data: z.strictObject({
        roomId,
        beforeSeq: z.int().min(0).optional().describe('looks back from here'),
        afterSeq: z.int().min(0).optional().describe('goes forward from here'),
        limit: limit(100),
      }),
      ok: z.object({
        messages: z.array(messageSchema),
        hasMore: z.boolean().describe('further ones exist in the direction of the page'),
      }),
    },
    'message.delivered': {
      doc: 'The device has everything up to `seq`. A high-water mark that never goes back.',
      data: roomAndSeq,
      ok: z.object({ deliveredSeq: z.int() }),
    },
    'message.read': {
      doc: 'The user has read everything up to `seq`; implies delivered.',
      data: roomAndSeq,
      ok: z.object({ readSeq: z.int(), unread: z.int() }),
    },
    typing: {
      doc: 'Tells the other members that the caller types, or stopped.',
      data: z.strictObject({ roomId, typing: z.boolean() }),
      ok: z.object({}),
    },
    sync: {
      doc: 'Everything after the cursors, as the very events that would have been pushed; at most `limit` per room.',
      data: z.strictObject({
        cursors: z
          .array(
            z.strictObject({
              roomId,
              afterSeq: z.int().min(0).describe('the last entry that the device has'),
            }),
          )
          .max(limits.roomsPerUser),
        limit: limit(1000).describe('entries per room, 1,000 if left out'),
      }),
      ok: z.object({
        rooms: z.array(
          z.object({
            room: roomSchema,
            events: z.array(z.object({ type: z.literal('message'), data: messageSchema })),
            hasMore: z.boolean().describe('ask again, after the last of `events`'),
          }),
        ),
        removed: z.array(z.int()).describe('named rooms that the user is no longer in'),
        added: z.array(roomSchema).describe('rooms of the user that were not named'),
      }),
    },
    'user.get': {
      doc: 'Users by id; unknown ids are left out.',
      data: z.strictObject({ userIds: z.array(userId).max(100) }),
      ok: z.object({ users: z.array(userSchema) }),
    },
    'user.list': {
      doc: 'Users by the beginning of the username or a part of the display name.',
      data: z.strictObject({
        query: text(0, 100).optional(),
        cursor: cursor.optional(),
        limit: limit(100),
      }),
      ok: z.object({ users: z.array(userSchema), nextCursor }),
    },
    'presence.subscribe': {
      doc: 'Replaces the set of users whose presence this connection is told; unknown ids are left out.',
      data: z.strictObject({ userIds: z.array(userId).max(500) }),
      ok: z.object({ presences: z.array(presenceSchema) }),
    },
  } as const;
}

export type RequestSchemas = ReturnType<typeof requestSchemas>;
export type RequestType = keyof RequestSchemas;
/** What a client sends with a request, after validation. */
export type RequestData<T extends RequestType> = z.infer<RequestSchemas[T]['data']>;
/** What the `ok` of a request carries. */
export type OkData<T extends RequestType> = z.infer<RequestSchemas[T]['ok']>;
