import type { JsonSchema } from './json-schema.js';

/** JSON Schema as a table for people. */

const SAFE = Number.MAX_SAFE_INTEGER;

/** The fields of an object, one row each; those of nested objects stand below with a dotted path. */
export function fieldTable(schema: JsonSchema): string {
  const rows = fieldRows(schema, '');
  return ['| field | type | |', '|---|---|---|', ...rows].join('\n');
}

export function hasFields(schema: JsonSchema): boolean {
  return Object.keys(schema.properties ?? {}).length > 0;
}

function fieldRows(schema: JsonSchema, prefix: string): string[] {
  const required = new Set(schema.required ?? []);
  return Object.entries(schema.properties ?? {}).flatMap(([name, field]) => {
    if (typeof field === 'boolean') return [];
    const path = `${prefix}${name}`;
    const notes = [required.has(name) ? '' : 'optional', field.description ?? ''].filter(
      (note) => note !== '',
    );
    const row = `| \`${path}\` | ${typeText(field)} | ${notes.join('; ').replaceAll('|', '\\|')} |`;
    return [row, ...nestedRows(field, path)];
  });
}

function nestedRows(field: JsonSchema, path: string): string[] {
  if (field.properties !== undefined) return fieldRows(field, `${path}.`);
  const { items } = field;
  if (isSchema(items) && items.properties !== undefined) return fieldRows(items, `${path}[].`);
  return [];
}

function isSchema(value: unknown): value is JsonSchema {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The type in words, e.g. `integer 1–100`, `string of 1–64 characters`, `User or null`. */
function typeText(schema: JsonSchema): string {
  const { $ref, anyOf, const: only, enum: choices, type } = schema;
  if ($ref !== undefined) {
    const name = $ref.replace('#/$defs/', '');
    return `[${name}](#${name.toLowerCase()})`;
  }
  if (only !== undefined) return code(only);
  if (choices !== undefined) return choices.map(code).join(' or ');
  if (anyOf !== undefined) return anyOf.map((one) => (isSchema(one) ? typeText(one) : '')).join(' or ');
  // zod writes `nullable` of a plain type as a list.
  const plain: unknown = type;
  if (Array.isArray(plain)) return plain.join(' or ');
  if (type === 'array')
    return `list of ${isSchema(schema.items) ? typeText(schema.items) : 'anything'}${most(schema)}`;
  if (type === 'string') return `string${between(schema.minLength, schema.maxLength, ' of ', ' characters')}`;
  if (type === 'integer') return `integer${between(schema.minimum, schema.maximum, ' ', '')}`;
  return typeof plain === 'string' ? plain : 'anything';
}

function most({ minItems, maxItems }: JsonSchema): string {
  return between(minItems, maxItems, ', ', '');
}

function between(min: number | undefined, max: number | undefined, before: string, after: string): string {
  const low = min === undefined || min === -SAFE ? undefined : min;
  const high = max === undefined || max === SAFE ? undefined : max;
  if (low === undefined && high === undefined) return '';
  if (high === undefined) return `${before}≥ ${count(low ?? 0)}${after}`;
  if (low === undefined || (low === 0 && after !== '')) return `${before}at most ${count(high)}${after}`;
  return `${before}${count(low)}–${count(high)}${after}`;
}

function count(n: number): string {
  return n.toLocaleString('en-US');
}

function code(value: unknown): string {
  return `\`${JSON.stringify(value)}\``;
}
