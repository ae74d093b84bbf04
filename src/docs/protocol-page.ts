import { CLOSES } from '../shared/closes.js';
import { ERRORS, type ErrorCode } from '../shared/errors.js';
import { EVENTS, type EventType } from '../shared/protocol/events.js';
import type { RequestType } from '../shared/protocol/requests.js';
import { exampleBlock, exchangesOf } from './examples.js';
import { fieldTable, hasFields } from './field-table.js';
import { type JsonSchema, jsonSchemaOf, OPEN_LOGIN, objectSchemas, REQUESTS } from './json-schema.js';
import { REQUEST_ERRORS } from './request-errors.js';
import { type Exchange, type Transcript, toExchange } from './transcript.js';

/**
 * `docs/protocol.md`: the prose of the template, with what the code knows better in the place of its directives,
 * `<!-- directive words -->` on a line of its own.
 */
export function protocolPage(template: string, transcript: Transcript): string {
  const exchanges = transcript.steps.map(toExchange);
  return template.replace(/^<!-- (\w+):? ?(.*) -->$/gm, (_, directive: string, words: string) => {
    return section(directive, words, exchanges);
  });
}

function section(directive: string, words: string, exchanges: readonly Exchange[]): string {
  switch (directive) {
    case 'generated':
      return '<!-- Made by `npm run docs` from src/docs and docs/examples.txt: change those. -->';
    case 'errors':
      return errorTable(exchanges);
    case 'closes':
      return closeTable();
    case 'objects':
      return Object.entries(objectSchemas())
        .map(([name, schema]) => `### ${name}\n\n${fieldTable(schema)}`)
        .join('\n\n');
    case 'requests':
      return words
        .split(' ')
        .map((type) => requestSection(requestType(type), exchanges))
        .join('\n\n');
    case 'events':
      return words
        .split(' ')
        .map((type) => eventSection(eventType(type), exchanges))
        .join('\n\n');
    case 'example':
      return titled(exchangeTitled(words, exchanges));
    default:
      throw new Error(`the template has an unknown directive: ${directive}`);
  }
}

function requestType(type: string): RequestType {
  if (!Object.hasOwn(REQUESTS, type)) throw new Error(`the template names an unknown request: ${type}`);
  return type as RequestType;
}

function eventType(type: string): EventType {
  if (!Object.hasOwn(EVENTS, type)) throw new Error(`the template names an unknown event: ${type}`);
  return type as EventType;
}

function exchangeTitled(title: string, exchanges: readonly Exchange[]): Exchange {
  const found = exchanges.find(({ step }) => step.title.startsWith(title));
  if (found === undefined) throw new Error(`docs/examples.txt has no step "${title}"`);
  return found;
}

function titled({ step }: Exchange): string {
  return `*${step.title}.*\n\n${exampleBlock(step)}`;
}

/** Each code with a place that shows it. */
function errorTable(exchanges: readonly Exchange[]): string {
  const rows = Object.entries(ERRORS).map(([code, { retryable, when }]) => {
    const shown = exchanges.find(({ sent, reply }) => {
      return reply !== undefined && 'error' in reply && reply.error.code === code && sent?.includes('"id"');
    });
    return `| \`${code}\` | ${retryable ? 'yes' : 'no'} | ${when} | ${placeOf(code, shown)} |`;
  });
  return ['| code | retryable | when | an example |', '|---|---|---|---|', ...rows].join('\n');
}

function placeOf(code: string, shown: Exchange | undefined): string {
  if (code === 'BAD_JSON') return '[framing](#1-framing)';
  if (shown?.type === undefined) return '–';
  if (!Object.hasOwn(REQUESTS, shown.type)) return '[envelope](#2-envelope)';
  return `[\`${shown.type}\`](#${anchor(shown.type)})`;
}

function closeTable(): string {
  const rows = Object.entries(CLOSES).map(([reason, { code, announced, when }]) => {
    const again = code >= 4500 || reason === 'TOO_LARGE' || reason === 'LOGOUT' ? 'no' : 'yes';
    return `| \`${reason}\` | ${code} | ${announced ? 'yes' : 'no'} | ${again} | ${when} |`;
  });
  return [
    '| reason | WebSocket code | announced | reconnect | when |',
    '|---|---|---|---|---|',
    ...rows,
  ].join('\n');
}

function requestSection(type: RequestType, exchanges: readonly Exchange[]): string {
  const { doc, data, ok } = REQUESTS[type];
  const { main, more } = exchangesOf(exchanges, type);
  if (main === undefined) throw new Error(`docs/examples.txt has no ${type} that succeeds`);
  const parts = [
    `### \`${type}\``,
    doc,
    ...dataTables(type, jsonSchemaOf(data)),
    ...okTable(jsonSchemaOf(ok)),
    ...errorList(type),
    titled(main),
  ];
  if (more.length > 0) {
    const blocks = more.map(titled).join('\n\n');
    parts.push(`<details><summary>More examples of ${type}</summary>\n\n${blocks}\n\n</details>`);
  }
  return parts.join('\n\n');
}

function dataTables(type: RequestType, schema: JsonSchema): string[] {
  const tables = [];
  if (schema.oneOf !== undefined) {
    for (const variant of schema.oneOf) {
      const kind = variant.properties?.kind;
      const name = typeof kind === 'object' ? String(kind.const) : '';
      tables.push(`\`data\` of kind \`${name}\`:`, fieldTable(variant));
    }
  } else if (hasFields(schema)) {
    tables.push('`data`:', fieldTable(schema));
  } else {
    tables.push('No `data`.');
  }
  if (type === 'auth.login') {
    tables.push('In open mode (`CHAT_AUTH=open`) instead:', fieldTable(jsonSchemaOf(OPEN_LOGIN.data)));
  }
  return tables;
}

function okTable(schema: JsonSchema): string[] {
  return hasFields(schema) ? ['`ok`:', fieldTable(schema)] : ['`ok`: `{}`'];
}

function errorList(type: RequestType): string[] {
  const errors = Object.entries(REQUEST_ERRORS[type]);
  if (errors.length === 0) return [];
  const order = Object.keys(ERRORS) as ErrorCode[];
  const items = errors
    .sort(([a], [b]) => order.indexOf(a as ErrorCode) - order.indexOf(b as ErrorCode))
    .map(([code, when]) => `- \`${code}\`: ${when}`);
  return ['Errors, beside those that any request may get:', items.join('\n')];
}

function eventSection(type: EventType, exchanges: readonly Exchange[]): string {
  const { doc, data } = EVENTS[type];
  const shown = exchanges.find(({ events }) => events.some((event) => event.type === type));
  const event = shown?.events.find((one) => one.type === type);
  if (shown === undefined || event === undefined) throw new Error(`docs/examples.txt has no event ${type}`);
  const schema = jsonSchemaOf(data);
  const fields = schema.$ref === undefined ? fieldTable(schema) : `\`data\` is a ${reference(schema.$ref)}.`;
  return [
    `### Event \`${type}\``,
    doc,
    fields,
    `*${shown.step.title}.*`,
    exampleBlock({
      title: '',
      lines: [{ kind: 'gets', who: event.who, frame: JSON.stringify({ type, data: event.data }) }],
    }),
  ].join('\n\n');
}

function reference(ref: string): string {
  const name = ref.replace('#/$defs/', '');
  return `[${name}](#${name.toLowerCase()})`;
}

/** As GitHub makes them of headings. */
function anchor(heading: string): string {
  return heading
    .toLowerCase()
    .replace(/[^\w -]/g, '')
    .replaceAll(' ', '-');
}
