import { type Exchange, type Step, toExchange } from './transcript.js';

/** Steps of the transcript as they stand on the page. */

const WIDTH = 110;

/** A code block with what everybody sends and gets, broken into lines for reading. */
export function exampleBlock(step: Step): string {
  const { by } = toExchange(step);
  const isFirstHello = by === undefined;
  const lines: string[] = [];
  const own: string[] = [];
  const ends: string[] = [];
  const others = new Map<string, string[]>();
  for (const line of step.lines) {
    if (line.kind === 'world') lines.push(`// ${line.what}`);
    else if (line.kind === 'connects') continue;
    else if (line.kind === 'sends') own.push(`// ${line.who} sends`, wrap(line.frame));
    else if (line.kind === 'gets') {
      if (line.frame.startsWith('{"type":"hello"') && !isFirstHello) continue;
      if (line.who === by || isFirstHello) own.push(`// ${line.who} gets`, wrap(line.frame));
      else others.set(line.frame, [...(others.get(line.frame) ?? []), line.who]);
    } else (line.who === by ? own : ends).push(`// ${line.who} ${line.kind}`);
  }
  return ['```jsonc', ...lines, ...own, ...otherLines(others), ...ends, '```'].join('\n');
}

/** Of events that say the same to each in their own way, the first stands for all. */
function otherLines(others: ReadonlyMap<string, readonly string[]>): string[] {
  const lines: string[] = [];
  const shown = new Map<string, number>();
  for (const [frame, names] of others) {
    const kind = /"type":"([\w.]+)".*?(?:"seq":(\d+)|$)/.exec(frame);
    const type = kind?.[1] ?? '';
    const key = type === 'message' ? frame : type;
    const at = shown.get(key);
    if (at === undefined) {
      shown.set(key, lines.length);
      lines.push(`// ${list(names)} ${names.length > 1 ? 'get' : 'gets'}`, wrap(frame));
    } else if (!lines[at]?.includes('each with')) {
      lines[at] = `${lines[at]}; the other members get the same, each with their own role and marks`;
    }
  }
  return lines;
}

function list(names: readonly string[]): string {
  const last = names.at(-1) ?? '';
  return names.length < 2 ? last : `${names.slice(0, -1).join(', ')} and ${last}`;
}

/** Frames that are no JSON stay as they are. */
function wrap(frame: string): string {
  return frame.startsWith('{') ? prettyJson(JSON.parse(frame), '') : frame;
}

/** JSON broken into lines that are as full as may be; what is nested and too long for a line stands on lines of its own. */
export function prettyJson(value: unknown, indent: string): string {
  const flat = oneLine(value);
  if (indent.length + flat.length <= WIDTH || typeof value !== 'object' || value === null) return flat;
  const deeper = `${indent}  `;
  const isList = Array.isArray(value);
  const items = isList
    ? value.map((item) => prettyJson(item, deeper))
    : Object.entries(value).map(([name, item]) => `${JSON.stringify(name)}: ${prettyJson(item, deeper)}`);
  const lines: string[] = [];
  let isOpen = false;
  for (const [i, item] of items.entries()) {
    const text = i === items.length - 1 ? item : `${item},`;
    const line = lines.at(-1) ?? '';
    const isLong = text.includes('\n');
    if (isOpen && !isLong && line.length + 1 + text.length <= WIDTH)
      lines[lines.length - 1] = `${line} ${text}`;
    else lines.push(`${deeper}${text}`);
    isOpen = !isLong;
  }
  return `${isList ? '[' : '{'}\n${lines.join('\n')}\n${indent}${isList ? ']' : '}'}`;
}

function oneLine(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(oneLine).join(', ')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  const fields = Object.entries(value).map(([name, item]) => `${JSON.stringify(name)}: ${oneLine(item)}`);
  return fields.length === 0 ? '{}' : `{ ${fields.join(', ')} }`;
}

/** The exchanges of a request type: the first that succeeds, and the others. */
export function exchangesOf(
  exchanges: readonly Exchange[],
  type: string,
): { main: Exchange | undefined; more: Exchange[] } {
  const all = exchanges.filter((exchange) => exchange.type === type);
  const main = all.find(({ reply }) => reply?.type === 'ok');
  return { main, more: all.filter((exchange) => exchange !== main) };
}
