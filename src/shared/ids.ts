/**
 * Branded numbers and strings, so that a room id can't be passed where a user id is meant.
 * The brands exist for the compiler only; on the wire and in MySQL they are plain integers.
 */

declare const brand: unique symbol;
type Brand<T, Name extends string> = T & { readonly [brand]: Name };

/** `chat_user.id`: a positive integer below 2^53. */
export type UserId = Brand<number, 'UserId'>;
/** `chat_room.id`: a positive integer below 2^53. */
export type RoomId = Brand<number, 'RoomId'>;
/** The place of an entry in its room's stream: 1, 2, 3 … without holes. 0 means "before the first entry". */
export type Seq = Brand<number, 'Seq'>;
/** `chat_session.id`: one login of one device. */
export type SessionId = Brand<number, 'SessionId'>;
/** A socket of this process: counts up from 1 and is never used again while the process lives. */
export type ConnectionId = Brand<number, 'ConnectionId'>;

/** The one place where a plain number that was checked elsewhere (schema, database) becomes an id. */
export const id = {
  user: (n: number) => n as UserId,
  room: (n: number) => n as RoomId,
  seq: (n: number) => n as Seq,
  session: (n: number) => n as SessionId,
  connection: (n: number) => n as ConnectionId,
};
