import type { ErrorCode } from '../shared/errors.js';
import type { RequestType } from '../shared/protocol/requests.js';

/**
 * With which errors each request may be answered, and what they mean there. `BAD_REQUEST` for data that is not what
 * the schema says, and {@link COMMON_ERRORS}, go without saying.
 */

export const COMMON_ERRORS: readonly ErrorCode[] = [
  'BAD_JSON',
  'BAD_REQUEST',
  'UNKNOWN_TYPE',
  'NOT_AUTHENTICATED',
  'RATE_LIMITED',
  'UNAVAILABLE',
  'INTERNAL',
];

const unseen = 'no such room, or a private or direct one of others';
const notJoined = 'a public room that the caller has not joined';
const tooManyRooms = 'somebody is in as many rooms as a user may be (`CHAT_ROOMS_PER_USER`)';

const member = { NOT_FOUND: unseen, NOT_A_MEMBER: notJoined, FORBIDDEN: 'the caller is banned' };
const group = { ...member, FORBIDDEN: 'the caller is banned, or the room is direct' };
const owner = { ...member, FORBIDDEN: 'the caller is not the owner, is banned, or the room is direct' };

type Errors = Partial<Record<ErrorCode, string>>;

export const REQUEST_ERRORS: { readonly [T in RequestType]: Errors } = {
  ping: {},
  'auth.login': {
    AUTH_FAILED:
      'the token is not valid or has expired, or the user is unknown or disabled; the server closes after it',
    CONFLICT: 'the connection is logged in already',
  },
  'auth.refresh': {
    AUTH_FAILED:
      'the token is not valid, has expired or is of another user, or the user is unknown or disabled; the server closes after it',
    CONFLICT: 'in open mode, which has no tokens',
  },
  'auth.logout': {},
  'room.create': {
    NOT_FOUND: 'one of `memberIds` does not exist or is disabled',
    ROOM_FULL: 'the caller and `memberIds` are more than `memberLimit`',
    CONFLICT: `the room of this \`clientRoomId\` is gone or the caller has left it; or ${tooManyRooms}`,
  },
  'room.direct': {
    BAD_REQUEST: '`userId` is the caller',
    NOT_FOUND: 'the user does not exist or is disabled',
    CONFLICT: tooManyRooms,
  },
  'room.list': { BAD_REQUEST: '`cursor` is none of this list' },
  'room.get': { NOT_FOUND: unseen, FORBIDDEN: 'the caller is banned' },
  'room.join': {
    NOT_FOUND: unseen,
    FORBIDDEN: 'the caller is banned, or the room is direct',
    ROOM_FULL: 'the room has as many members as it takes',
    CONFLICT: tooManyRooms,
  },
  'room.invite': {
    ...group,
    NOT_FOUND: `${unseen}; or one of \`userIds\` does not exist or is disabled`,
    ROOM_FULL: 'not all of them find a place; then none is added',
    CONFLICT: `one of them is banned; or ${tooManyRooms}`,
  },
  'room.leave': group,
  'room.members': { ...member, BAD_REQUEST: '`cursor` is none of this list' },
  'room.update': { ...owner, CONFLICT: '`memberLimit` is below the number of members' },
  'room.kick': {
    ...owner,
    NOT_FOUND: `${unseen}; or the user is not in the room (with \`ban\`: does not exist)`,
    FORBIDDEN: `${owner.FORBIDDEN}; or \`userId\` is the caller`,
  },
  'room.unban': owner,
  'room.transfer': { ...owner, NOT_FOUND: `${unseen}; or the user is not in the room` },
  'room.delete': owner,
  'message.send': {
    ...member,
    NOT_FOUND: `${unseen}; or there is no message \`replyTo\``,
    CONFLICT: 'the same `clientMessageId` with another content',
    TOO_LARGE: 'the text is over the limit',
  },
  'message.history': member,
  'message.delivered': { ...member, BAD_REQUEST: '`seq` is beyond `lastSeq`' },
  'message.read': { ...member, BAD_REQUEST: '`seq` is beyond `lastSeq`' },
  typing: member,
  sync: {},
  'user.get': {},
  'user.list': { BAD_REQUEST: '`cursor` is none of this list' },
  'presence.subscribe': {},
};
