import { connect as connectPlain, isIPv6 } from 'node:net';
import { connect as connectTls } from 'node:tls';

/** ms that a server which has said it is ready may take to greet. */
const DEADLINE = 5_000;

/**
 * Connects to the chat the way a client does and resolves when it says `hello`.
 * @param host the address that the listener is bound to; for one that means all addresses, loopback is asked
 * @throws {Error} saying what came instead
 */
export async function greeted(host: string, port: number, tls: boolean): Promise<void> {
  const target = { host: host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '::1' : host, port };
  await new Promise<void>((resolve, reject) => {
    // The certificate is made out to the name that clients use, not to the address that we use here.
    const socket = tls
      ? connectTls({ ...target, rejectUnauthorized: false })
      : connectPlain({ ...target, allowHalfOpen: false });
    let received = '';
    socket.setTimeout(DEADLINE, () => socket.destroy(new Error(`no hello from ${address(host, port)}`)));
    socket.setEncoding('utf8');
    socket.on('data', (text: string) => {
      received += text;
      if (!received.includes('\n')) return;
      if (received.startsWith('{"type":"hello"')) resolve();
      else reject(new Error(`${address(host, port)} is not the chat: it said ${received.slice(0, 80)}`));
      socket.destroy();
    });
    socket.once('error', reject);
    socket.once('close', () => reject(new Error(`${address(host, port)} closed without a hello`)));
  });
}

/** `host:port`, with brackets around IPv6. */
export function address(host: string, port: number): string {
  return isIPv6(host) ? `[${host}]:${port}` : `${host}:${port}`;
}
