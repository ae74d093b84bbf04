import { parseArgs } from 'node:util';
import type { Config } from '../shared/config.js';
import { connectedDevices, DEVICES_LISTED, liveProcesses } from '../workers/store/who.js';
import { withDatabase } from './database.js';
import { createTable } from './table.js';

/** Rooms that a line of the table names. */
const ROOMS_SHOWN = 5;

/** `sarangbang who [--json]` */
export async function who(args: string[], config: Config): Promise<number> {
  const { values } = parseArgs({ args, options: { json: { type: 'boolean', default: false } } });
  const { devices, processes } = await withDatabase(config, async (connection) => ({
    devices: await connectedDevices(connection),
    processes: await liveProcesses(connection),
  }));
  if (values.json) {
    process.stdout.write(`${JSON.stringify({ connections: devices, processes })}\n`);
    return 0;
  }
  const table = createTable({ head: ['user', 'connected', 'from', 'device', 'process', 'rooms'] });
  for (const device of devices) {
    const rooms = device.rooms.slice(0, ROOMS_SHOWN).map(visible).join(', ');
    const more = device.rooms.length - ROOMS_SHOWN;
    table.push([
      `${device.username ?? '?'} (${device.userId})`,
      `${new Date(device.connectedAt).toISOString().replace('T', ' ').slice(0, 19)} UTC`,
      device.address,
      visible([device.deviceName ?? device.deviceId, device.platform].filter(Boolean).join(', ')),
      device.processId,
      more > 0 ? `${rooms} and ${more} more` : rooms,
    ]);
  }
  if (devices.length > 0) process.stdout.write(`${table.toString()}\n`);
  const users = new Set(devices.map(({ userId }) => userId)).size;
  process.stdout.write(
    `${count(devices.length, 'connection')} of ${count(users, 'user')}, ${count(processes.length, 'process', 'processes')}\n`,
  );
  if (devices.length === DEVICES_LISTED)
    process.stdout.write(`Only the first ${DEVICES_LISTED} are shown.\n`);
  return 0;
}

function count(n: number, one: string, many = `${one}s`): string {
  return `${n} ${n === 1 ? one : many}`;
}

/** Names come from clients: what would steer a terminal is shown as a dot. */
function visible(text: string): string {
  return text.replace(/\p{C}/gu, '·');
}
