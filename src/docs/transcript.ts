import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * `docs/examples.txt`: one conversation on a fresh database, frame by frame as it is on the wire.
 * `docs/protocol.md` shows its steps, `test/protocol-examples.test.ts` plays all of it against a real server.
 *
 * ```
 * // a remark about the file
 * # what happens in the next step
 * mina connects                  a connection named `mina` is opened
 * mina > {"id":1, …}             mina sends this line
 * mina < {"type":"ok", …}        mina gets this line
 * mina is closed                 the server has closed the connection
 * mina hangs up                  mina breaks the connection
 * ! the database hangs           something happens around the chat
 * ```
 */

/** A line of a step. */
export type TranscriptLine =
  | { readonly kind: 'sends' | 'gets'; readonly who: string; readonly frame: string }
  | { readonly kind: 'connects' | 'is closed' | 'hangs up'; readonly who: string }
  | { readonly kind: 'world'; readonly what: string };

/** What one side does, and everything that anybody gets because of it, in order per connection. */
export interface Step {
  readonly title: string;
  readonly lines: readonly TranscriptLine[];
}

export interface Transcript {
  /** The remarks at the head of the file, as they are. */
  readonly head: string;
  readonly steps: readonly Step[];
}

const ROOT = join(import.meta.dirname, '../../..');
export const TRANSCRIPT_FILE = join(ROOT, 'docs/examples.txt');

export function readTranscript(): Transcript {
  return parseTranscript(readFileSync(TRANSCRIPT_FILE, 'utf8'));
}

/** @throws {Error} naming the line that is none of the above */
export function parseTranscript(text: string): Transcript {
  const head: string[] = [];
  const steps: { title: string; lines: TranscriptLine[] }[] = [];
  for (const [index, line] of text.split('\n').entries()) {
    const step = steps.at(-1);
    if (line.startsWith('//')) head.push(line);
    else if (line.startsWith('# ')) steps.push({ title: line.slice(2), lines: [] });
    else if (line !== '') {
      const parsed = parseLine(line);
      if (parsed === undefined || step === undefined) {
        throw new Error(`docs/examples.txt:${index + 1}: ${line.slice(0, 80)}`);
      }
      step.lines.push(parsed);
    }
  }
  return { head: head.join('\n'), steps };
}

function parseLine(line: string): TranscriptLine | undefined {
  if (line.startsWith('! ')) return { kind: 'world', what: line.slice(2) };
  const frame = /^([^<>{]+) ([<>]) (.*)$/.exec(line);
  if (frame !== null) {
    const [, who = '', arrow, text = ''] = frame;
    return { kind: arrow === '>' ? 'sends' : 'gets', who, frame: text };
  }
  const [, who = '', kind] = /^(.+) (connects|is closed|hangs up)$/.exec(line) ?? [];
  return kind === 'connects' || kind === 'is closed' || kind === 'hangs up' ? { kind, who } : undefined;
}

/** The reverse of {@link parseTranscript}. */
export function formatTranscript({ head, steps }: Transcript): string {
  const blocks = steps.map(({ title, lines }) => [`# ${title}`, ...lines.map(formatLine)].join('\n'));
  return `${[head, ...blocks].join('\n\n')}\n`;
}

export function formatLine(line: TranscriptLine): string {
  if (line.kind === 'world') return `! ${line.what}`;
  if (line.kind === 'sends') return `${line.who} > ${line.frame}`;
  if (line.kind === 'gets') return `${line.who} < ${line.frame}`;
  return `${line.who} ${line.kind}`;
}

/** A frame of the server, as far as it has to be told apart. */
export type ServerFrame =
  | { readonly type: 'ok'; readonly id: string | number; readonly data: unknown }
  | { readonly type: 'error'; readonly id: string | number | null; readonly error: { readonly code: string } }
  | { readonly type: string; readonly data: unknown };

/** A step as an exchange: the request, if one was sent, its reply, and the events that anybody got. */
export interface Exchange {
  readonly step: Step;
  readonly by: string | undefined;
  /** The line that was sent, as it is; not always JSON. */
  readonly sent: string | undefined;
  /** The request's type, where the line has one. */
  readonly type: string | undefined;
  readonly reply: Extract<ServerFrame, { readonly id: unknown }> | undefined;
  readonly events: readonly { readonly who: string; readonly type: string; readonly data: unknown }[];
}

export function toExchange(step: Step): Exchange {
  const sending = step.lines.find((line) => line.kind === 'sends');
  const by = sending?.kind === 'sends' ? sending.who : undefined;
  const sent = sending?.kind === 'sends' ? sending.frame : undefined;
  let reply: Exchange['reply'];
  const events: { who: string; type: string; data: unknown }[] = [];
  for (const line of step.lines) {
    if (line.kind !== 'gets') continue;
    const frame: ServerFrame = JSON.parse(line.frame);
    if (!('id' in frame)) events.push({ who: line.who, type: frame.type, data: frame.data });
    else if (line.who === by) reply = frame;
  }
  return { step, by, sent, type: sent === undefined ? undefined : typeOf(sent), reply, events };
}

function typeOf(sent: string): string | undefined {
  return /^\{.*?"type":"([\w.]+)"/.exec(sent)?.[1];
}
