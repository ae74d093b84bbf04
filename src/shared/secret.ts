import { randomBytes } from 'node:crypto';
import { linkSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Config } from './config.js';

/**
 * The secret of HS256 tokens: `CHAT_JWT_SECRET`, or the one that the first start puts into the data directory, so
 * that tokens stay valid over a restart. Everyone who calls it gets the same secret, also when several processes
 * call it for the first time at once: the file appears whole or not at all, and the first one wins.
 */
export function jwtSecret(config: Pick<Config, 'CHAT_JWT_SECRET' | 'CHAT_DATA_DIR'>): string {
  if (config.CHAT_JWT_SECRET !== undefined) return config.CHAT_JWT_SECRET;
  const file = join(config.CHAT_DATA_DIR, 'jwt-secret');
  const known = read(file);
  if (known !== null) return known;
  mkdirSync(config.CHAT_DATA_DIR, { recursive: true, mode: 0o700 });
  const draft = `${file}.${process.pid}.${randomBytes(4).toString('hex')}`;
  writeFileSync(draft, `${randomBytes(48).toString('base64url')}\n`, {
    mode: 0o600,
    flag: 'wx',
    flush: true,
  });
  try {
    linkSync(draft, file);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
  } finally {
    rmSync(draft);
  }
  return readFileSync(file, 'utf8').trim();
}

function read(file: string): string | null {
  try {
    return readFileSync(file, 'utf8').trim();
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null;
    throw error;
  }
}
