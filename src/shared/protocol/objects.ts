import { z } from 'zod';

/** The objects of PROTOCOL 5, as they stand in replies and events. Server to client: never parsed on the hot path. */

const userId = z.int().min(1).describe('user id');
const roomId = z.int().min(1).describe('room id');
const seq = z.int().min(0);
const at = z.int().min(0).describe('ms since the Unix epoch, UTC');

export const userSchema = z.object({
  id: userId,
  username: z.string(),
  displayName: z.string(),
  avatarPath: z.string().nullable(),
});

export const presenceSchema = z.object({
  userId,
  state: z.enum(['online', 'offline']),
  lastActiveAt: at.nullable().describe('when the user was last online; while online, when it was found so'),
});

export const imageSchema = z.object({
  path: z.string(),
  thumbnailPath: z.string().optional(),
  width: z.int().optional(),
  height: z.int().optional(),
  bytes: z.int().optional(),
  mimeType: z.string().optional(),
  caption: z.string().optional(),
});

export const SYSTEM_EVENTS = [
  'created',
  'joined',
  'left',
  'invited',
  'kicked',
  'banned',
  'unbanned',
  'renamed',
  'owner_changed',
] as const;

export const systemSchema = z.object({
  event: z.enum(SYSTEM_EVENTS),
  actorId: userId,
  subjectIds: z.array(userId).optional().describe('whom it happened to, where that is not the actor'),
  name: z.string().optional().describe("the room's name, with `created` and `renamed`"),
});

export const messageSchema = z.object({
  roomId,
  seq,
  kind: z.enum(['text', 'image', 'system']),
  senderId: userId.nullable().describe('null for system messages'),
  clientMessageId: z.string().optional(),
  sentAt: at,
  text: z.string().optional(),
  image: imageSchema.optional(),
  system: systemSchema.optional(),
  replyTo: seq.optional(),
});

export const roomSchema = z.object({
  id: roomId,
  kind: z.enum(['group', 'direct']),
  name: z.string().nullable().describe('null for direct rooms'),
  visibility: z.enum(['public', 'private']),
  ownerId: userId.nullable().describe('null for direct rooms'),
  memberCount: z.int(),
  memberLimit: z.int(),
  createdAt: at,
  lastSeq: seq,
  lastMessage: messageSchema.nullable(),
  role: z
    .enum(['owner', 'member'])
    .nullable()
    .describe('null in a public room that the caller has not joined'),
  readSeq: seq,
  deliveredSeq: seq,
  unread: z.int().min(0),
  peer: userSchema.optional().describe('the other one of a direct room'),
});

export const memberSchema = z.object({
  user: userSchema,
  role: z.enum(['owner', 'member']),
  joinedAt: at,
  readSeq: seq,
  deliveredSeq: seq,
  presence: presenceSchema,
});

export type User = z.infer<typeof userSchema>;
export type Presence = z.infer<typeof presenceSchema>;
export type Image = z.infer<typeof imageSchema>;
export type System = z.infer<typeof systemSchema>;
export type Message = z.infer<typeof messageSchema>;
export type Room = z.infer<typeof roomSchema>;
export type Member = z.infer<typeof memberSchema>;

/** Named in JSON Schema as `$defs`, so that a client generator makes one class of each. */
export const OBJECTS = {
  User: userSchema,
  Room: roomSchema,
  Member: memberSchema,
  Presence: presenceSchema,
  Message: messageSchema,
  Image: imageSchema,
  System: systemSchema,
} as const;
