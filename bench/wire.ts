import { connect, type Socket } from 'node:net';
import type { EventType } from '../src/shared/protocol/events.js';
import type { OkData, RequestData, RequestType } from '../src/shared/protocol/requests.js';
import type { Address, BenchUser } from './job.js';

// Where `{"type":"ok"`, `{"type":"message"` and `{"type":"error"` differ. Frames that the benchmark itself
// sends begin with their type too, so that what a relay copies is counted in the same way.
const KIND_AT = '{"type":"'.length;
const OK = 'o'.charCodeAt(0);
const MESSAGE = 'm'.charCodeAt(0);
const ERROR = 'e'.charCodeAt(0);
const NEWLINE = 10;

// Shared by all sockets of the process: each read is dealt with before the next one begins.
const READ_BUFFER = Buffer.allocUnsafe(256 * 1024);

/**
 * A connection that costs a load generator as little as possible: while it measures, it looks at one byte per
 * line. Before that it parses, for login and making rooms.
 */
export class Wire {
  /** Lines that began like an `ok`. */
  oks = 0;
  /** Lines that began like a `message`. */
  messages = 0;
  /** Called after each read in which lines were counted. */
  onCounted: (wire: Wire) => void = () => {};
  /** Called if the connection ends, or an error line comes, while counting. */
  onTrouble: (why: string) => void = (why) => {
    throw new Error(why);
  };

  readonly #socket: Socket;
  readonly #waiting: {
    readonly fits: (frame: WireFrame) => boolean;
    readonly resolve: (frame: WireFrame) => void;
  }[] = [];
  #counting = false;
  #ending = false;
  #rest = '';
  /** Bytes of the present line that were seen. */
  #offset = 0;
  #kind = 0;
  #nextId = 1;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('close', () => {
      if (!this.#ending) this.onTrouble('the server closed a connection');
    });
  }

  /** Connects from `localAddress`, and does not wait for `hello`. */
  static connect(server: Address, localAddress = '127.0.0.1'): Promise<Wire> {
    return new Promise((resolve, reject) => {
      let wire: Wire | undefined;
      const socket = connect({
        ...server,
        localAddress,
        noDelay: true,
        onread: {
          buffer: READ_BUFFER,
          callback: (size, buffer) => {
            wire?.read(
              buffer instanceof Buffer ? buffer.subarray(0, size) : Buffer.from(buffer.subarray(0, size)),
            );
            return true;
          },
        },
      });
      wire = new Wire(socket);
      const connected = wire;
      socket.once('error', (error) => {
        reject(error);
        connected.onTrouble(error.message);
      });
      socket.once('connect', () => resolve(connected));
    });
  }

  /** Logs in with a token of the user. */
  async login(user: BenchUser): Promise<OkData<'auth.login'>> {
    return this.request('auth.login', { token: user.token, device: { id: 'bench' } });
  }

  /** A request whose answer is waited for; not while counting. */
  async request<T extends RequestType>(type: T, data: RequestData<T>): Promise<OkData<T>> {
    const id = `setup-${this.#nextId++}`;
    this.write(`${JSON.stringify({ id, type, data })}\n`);
    const frame = await this.#next((candidate) => candidate.id === id);
    if (frame.type !== 'ok') throw new Error(`${type} was answered with ${JSON.stringify(frame)}`);
    // The server's word is trusted: this is not where it is tested.
    return frame.data as OkData<T>;
  }

  /** Resolves when the next event of that type comes; not while counting. */
  async event(type: EventType): Promise<void> {
    await this.#next((frame) => frame.type === type);
  }

  /** Resolves when the message with this `clientMessageId` comes; not while counting. */
  async message(key: string): Promise<void> {
    await this.#next(({ type, data }) => type === 'message' && data?.clientMessageId === key);
  }

  /** From now on lines are counted and not parsed. */
  count(): void {
    this.#counting = true;
  }

  write(text: string): void {
    this.#socket.write(text);
  }

  /** Breaks the connection. */
  end(): void {
    this.#ending = true;
    this.#socket.destroy();
  }

  read(chunk: Buffer): void {
    if (!this.#counting) {
      this.#parse(chunk);
      return;
    }
    let at = 0;
    while (at < chunk.length) {
      if (this.#offset <= KIND_AT && this.#offset + chunk.length - at > KIND_AT) {
        this.#kind = chunk[at + KIND_AT - this.#offset] ?? 0;
      }
      const end = chunk.indexOf(NEWLINE, at);
      if (end < 0) {
        this.#offset += chunk.length - at;
        break;
      }
      if (this.#kind === MESSAGE) this.messages++;
      else if (this.#kind === OK) this.oks++;
      else if (this.#kind === ERROR) this.onTrouble(`the server answered ${chunk.toString('utf8', at, end)}`);
      this.#offset = 0;
      at = end + 1;
    }
    this.onCounted(this);
  }

  #parse(chunk: Buffer): void {
    const lines = (this.#rest + chunk.toString('utf8')).split('\n');
    this.#rest = lines.pop() ?? '';
    for (const line of lines) {
      const frame: WireFrame = JSON.parse(line);
      const index = this.#waiting.findIndex(({ fits }) => fits(frame));
      if (index >= 0) this.#waiting.splice(index, 1)[0]?.resolve(frame);
      else if (frame.type === 'error') this.onTrouble(`the server sent ${line}`);
    }
  }

  #next(fits: (frame: WireFrame) => boolean): Promise<WireFrame> {
    return new Promise((resolve) => this.#waiting.push({ fits, resolve }));
  }
}

interface WireFrame {
  readonly type: string;
  readonly id?: string | number | null;
  readonly data?: Record<string, unknown>;
}
