import type { Caller } from '../shared/batch.js';
import type { EffectWriter } from '../shared/effects.js';
import type { Failure } from '../shared/errors.js';
import type {
  OkData,
  ProtocolLimits,
  RequestData,
  RequestId,
  RequestType,
} from '../shared/protocol/requests.js';
import type { Authenticator } from './authenticator.js';
import type { Database } from './store/database.js';

/** What the commands of one worker thread work with. */
export interface WorkerContext {
  readonly db: Database;
  readonly auth: Authenticator;
  /** Effects collected since the last hand-over. A command writes them after its commit, all in one go. */
  readonly effects: EffectWriter;
  readonly limits: ProtocolLimits;
  /** Bytes that one reply may have; pages of very long texts end early. */
  readonly maxReplyBytes: number;
  /** Id of the process, as in `chat_process` and `hello`. */
  readonly processId: string;
  readonly logText: boolean;
}

/** A request and who sent it. */
export interface Request<T extends RequestType> {
  readonly caller: Caller;
  readonly id: RequestId;
  readonly data: RequestData<T>;
  /** How many frames of the connection's slot are executed with this one. */
  readonly executed: number;
}

/** Returned by a command that has put its reply among its effects, where its place matters. */
export const REPLIED: unique symbol = Symbol('replied');

/** What a command answers: the `ok` data, an error, or {@link REPLIED}. */
export type Outcome<T extends RequestType> = OkData<T> | Failure | typeof REPLIED;

/** One request type. Expected errors are returned; a throw is a bug and becomes `INTERNAL`. */
export type Command<T extends RequestType> = (ctx: WorkerContext, request: Request<T>) => Promise<Outcome<T>>;
