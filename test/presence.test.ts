import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import type { EventData } from '../src/shared/protocol/events.js';
import {
  caughtUp,
  codeOf,
  eventsOf,
  type Phone,
  startServer,
  type TestServer,
  type UserName,
  userIdOf,
} from './support/server.js';

/** PROTOCOL 8: `presence.subscribe` and who is online. */
const GRACE_MS = 1000;
const [server, patient] = await Promise.all([
  startServer(t, { CHAT_PRESENCE_GRACE_MS: '50' }),
  startServer(t, { CHAT_PRESENCE_GRACE_MS: String(GRACE_MS) }),
]);

const [MINA, JUN, SORA, HYUN] = [userIdOf('mina'), userIdOf('jun'), userIdOf('sora'), userIdOf('hyun')];

async function subscribe(phone: Phone, ...userIds: number[]) {
  const { presences } = await phone.client.request('presence.subscribe', { userIds });
  return presences;
}

/** What a phone was told of a user after its subscription, e.g. `['online', 'offline']`. */
function changesOf(phone: Phone, userId: number): EventData<'presence'>['state'][] {
  return eventsOf(phone, 'presence').flatMap((presence) =>
    presence.userId === userId ? [presence.state] : [],
  );
}

/** Waits until the user has changed so often, as the phone was told. */
async function changed(phone: Phone, userId: number, times: number): Promise<EventData<'presence'>> {
  return phone.client.waitFor(
    'presence',
    (presence) => presence.userId === userId && changesOf(phone, userId).length >= times,
  );
}

/** Waits until a user whom an earlier test has left online is offline. */
async function isOffline(here: TestServer, name: UserName): Promise<void> {
  const probe = await here.phone('duri', crypto.randomUUID());
  const [now] = await subscribe(probe, userIdOf(name));
  if (now?.state === 'online') await probe.client.waitFor('presence', ({ state }) => state === 'offline');
}

t.test('presence.subscribe: tells who is online and when the others last were', async (t) => {
  const here = server.within(t);
  const before = Date.now();
  const [mina, jun] = await here.phones('mina', 'jun');
  const bora = await here.phone('bora');
  await bora.client.request('auth.logout');
  const presences = await subscribe(mina, JUN, bora.userId, HYUN, MINA);
  const after = Date.now();
  t.match(presences, [
    { userId: JUN, state: 'online' },
    { userId: bora.userId, state: 'offline' },
    { userId: HYUN, state: 'offline', lastActiveAt: null },
    { userId: MINA, state: 'online' },
  ]);
  t.equal(presences.length, 4);
  for (const { userId, lastActiveAt } of presences) {
    if (userId === HYUN) continue;
    t.ok(
      lastActiveAt !== null && lastActiveAt >= before && lastActiveAt <= after,
      `${userId}: ${lastActiveAt}`,
    );
  }
  await jun.client.request('auth.logout');
});

t.test('presence.subscribe: unknown users are left out, repeated ones are told once', async (t) => {
  const mina = await server.within(t).phone('mina');
  const presences = await subscribe(mina, 999_999, MINA, MINA, Number.MAX_SAFE_INTEGER);
  t.strictSame(
    presences.map(({ userId }) => userId),
    [MINA],
  );
  t.strictSame(await subscribe(mina), []);
});

t.test('presence.subscribe: 500 users at most', async (t) => {
  const mina = await server.within(t).phone('mina');
  const ids = Array.from({ length: 501 }, (_, i) => i + 1);
  t.equal(await codeOf(subscribe(mina, ...ids.slice(0, 500))), 'ok');
  t.equal(await codeOf(subscribe(mina, ...ids)), 'BAD_REQUEST');
  t.equal(await codeOf(subscribe(mina, 0)), 'BAD_REQUEST');
  t.equal(await codeOf(subscribe(mina, -1)), 'BAD_REQUEST');
  t.equal(await codeOf(subscribe(mina, 1.5)), 'BAD_REQUEST');
});

t.test('presence: login and logout are told at once', async (t) => {
  const here = patient.within(t);
  await isOffline(here, 'jun');
  const mina = await here.phone('mina');
  await subscribe(mina, JUN);
  const jun = await here.phone('jun');
  const online = await mina.client.waitFor('presence', ({ state }) => state === 'online');
  t.match(online, { userId: JUN, lastActiveAt: Number });
  const begin = performance.now();
  await jun.client.request('auth.logout');
  const offline = await mina.client.waitFor('presence', ({ state }) => state === 'offline');
  t.ok(performance.now() - begin < GRACE_MS, 'no grace for a logout');
  t.match(offline, { userId: JUN, lastActiveAt: Number });
  t.strictSame(changesOf(mina, JUN), ['online', 'offline']);
  const [asked] = await subscribe(mina, JUN);
  t.strictSame(asked, { userId: JUN, state: 'offline', lastActiveAt: offline.lastActiveAt });
});

t.test('presence: a lost connection shows after the grace', async (t) => {
  const here = patient.within(t);
  await isOffline(here, 'jun');
  const mina = await here.phone('mina');
  const jun = await here.phone('jun');
  await subscribe(mina, JUN);
  const begin = performance.now();
  jun.client.destroy();
  await jun.client.closed;
  t.match(await subscribe(mina, JUN), [{ userId: JUN, state: 'online' }], 'still online within the grace');
  const offline = await mina.client.waitFor('presence', ({ state }) => state === 'offline');
  const took = performance.now() - begin;
  t.ok(took >= GRACE_MS - 5, `after ${Math.round(took)} ms`);
  t.equal(offline.userId, JUN);
});

t.test('presence: a connection closed without logout shows after the grace too', async (t) => {
  const here = patient.within(t);
  await isOffline(here, 'jun');
  const mina = await here.phone('mina');
  const jun = await here.phone('jun');
  await subscribe(mina, JUN);
  const begin = performance.now();
  await jun.client.close();
  await mina.client.waitFor('presence', ({ state }) => state === 'offline');
  t.ok(performance.now() - begin >= GRACE_MS - 5);
});

t.test('presence: a short break does not flicker, with the same device and with another', async (t) => {
  const here = patient.within(t);
  await Promise.all([isOffline(here, 'jun'), isOffline(here, 'sora'), isOffline(here, 'hyun')]);
  const mina = await here.phone('mina');
  const jun = await here.phone('jun', 'phone');
  const sora = await here.phone('sora', 'phone');
  const hyun = await here.phone('hyun');
  await subscribe(mina, JUN, SORA, HYUN);
  jun.client.destroy();
  sora.client.reset();
  await here.phone('jun', 'phone');
  await here.phone('sora', 'tablet');
  // The grace of this one begins later, so when it is over those of the others are.
  hyun.client.destroy();
  await changed(mina, HYUN, 1);
  t.strictSame([changesOf(mina, JUN), changesOf(mina, SORA), changesOf(mina, HYUN)], [[], [], ['offline']]);
  t.match(await subscribe(mina, JUN, SORA), [{ state: 'online' }, { state: 'online' }]);
});

t.test('presence: online while at least one device is', async (t) => {
  const here = server.within(t);
  await isOffline(here, 'jun');
  const mina = await here.phone('mina');
  await subscribe(mina, JUN);
  const phone = await here.phone('jun', 'phone');
  const tablet = await here.phone('jun', 'tablet');
  const watch = await here.phone('jun', 'watch');
  await changed(mina, JUN, 1);
  await phone.client.request('auth.logout');
  await watch.client.request('auth.logout');
  await caughtUp(mina);
  t.match(await subscribe(mina, JUN), [{ state: 'online' }]);
  t.strictSame(changesOf(mina, JUN), ['online']);
  await tablet.client.request('auth.logout');
  await changed(mina, JUN, 2);
  t.strictSame(changesOf(mina, JUN), ['online', 'offline']);
});

t.test('presence: a login that replaces another of the same device changes nothing', async (t) => {
  const here = patient.within(t);
  await isOffline(here, 'jun');
  const mina = await here.phone('mina');
  const first = await here.phone('jun', 'phone');
  await subscribe(mina, JUN);
  const second = await here.phone('jun', 'phone');
  await first.client.closed;
  await second.client.request('auth.logout');
  await changed(mina, JUN, 1);
  t.strictSame(changesOf(mina, JUN), ['offline'], 'and the logout of the second counts');
});

t.test('presence.subscribe: replaces the set of the connection', async (t) => {
  const here = server.within(t);
  await Promise.all([isOffline(here, 'jun'), isOffline(here, 'sora')]);
  const mina = await here.phone('mina', 'phone');
  const tablet = await here.phone('mina', 'tablet');
  await subscribe(mina, JUN, SORA);
  await subscribe(tablet, JUN, SORA);
  await subscribe(mina, SORA);
  const jun = await here.phone('jun');
  await jun.client.request('auth.logout');
  const sora = await here.phone('sora');
  await changed(mina, SORA, 1);
  await changed(tablet, SORA, 1);
  t.strictSame(changesOf(mina, JUN), [], 'jun is not in the set any more');
  t.strictSame(changesOf(tablet, JUN), ['online', 'offline'], 'the set of another device stays');
  await subscribe(mina);
  await sora.client.request('auth.logout');
  await changed(tablet, SORA, 2);
  await caughtUp(mina);
  t.strictSame(changesOf(mina, SORA), ['online'], 'an empty set ends it');
});

t.test('presence.subscribe: a refused one leaves the set as it was', async (t) => {
  const here = server.within(t);
  await isOffline(here, 'jun');
  const mina = await here.phone('mina');
  await subscribe(mina, JUN);
  t.equal(await codeOf(subscribe(mina, 0)), 'BAD_REQUEST');
  await here.phone('jun');
  await changed(mina, JUN, 1);
});

t.test('presence: who did not subscribe is told nothing, room mates neither', async (t) => {
  const here = server.within(t);
  await isOffline(here, 'jun');
  const [mina, sora] = await here.phones('mina', 'sora');
  await here.room(mina, [sora]);
  const room = await here.room(mina);
  await subscribe(sora, JUN);
  const jun = await here.phone('jun');
  await jun.client.request('room.join', { roomId: room.id });
  await jun.client.request('auth.logout');
  await changed(sora, JUN, 2);
  await caughtUp(mina);
  t.strictSame(eventsOf(mina, 'presence'), []);
});

t.test('presence.subscribe: ends with its connection', async (t) => {
  const here = server.within(t);
  await isOffline(here, 'jun');
  const before = await here.phone('mina');
  const sora = await here.phone('sora');
  await subscribe(before, JUN);
  await subscribe(sora, JUN);
  await before.client.close();
  const after = await here.phone('mina');
  await here.phone('jun');
  await changed(sora, JUN, 1);
  await caughtUp(after);
  t.strictSame(eventsOf(after, 'presence'), []);
});

t.test('presence.subscribe: no change falls between the answer and the events', async (t) => {
  const here = server.within(t);
  await isOffline(here, 'jun');
  const mina = await here.phone('mina');
  for (let round = 0; round < 15; round++) {
    const told = eventsOf(mina, 'presence').length;
    const connecting = here.phone('jun');
    // Anywhere in the login, on purpose.
    await sleep(round);
    const [answer] = await subscribe(mina, JUN);
    const jun = await connecting;
    if (answer?.state === 'offline') {
      await mina.client.waitFor('presence', (p) => eventsOf(mina, 'presence').indexOf(p) >= told);
    }
    await caughtUp(mina);
    const last = eventsOf(mina, 'presence').slice(told).at(-1) ?? answer;
    t.equal(last?.state, 'online', `round ${round}: answered ${answer?.state}`);
    await jun.client.request('auth.logout');
    await subscribe(mina);
  }
});

t.test('presence.subscribe: pipelined with others, and events wait for the answer', async (t) => {
  const here = server.within(t);
  await isOffline(here, 'jun');
  const mina = await here.phone('mina');
  const frames = [
    { id: 'a', type: 'presence.subscribe', data: { userIds: [JUN] } },
    { id: 'b', type: 'ping' },
    { id: 'c', type: 'presence.subscribe', data: { userIds: [JUN, MINA] } },
    { id: 'd', type: 'user.get', data: { userIds: [JUN] } },
  ];
  mina.client.sendRaw(frames.map((frame) => `${JSON.stringify(frame)}\n`).join(''));
  for (const { id } of frames) t.match(await mina.client.waitForReply(id), { type: 'ok' }, id);
  await here.phone('jun');
  await changed(mina, JUN, 1);
  await caughtUp(mina);
  t.strictSame(changesOf(mina, JUN), ['online'], 'once, although it was subscribed twice');
});

t.test('room.members: says the same of presence', async (t) => {
  const here = server.within(t);
  const [mina, jun] = await here.phones('mina', 'jun');
  const room = await here.room(mina, [jun]);
  const presences = async () => {
    const { members } = await mina.client.request('room.members', { roomId: room.id });
    return Object.fromEntries(members.map(({ presence }) => [presence.userId, presence.state]));
  };
  t.strictSame(await presences(), { [MINA]: 'online', [JUN]: 'online' });
  await jun.client.request('auth.logout');
  t.strictSame(await presences(), { [MINA]: 'online', [JUN]: 'offline' });
});
