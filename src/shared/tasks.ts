import type { FrameBatch } from './batch.js';
import type { EffectPack } from './effects.js';
import type { RoomId, Seq, SessionId, UserId } from './ids.js';
import type { LogLevel, LogLine } from './log.js';
import type { ProtocolLimits } from './protocol/requests.js';

/** What passes between the main thread and the worker threads, beside frames and effects. */

/** Settings of a worker thread, given at its start. */
export interface WorkerSettings {
  readonly processId: string;
  readonly limits: ProtocolLimits;
  readonly maxReplyBytes: number;
  readonly logLevel: LogLevel;
  readonly logText: boolean;
  readonly database: { readonly url: string; readonly connections: number; readonly timeoutMs: number };
  readonly auth: {
    readonly secret: string | undefined;
    readonly jwks: string | undefined;
    readonly issuer: string | undefined;
    readonly audience: string | undefined;
  };
}

/** What a process says of itself, renewed with its lease. */
export interface ProcessStatus {
  readonly host: string;
  readonly pid: number;
  readonly tcpAddress: string;
  readonly connections: number;
}

/** Work for a worker. Each is answered with a {@link TaskAnswer}; frames also with effects along the way. */
export type Task =
  | FrameBatch
  /** Applies the migrations and looks whether the database suits. */
  | { readonly kind: 'prepare' }
  /** Renews the lease, takes over the sessions of dead processes, finds sessions of disabled users. */
  | {
      readonly kind: 'maintain';
      readonly status: ProcessStatus;
      /** Tell which sessions the database has for this process, to find those that nobody here knows. */
      readonly reconcile: boolean;
    }
  /** Ends sessions whose connections are gone. */
  | { readonly kind: 'end-sessions'; readonly sessionIds: readonly SessionId[] }
  /** Reads entries back that a router missed. */
  | {
      readonly kind: 'read-back';
      readonly holes: readonly { readonly roomId: RoomId; readonly afterSeq: Seq; readonly uptoSeq: Seq }[];
    }
  /**
   * The heads of rooms, to find out whether something was missed at their end. Transactions that are under way in them
   * are waited for. `unheard`: those of the rooms that no connection here is in, as far as is known: their members
   * are told that they are.
   */
  | { readonly kind: 'heads'; readonly roomIds: readonly RoomId[]; readonly unheard: readonly RoomId[] }
  /** The process stops: its sessions and its lease go. */
  | { readonly kind: 'retire' };

/** Where a room stands. */
export interface Head {
  readonly roomId: RoomId;
  readonly lastSeq: Seq;
  /** The room was deleted, by this user. */
  readonly deletedBy?: UserId;
}

/** `ok: false`: the database is away, try again later. */
export type TaskAnswer =
  | {
      readonly ok: true;
      readonly heads?: readonly Head[];
      /** Of `maintain`: the settled sessions of this process. */
      readonly sessionIds?: readonly SessionId[];
    }
  | { readonly ok: false; readonly reason: string };

/** What a worker posts to the main thread, in order. */
export type WorkerMessage =
  /** `batch` 0: effects that belong to no batch. `done`: the batch is over, its connections are free. */
  | {
      readonly kind: 'effects';
      readonly batch: number;
      readonly done: boolean;
      readonly pack: EffectPack | null;
    }
  | { readonly kind: 'log'; readonly line: LogLine };

/** What goes to all threads of a process, on the BroadcastChannel of this name. */
export function channelName(processId: string): string {
  return `sarangbang.${processId}`;
}

export type ChannelMessage =
  /** A thread has found that the database is away. */
  | { readonly kind: 'away'; readonly reason: string }
  /** The process ends: part from the database. */
  | { readonly kind: 'close' }
  /** A thread has done so. */
  | { readonly kind: 'closed' };
