import { randomUUID } from 'node:crypto';
import { type Caller, type FrameBatch, type Slot, unpackBatch } from '../shared/batch.js';
import { fail, isFailure } from '../shared/errors.js';
import { id } from '../shared/ids.js';
import { log } from '../shared/log.js';
import { errorLine, okLine } from '../shared/protocol/replies.js';
import type { RequestId, RequestType } from '../shared/protocol/requests.js';
import { refuseNonMember } from './access.js';
import { openSession } from './commands/auth-login.js';
import { type BatchedType, COMMANDS, WITHOUT_DATABASE } from './commands/index.js';
import { refuseOutsider, sendMessages } from './commands/message-send.js';
import { readSubscribed } from './commands/presence-subscribe.js';
import { type Command, REPLIED, type Request, type WorkerContext } from './context.js';
import { type Continuation, decodeContinuation } from './continuations.js';
import { type MarkRequest, moveMarks, refuseMark } from './marks.js';
import type { Parsed, ParsedRequest, RequestParser } from './parse.js';
import { isMember } from './store/members.js';
import { findRoom } from './store/rooms.js';

/** One frame of a slot, parsed when its turn comes. */
interface Step {
  readonly caller: Caller;
  readonly executed: number;
  readonly parsed: ParsedRequest;
}

/** The rest of a connection's frames in this batch. */
interface Queue {
  readonly slot: Slot;
  next: number;
  /** The next frame, if it was parsed and did not fit into the stage. */
  peeked: Parsed | undefined;
  /** Frames that were answered out of their turn, because those before them hang. */
  answered: Set<number> | undefined;
}

/** A stage that takes longer hangs at the database: what needs none is answered ahead of it. */
const STUCK_MS = 100;

/** A command after which the connection's later frames must wait for the main thread. */
const HANDS_OVER: ReadonlySet<RequestType> = new Set([
  'auth.login',
  'auth.refresh',
  'auth.logout',
  'presence.subscribe',
]);

/**
 * Executes the frames of a batch. Of every connection in order, one stage after the other; in each stage all
 * sends of all connections share a transaction, all marks another, and other commands run side by side.
 * `flush` hands over the effects so far, soon: a slow command holds up nobody else's replies.
 */
export async function executeBatch(
  ctx: WorkerContext,
  parser: RequestParser,
  batch: FrameBatch,
  flush: () => void,
): Promise<void> {
  let queues = unpackBatch(batch).map(
    (slot): Queue => ({ slot, next: 0, peeked: undefined, answered: undefined }),
  );
  if (batch.overtaking) return overtake(ctx, parser, queues);
  while (queues.length > 0) {
    const stage: Stage = { sends: [], marks: [], others: [], senders: [], markers: [] };
    for (const queue of queues) takeStage(ctx, parser, queue, stage);
    const { sends, marks, senders, markers } = stage;
    const jobs: Job[] = [];
    if (sends.length > 0) jobs.push({ queues: senders, run: () => runSends(ctx, sends, flush) });
    if (marks.length > 0) jobs.push({ queues: markers, run: () => runMarks(ctx, marks, flush) });
    jobs.push(...stage.others);
    // What was refused at once, and what is done first, does not wait for the rest.
    flush();
    const ahead = setTimeout(() => void answerAhead(ctx, parser, queues).then(flush), STUCK_MS);
    const finish = async ({ queues, run }: Job): Promise<void> => {
      await run();
      for (const queue of queues) {
        if (isOwedMuch(ctx, queue)) handBack(ctx, queue);
        const { caller, frames } = queue.slot;
        if (queue.next >= frames.length) ctx.effects.freed(caller.connection);
      }
      flush();
    };
    await Promise.all(jobs.map(finish));
    clearTimeout(ahead);
    queues = queues.filter((queue) => queue.next < queue.slot.frames.length);
  }
}

/** Whether the connection has so much to read that its later frames should wait until it has. */
function isOwedMuch(ctx: WorkerContext, { slot, next, answered }: Queue): boolean {
  if (next >= slot.frames.length || answered !== undefined) return false;
  return ctx.effects.largeReplies(slot.caller.connection) > ctx.maxReplyBytes / 4;
}

/** Gives the frames that are left back to the main thread, which knows what the client has read. */
function handBack(ctx: WorkerContext, queue: Queue): void {
  ctx.effects.continue(queue.slot.caller.connection, queue.next, '');
  queue.next = queue.slot.frames.length;
}

/** Something to run, and whose frames it takes. */
interface Job {
  readonly queues: readonly Queue[];
  run(): Promise<void>;
}

interface Stage {
  readonly sends: Request<'message.send'>[];
  readonly marks: MarkRequest[];
  readonly others: Job[];
  /** Whose frames are among `sends`, and among `marks`. */
  readonly senders: Queue[];
  readonly markers: Queue[];
}

/** Takes the connection's next frames as far as they can run together: a run of sends, a run of marks, or one other. */
function takeStage(ctx: WorkerContext, parser: RequestParser, queue: Queue, stage: Stage): void {
  const { caller, frames } = queue.slot;
  let run: BatchedType | undefined;
  while (queue.next < frames.length) {
    const frame = frames[queue.next];
    if (frame === undefined) return;
    if (queue.answered?.has(queue.next)) {
      queue.next++;
      continue;
    }
    if (frame.continuation) {
      if (run !== undefined) return;
      queue.next++;
      const continuation = decodeContinuation(frame.bytes);
      const resumed = () => resume(ctx, caller, continuation);
      stage.others.push({
        queues: [queue],
        run: () =>
          guarded(ctx, { caller, id: continuation.id, data: continuation }, continuation.type, resumed),
      });
      return;
    }
    const parsed = queue.peeked ?? parser.parse(frame.bytes, caller.userId !== 0);
    queue.peeked = parsed;
    if (!('request' in parsed)) {
      queue.peeked = undefined;
      queue.next++;
      ctx.effects.reply(caller.connection, errorLine(parsed.id, parsed.refusal));
      continue;
    }
    const { request } = parsed;
    const { type } = request;
    if (run !== undefined && type !== run) return;
    queue.peeked = undefined;
    queue.next++;
    const base = { caller, id: request.id, executed: queue.next };
    if (type === 'message.send') stage.sends.push({ ...base, data: request.data });
    else if (type === 'message.read') stage.marks.push({ type, request: { ...base, data: request.data } });
    else if (type === 'message.delivered')
      stage.marks.push({ type, request: { ...base, data: request.data } });
    else {
      // Frames behind a hand-over come back in another batch: with a session, or not at all.
      if (HANDS_OVER.has(type)) queue.next = frames.length;
      const step = { caller, executed: base.executed, parsed: request };
      stage.others.push({ queues: [queue], run: () => runOne(ctx, step) });
      return;
    }
    if (run === undefined) (type === 'message.send' ? stage.senders : stage.markers).push(queue);
    run = type;
  }
}

async function runSends(
  ctx: WorkerContext,
  sends: readonly Request<'message.send'>[],
  flush: () => void,
): Promise<void> {
  let outsiders: readonly Request<'message.send'>[];
  try {
    outsiders = await sendMessages(ctx, sends);
  } catch (error) {
    if (sends.length === 1) return replyInternal(ctx, sends, 'message.send', error);
    // One of them breaks the batch: alone, it breaks nobody else's.
    for (const send of sends) await runSends(ctx, [send], flush);
    return;
  }
  if (outsiders.length > 0) flush();
  for (const send of outsiders) {
    await guarded(ctx, send, 'message.send', () => refuseOutsider(ctx, send));
  }
}

async function runMarks(ctx: WorkerContext, marks: readonly MarkRequest[], flush: () => void): Promise<void> {
  let outsiders: readonly MarkRequest[];
  try {
    outsiders = await moveMarks(ctx, marks);
  } catch (error) {
    const requests = marks.map((mark) => mark.request);
    if (marks.length === 1) return replyInternal(ctx, requests, marks[0]?.type ?? 'message.read', error);
    for (const mark of marks) await runMarks(ctx, [mark], flush);
    return;
  }
  if (outsiders.length > 0) flush();
  for (const mark of outsiders) await guarded(ctx, mark.request, mark.type, () => refuseMark(ctx, mark));
}

async function runOne(ctx: WorkerContext, { caller, executed, parsed }: Step): Promise<void> {
  const { id: requestId, type } = parsed;
  if (type === 'message.send' || type === 'message.read' || type === 'message.delivered') {
    throw new Error(`${type} runs in a batch`);
  }
  let isHandedOver = false;
  await guarded(ctx, { caller, id: requestId, data: parsed.data }, type, async () => {
    // The command and the data are of one type, which the compiler can't see through the table.
    const command = COMMANDS[type] as Command<RequestType>;
    const outcome = await command(ctx, { caller, id: requestId, data: parsed.data, executed });
    if (outcome === REPLIED) {
      isHandedOver = true;
      return;
    }
    ctx.effects.reply(
      caller.connection,
      isFailure(outcome) ? errorLine(requestId, outcome) : okLine(requestId, outcome),
    );
  });
  // Nothing more to do for the main thread: the connection's later frames come back as they are.
  if (HANDS_OVER.has(type) && !isHandedOver) ctx.effects.continue(caller.connection, executed, '');
}

async function resume(ctx: WorkerContext, caller: Caller, continuation: Continuation): Promise<void> {
  switch (continuation.type) {
    case 'session.open':
      return openSession(ctx, caller, continuation);
    case 'presence.read':
      return readSubscribed(ctx, caller, continuation);
    case 'typing.refuse': {
      const roomId = id.room(continuation.roomId);
      const answer = await ctx.db.read(async (sql) => {
        // The router may be behind: a member whose join it has not seen yet types to nobody in particular.
        if (await isMember(sql, roomId, caller.userId)) return undefined;
        return refuseNonMember(sql, roomId, caller.userId, await findRoom(sql, roomId));
      });
      const line = answer === undefined ? okLine(continuation.id, {}) : errorLine(continuation.id, answer);
      ctx.effects.reply(caller.connection, line);
    }
  }
}

/** Answers, of frames that wait for a database that hangs, those that need none. */
async function overtake(ctx: WorkerContext, parser: RequestParser, queues: readonly Queue[]): Promise<void> {
  for (const { slot } of queues) {
    const { caller, frames } = slot;
    for (const [place, frame] of frames.entries()) {
      if (frame.continuation) continue;
      const parsed = parser.parse(frame.bytes, caller.userId !== 0);
      if (!('request' in parsed) || !WITHOUT_DATABASE.has(parsed.request.type)) continue;
      await runOne(ctx, { caller, executed: place + 1, parsed: parsed.request });
      ctx.effects.overtook(caller.connection, place);
    }
  }
}

/** The same for frames that are in the batch already, behind those that hang. */
async function answerAhead(
  ctx: WorkerContext,
  parser: RequestParser,
  queues: readonly Queue[],
): Promise<void> {
  for (const queue of queues) {
    const { caller, frames } = queue.slot;
    for (let place = queue.next; place < frames.length; place++) {
      const frame = frames[place];
      if (frame === undefined || frame.continuation) break;
      const parsed = parser.parse(frame.bytes, caller.userId !== 0);
      if (!('request' in parsed)) continue;
      // What comes after this goes back to the main thread, which can not know what was answered.
      if (HANDS_OVER.has(parsed.request.type)) break;
      if (!WITHOUT_DATABASE.has(parsed.request.type)) continue;
      queue.answered ??= new Set();
      queue.answered.add(place);
      if (place === queue.next) queue.peeked = undefined;
      await runOne(ctx, { caller, executed: place + 1, parsed: parsed.request });
    }
  }
}

/** A request as far as an `INTERNAL` and its log line need it. */
interface Refusable {
  readonly caller: Caller;
  readonly id: RequestId;
  readonly data: object;
}

/** Runs a command; what it throws is a bug and ends here, as `INTERNAL`. */
async function guarded(
  ctx: WorkerContext,
  request: Refusable,
  type: string,
  run: () => Promise<void>,
): Promise<void> {
  try {
    await run();
  } catch (error) {
    replyInternal(ctx, [request], type, error);
    if (type === 'session.open') ctx.effects.dismiss(request.caller.connection);
  }
}

/** The one place where bugs of commands are logged and answered, with a `traceId` in both. */
function replyInternal(
  ctx: WorkerContext,
  requests: readonly Refusable[],
  type: string,
  error: unknown,
): void {
  for (const { caller, id: requestId, data } of requests) {
    const traceId = randomUUID();
    const room = 'roomId' in data && typeof data.roomId === 'number' ? data.roomId : undefined;
    log.store.error(
      'request failed',
      { traceId, type, connection: caller.connection, user: caller.userId, room },
      error,
    );
    const failure = fail('INTERNAL', 'the server made a mistake; it is logged under the traceId', {
      traceId,
    });
    ctx.effects.reply(caller.connection, errorLine(requestId, failure));
  }
}
