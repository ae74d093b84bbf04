import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import {
  exportJWK,
  exportSPKI,
  type GenerateKeyPairResult,
  generateKeyPair,
  SignJWT,
  UnsecuredJWT,
} from 'jose';
import t, { type Test } from 'tap';
import { ProtocolError } from '../src/cli/client.js';
import { SECRET, startServer, type TestServer, tokenFor } from './support/server.js';

type Pair = GenerateKeyPairResult;

/** An HTTP server with the key set of an issuer; `answer` may be changed. */
async function startIssuer(t: Test, answer: { status: number; body: string }) {
  const http = createServer((_, response) => {
    issuer.requests++;
    if (issuer.answer.status === 0) return;
    response.writeHead(issuer.answer.status, { 'content-type': 'application/json' }).end(issuer.answer.body);
  });
  http.listen(0, '127.0.0.1');
  await once(http, 'listening');
  t.teardown(async () => {
    http.closeAllConnections();
    http.close();
    await once(http, 'close');
  });
  const { port } = http.address() as AddressInfo;
  const issuer = { answer, requests: 0, url: `http://127.0.0.1:${port}/jwks.json` };
  return issuer;
}

async function keySet(pairs: Record<string, { pair: Pair; alg: string }>): Promise<string> {
  const keys = Object.entries(pairs).map(async ([kid, { pair, alg }]) => ({
    ...(await exportJWK(pair.publicKey)),
    kid,
    alg,
    use: 'sig',
  }));
  return JSON.stringify({ keys: await Promise.all(keys) });
}

function signed(
  pair: Pair,
  header: { alg: string; kid?: string },
  claims: Record<string, unknown> = {},
): Promise<string> {
  const exp = Math.floor(Date.now() / 1000) + 3600;
  return new SignJWT({ sub: '1', exp, ...claims }).setProtectedHeader(header).sign(pair.privateKey);
}

/** The code that a login with the token is answered with, and whether the connection was closed. */
async function tryLogin(server: TestServer, token: string): Promise<string> {
  const client = await server.connect();
  try {
    await client.login({ token }, { id: crypto.randomUUID() });
    return 'ok';
  } catch (error) {
    if (!(error instanceof ProtocolError)) throw error;
    if (error.code === 'AUTH_FAILED') await client.closed;
    else await client.request('ping');
    return error.code;
  }
}

t.test('CHAT_JWT_JWKS: tokens of an issuer with a key set', async (t) => {
  const algorithms = ['RS256', 'ES256', 'EdDSA'] as const;
  const [rsa, ec, ed] = await Promise.all([
    generateKeyPair('RS256', { extractable: true }),
    generateKeyPair('ES256', { extractable: true }),
    generateKeyPair('EdDSA', { extractable: true }),
  ]);
  const pairs = { RS256: rsa, ES256: ec, EdDSA: ed };
  const set = await keySet({
    'key of RS256': { pair: rsa, alg: 'RS256' },
    'key of ES256': { pair: ec, alg: 'ES256' },
    'key of EdDSA': { pair: ed, alg: 'EdDSA' },
  });
  const issuer = await startIssuer(t, { status: 200, body: set });
  // Without a secret of its own, as a site with a key set has none; the harness's is taken away.
  const server = await startServer(t, { CHAT_JWT_SECRET: '', CHAT_JWT_JWKS: issuer.url });

  for (const alg of algorithms) {
    t.test(`auth.login: a token signed with ${alg}`, async (t) => {
      const kid = `key of ${alg}`;
      const pair = pairs[alg];
      const part = server.within(t);
      t.equal(await tryLogin(part, await signed(pair, { alg, kid })), 'ok');
      const client = await part.connect();
      await client.login({ token: await signed(pair, { alg, kid }, { sub: '2' }) }, { id: alg });
      const { tokenExpiresAt } = await client.request('auth.refresh', {
        token: await signed(pair, { alg, kid }, { sub: '2', exp: 4_000_000_000 }),
      });
      t.equal(tokenExpiresAt, 4_000_000_000_000);

      const stranger = await generateKeyPair(alg);
      const now = Math.floor(Date.now() / 1000);
      const bad: Record<string, string> = {
        'another key': await signed(stranger, { alg, kid }),
        'expired a second ago': await signed(pair, { alg, kid }, { exp: now - 1 }),
        'missing exp': await signed(pair, { alg, kid }, { exp: undefined }),
        'missing sub': await signed(pair, { alg, kid }, { sub: undefined }),
        'unknown user': await signed(pair, { alg, kid }, { sub: '4711' }),
        'key of another algorithm': await signed(pair, {
          alg,
          kid: `key of ${alg === 'RS256' ? 'ES256' : 'RS256'}`,
        }),
        'a key that is not in the set': await signed(pair, { alg, kid: 'retired' }),
      };
      for (const [what, token] of Object.entries(bad))
        t.equal(await tryLogin(part, token), 'AUTH_FAILED', what);
    });
  }

  t.test(
    'AUTH_FAILED: alg none, HS256 with a public key or with the secret, algorithms not offered',
    async (t) => {
      const exp = Math.floor(Date.now() / 1000) + 3600;
      const hmac = (secret: string) =>
        new SignJWT({ sub: '1', exp })
          .setProtectedHeader({ alg: 'HS256', kid: 'key of RS256' })
          .sign(new TextEncoder().encode(secret));
      const bad: Record<string, string> = {
        'alg none': new UnsecuredJWT({ sub: '1', exp }).encode(),
        'HS256 with the public key': await hmac(await exportSPKI(rsa.publicKey)),
        'HS256 with some secret': await hmac(SECRET),
        PS256: await signed(await generateKeyPair('PS256'), { alg: 'PS256', kid: 'key of RS256' }),
      };
      for (const [what, token] of Object.entries(bad)) {
        t.equal(await tryLogin(server.within(t), token), 'AUTH_FAILED', what);
      }
    },
  );

  t.test('the key set is fetched once, not for every login', async (t) => {
    for (let i = 0; i < 10; i++) {
      t.equal(
        await tryLogin(server.within(t), await signed(rsa, { alg: 'RS256', kid: 'key of RS256' })),
        'ok',
      );
    }
    t.ok(issuer.requests <= server.config.CHAT_WORKER_THREADS, 'by each thread that needed it');
  });
});

t.test('UNAVAILABLE: the key set can not be fetched; the connection stays, and later it works', async (t) => {
  const pair = await generateKeyPair('ES256', { extractable: true });
  const set = await keySet({ only: { pair, alg: 'ES256' } });
  const issuer = await startIssuer(t, { status: 503, body: 'later' });
  const server = await startServer(t, { CHAT_JWT_JWKS: issuer.url });
  const token = await signed(pair, { alg: 'ES256' });
  const client = await server.connect();
  const failing = [
    { status: 503, body: 'later' },
    { status: 200, body: 'a page, not JSON' },
    { status: 200, body: '{"error":"not a key set"}' },
    { status: 200, body: '[]' },
    { status: 0, body: '' },
  ];
  for (const answer of failing) {
    issuer.answer = answer;
    const error = await client.login({ token }, { id: 'x' }).catch((error: unknown) => error);
    t.match(error, { code: 'UNAVAILABLE', retryable: true, retryAfterMs: Number }, JSON.stringify(answer));
  }
  t.equal(await tryLogin(server, await tokenFor(2)), 'ok', 'tokens of the secret need no key set');
  issuer.answer = { status: 200, body: set };
  t.match(await client.login({ token }, { id: 'x' }), { user: { id: 1 } });
});

t.test('CHAT_JWT_ISSUER, CHAT_JWT_AUDIENCE: are checked where they are set', async (t) => {
  const server = await startServer(t, {
    CHAT_JWT_ISSUER: 'https://id.example.com',
    CHAT_JWT_AUDIENCE: 'chat',
  });
  const token = (claims: Record<string, unknown>) =>
    new SignJWT({ sub: '1', exp: Math.floor(Date.now() / 1000) + 3600, ...claims })
      .setProtectedHeader({ alg: 'HS256' })
      .sign(new TextEncoder().encode(SECRET));
  const iss = 'https://id.example.com';
  t.equal(await tryLogin(server, await token({ iss, aud: 'chat' })), 'ok');
  t.equal(await tryLogin(server, await token({ iss, aud: ['shop', 'chat'] })), 'ok');
  for (const claims of [
    {},
    { iss },
    { aud: 'chat' },
    { iss, aud: 'shop' },
    { iss: `${iss}/`, aud: 'chat' },
  ]) {
    t.equal(await tryLogin(server, await token(claims)), 'AUTH_FAILED', JSON.stringify(claims));
  }
});
