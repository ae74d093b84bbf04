import type { Connection, RowDataPacket } from 'mysql2/promise';
import { connectionOptions } from './connection-options.js';
import { withConnection } from './with-connection.js';

/** A connection of a user, as `sarangbang who` shows it. */
export interface ConnectedDevice {
  readonly userId: number;
  /** null when the user is gone from the directory. */
  readonly username: string | null;
  readonly deviceId: string;
  readonly deviceName: string | null;
  readonly platform: string | null;
  readonly address: string;
  readonly processId: string;
  readonly connectedAt: number;
  /** Names of the rooms that the user is a member of; `#` and the id for direct rooms. */
  readonly rooms: readonly string[];
}

/** A chat process that holds its lease. */
export interface LiveProcess {
  readonly id: string;
  readonly host: string;
  readonly pid: number;
  readonly tcpAddress: string;
  readonly connections: number;
  readonly startedAt: number;
  /** ms that the lease still runs, by the database's clock. */
  readonly leaseMs: number;
}

interface DeviceRow extends RowDataPacket {
  user_id: number;
  username: string | null;
  device_id: Buffer;
  device_name: string | null;
  platform: string | null;
  address: string;
  process_id: string;
  connected_at: Date;
}

interface RoomRow extends RowDataPacket {
  user_id: number;
  id: number;
  name: string | null;
}

interface ProcessRow extends RowDataPacket {
  id: string;
  host: string;
  pid: number;
  tcp_address: string;
  connections: number;
  started_at: Date;
  lease_ms: number;
}

/** Connections shown at most. */
export const DEVICES_LISTED = 1_000;

/** Who is connected to a live process, the longest first, at most {@link DEVICES_LISTED}. */
export async function connectedDevices(connection: Connection): Promise<ConnectedDevice[]> {
  const [devices] = await connection.query<DeviceRow[]>(
    `SELECT s.user_id, u.username, s.device_id, s.device_name, s.platform, s.address, s.process_id, s.connected_at
       FROM chat_session s
       JOIN chat_process p ON p.id = s.process_id AND p.lease_until > UTC_TIMESTAMP(3)
       LEFT JOIN chat_user u ON u.id = s.user_id
      ORDER BY s.connected_at, s.id
      LIMIT ${DEVICES_LISTED}`,
  );
  const rooms = await roomsOf(connection, [...new Set(devices.map((device) => device.user_id))]);
  return devices.map((device) => ({
    userId: device.user_id,
    username: device.username,
    deviceId: device.device_id.toString('utf8'),
    deviceName: device.device_name,
    platform: device.platform,
    address: device.address,
    processId: device.process_id,
    connectedAt: device.connected_at.getTime(),
    rooms: rooms.get(device.user_id) ?? [],
  }));
}

async function roomsOf(connection: Connection, userIds: readonly number[]): Promise<Map<number, string[]>> {
  const rooms = new Map<number, string[]>();
  if (userIds.length === 0) return rooms;
  const [rows] = await connection.query<RoomRow[]>(
    `SELECT m.user_id, r.id, r.name
       FROM chat_member m JOIN chat_room r ON r.id = m.room_id AND r.deleted_at IS NULL
      WHERE m.user_id IN (?)
      ORDER BY m.user_id, r.id
      LIMIT 100000`,
    [userIds],
  );
  for (const { user_id, id, name } of rows) {
    const names = rooms.get(user_id) ?? [];
    names.push(name ?? `#${id}`);
    rooms.set(user_id, names);
  }
  return rooms;
}

/** The chat processes that hold their lease, the oldest first. */
export async function liveProcesses(connection: Connection): Promise<LiveProcess[]> {
  const [rows] = await connection.query<ProcessRow[]>(
    `SELECT id, host, pid, tcp_address, connections, started_at,
            TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(3), lease_until) DIV 1000 AS lease_ms
       FROM chat_process
      WHERE lease_until > UTC_TIMESTAMP(3)
      ORDER BY started_at, id
      LIMIT 1000`,
  );
  return rows.map((row) => ({
    id: row.id,
    host: row.host,
    pid: row.pid,
    tcpAddress: row.tcp_address,
    connections: row.connections,
    startedAt: row.started_at.getTime(),
    leaseMs: row.lease_ms,
  }));
}

/** The port that the chat process with that pid listens on, when the configuration leaves it to the system. */
export async function listenerPort(url: string, pid: number): Promise<number> {
  const processes = await withConnection(connectionOptions(url), liveProcesses);
  // Pids repeat over hosts and in time: ours is the youngest.
  const own = processes.findLast((process) => process.pid === pid);
  if (own === undefined) throw new Error(`the chat process ${pid} has no lease in chat_process`);
  return Number(own.tcpAddress.slice(own.tcpAddress.lastIndexOf(':') + 1));
}
