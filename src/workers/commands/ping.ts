import type { Command } from '../context.js';

export const ping: Command<'ping'> = async () => ({ serverAt: Date.now() });
