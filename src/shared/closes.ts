/**
 * The catalogue of reasons for which the server ends a connection. Each close has exactly one, which is
 * counted and logged. `code` is the WebSocket close code: 4000–4499 where reconnecting makes sense,
 * 4500–4999 where it does not (PROTOCOL 3). `announced` reasons are sent as an `error` with `id` null first.
 */
export const CLOSES = {
  CLIENT_GONE: { code: 1000, announced: false, when: 'the client closed the connection' },
  SOCKET_ERROR: { code: 1006, announced: false, when: 'the network broke the connection' },
  LOGOUT: { code: 1000, announced: false, when: 'the client asked for it with `auth.logout`' },
  SERVER_CLOSING: { code: 4000, announced: false, when: 'the server stops; `server.closing` said so before' },
  HEARTBEAT_TIMEOUT: { code: 4001, announced: true, when: 'the connection was silent for `timeoutMs`' },
  LOGIN_TIMEOUT: { code: 4002, announced: true, when: 'no login within `loginTimeoutMs`' },
  SLOW_CONSUMER: { code: 4003, announced: true, when: 'the client reads slower than its rooms write' },
  TOO_MANY_CONNECTIONS: {
    code: 4004,
    announced: true,
    when: 'the server or the address is at its connection limit',
  },
  INTERNAL: { code: 4005, announced: true, when: 'a bug ended a worker while it served this connection' },
  SESSION_REVOKED: {
    code: 4500,
    announced: true,
    when: 'the token expired, the user was disabled, or the device logged in again',
  },
  AUTH_FAILED: { code: 4501, announced: false, when: 'the login was refused; its `error` reply said why' },
  TOO_LARGE: { code: 1009, announced: true, when: 'a frame over `maxFrameBytes`' },
} as const satisfies Record<string, { code: number; announced: boolean; when: string }>;

export type CloseReason = keyof typeof CLOSES;
