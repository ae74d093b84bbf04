import type { RequestType } from '../../shared/protocol/requests.js';
import type { Command } from '../context.js';
import { authLogin } from './auth-login.js';
import { authLogout } from './auth-logout.js';
import { authRefresh } from './auth-refresh.js';
import { messageHistory } from './message-history.js';
import { ping } from './ping.js';
import { presenceSubscribe } from './presence-subscribe.js';
import { roomCreate } from './room-create.js';
import { roomDelete } from './room-delete.js';
import { roomDirect } from './room-direct.js';
import { roomGet } from './room-get.js';
import { roomInvite } from './room-invite.js';
import { roomJoin } from './room-join.js';
import { roomKick } from './room-kick.js';
import { roomLeave } from './room-leave.js';
import { roomList } from './room-list.js';
import { roomMembers } from './room-members.js';
import { roomTransfer } from './room-transfer.js';
import { roomUnban } from './room-unban.js';
import { roomUpdate } from './room-update.js';
import { sync } from './sync.js';
import { typing } from './typing.js';
import { userGet } from './user-get.js';
import { userList } from './user-list.js';

/** The requests that a batch executes together: `message-send.ts`, `message-read.ts`, `message-delivered.ts`. */
export type BatchedType = 'message.send' | 'message.read' | 'message.delivered';

/** Every other request type and its command. */
export const COMMANDS: { readonly [T in Exclude<RequestType, BatchedType>]: Command<T> } = {
  ping,
  'auth.login': authLogin,
  'auth.refresh': authRefresh,
  'auth.logout': authLogout,
  'room.create': roomCreate,
  'room.direct': roomDirect,
  'room.list': roomList,
  'room.get': roomGet,
  'room.join': roomJoin,
  'room.invite': roomInvite,
  'room.leave': roomLeave,
  'room.members': roomMembers,
  'room.update': roomUpdate,
  'room.kick': roomKick,
  'room.unban': roomUnban,
  'room.transfer': roomTransfer,
  'room.delete': roomDelete,
  'message.history': messageHistory,
  typing,
  sync,
  'user.get': userGet,
  'user.list': userList,
  'presence.subscribe': presenceSubscribe,
};

/** Commands that need no database: the only ones that may overtake others of their connection. */
export const WITHOUT_DATABASE: ReadonlySet<RequestType> = new Set(['ping', 'typing']);
