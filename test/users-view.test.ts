import { createConnection } from 'mysql2/promise';
import t from 'tap';
import { connectionOptions } from '../src/workers/store/connection-options.js';
import { migrate } from '../src/workers/store/migrate.js';
import { createEmptyDatabase } from './support/database.js';
import { codeOf, say, startServerOn, tokenFor } from './support/server.js';

/** A site that has had its users for long, in a table of its own with its own names and types. */
const SITE = [
  `CREATE TABLE member (
     member_no INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
     login VARCHAR(40) CHARACTER SET latin1 NOT NULL UNIQUE,
     nick VARCHAR(60) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci NULL,
     photo VARCHAR(200) NULL,
     status ENUM('active', 'banned') NOT NULL DEFAULT 'active',
     changed TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP
   ) ENGINE=InnoDB`,
  `INSERT INTO member (login, nick, photo) VALUES
     ('mina', '미나 ✨', '/images/mina.jpg'), ('jun', NULL, NULL), ('sora', 'Sora', NULL), ('hyun', 'Hyun', NULL),
     ('bora', 'Bora', NULL)`,
  `CREATE VIEW chat_user AS
     SELECT member_no AS id, login AS username, COALESCE(nick, login) AS display_name, photo AS avatar_path,
            CASE status WHEN 'banned' THEN changed END AS disabled_at
       FROM member`,
];

t.test("a site's own users, by a view in the place of chat_user", async (t) => {
  const { url } = await createEmptyDatabase(t);
  const site = await createConnection(connectionOptions(url));
  t.teardown(() => site.destroy());
  for (const statement of SITE) await site.query(statement);
  await migrate(url);
  const server = await startServerOn(t, url);
  const [mina, jun, sora] = await server.phones('mina', 'jun', 'sora');
  if (!mina || !jun || !sora) throw new Error();

  t.same(mina.login.user, {
    id: 1,
    username: 'mina',
    displayName: '미나 ✨',
    avatarPath: '/images/mina.jpg',
  });
  t.same(jun.login.user, { id: 2, username: 'jun', displayName: 'jun', avatarPath: null });

  const room = await server.room(mina, [jun, sora]);
  const { seq } = await say(mina, room.id, 'hi');
  await jun.client.waitFor('message', (message) => message.seq === seq);
  const { members } = await jun.client.request('room.members', { roomId: room.id });
  t.same(members.map(({ user }) => user.displayName).sort(), ['Sora', 'jun', '미나 ✨']);
  const direct = await jun.client.request('room.direct', { userId: 1 });
  t.equal(direct.room.peer?.username, 'mina');
  t.match(await jun.client.request('room.list', { scope: 'mine', query: '미나' }), {
    rooms: [{ id: direct.room.id }],
  });

  const names = async (query: string) => {
    const { users } = await mina.client.request('user.list', { query });
    return users.map(({ username }) => username);
  };
  t.same(await names('so'), ['sora']);
  t.same(await names('미'), ['mina'], 'also letters that the login names can not have');
  t.same(await names('%'), []);
  t.same(await names(''), ['mina', 'jun', 'sora', 'hyun', 'bora']);
  const { users } = await mina.client.request('user.get', { userIds: [3, 99] });
  t.same(
    users.map(({ id }) => id),
    [3],
  );
  t.equal(await codeOf(mina.client.request('room.create', { name: 'x', memberIds: [99] })), 'NOT_FOUND');

  await site.query("UPDATE member SET status = 'banned' WHERE login = 'sora'");
  const { error } = await sora.client.closed;
  t.match(error, { code: 'SESSION_REVOKED' }, 'who is banned on the site is sent away');
  const again = await server.connect();
  t.equal(await codeOf(again.login({ token: await tokenFor(3) }, { id: 'x' })), 'AUTH_FAILED');
  t.same(await names('so'), []);
});
