-- The schema of the chat. MySQL 8.0+ and MariaDB 10.6+ alike. Every table starts with chat_, because the
-- database is shared with the site. Collations are named, as the two servers differ in their defaults.
-- room_id leads every hot key, so that the tables shard by room.
--
-- IF NOT EXISTS throughout: DDL commits by itself, and a migration that was interrupted is run again from its start.

-- The user directory. A site with its own users puts a view of the same columns in its place (README); the
-- chat only reads it, so nothing refers to it with a foreign key.
CREATE TABLE IF NOT EXISTS chat_user (
  id           BIGINT NOT NULL AUTO_INCREMENT,
  username     VARCHAR(64) NOT NULL,
  display_name VARCHAR(100) NOT NULL,
  avatar_path  VARCHAR(512) NULL,
  disabled_at  DATETIME(3) NULL,
  PRIMARY KEY (id),
  UNIQUE KEY chat_user_username (username)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci;

-- Passwords of users that `sarangbang user add --password` made; not read by the chat.
CREATE TABLE IF NOT EXISTS chat_credential (
  user_id       BIGINT NOT NULL,
  password_hash VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  changed_at    DATETIME(3) NOT NULL,
  PRIMARY KEY (user_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci;

-- last_seq and last_ordinal move under the row's lock, in the transaction that inserts the entries: that is what
-- makes a room a stream without holes. deleted_at keeps the history of a room that is gone.
CREATE TABLE IF NOT EXISTS chat_room (
  id             BIGINT NOT NULL AUTO_INCREMENT,
  kind           ENUM('group', 'direct') NOT NULL,
  name           VARCHAR(100) NULL,
  visibility     ENUM('public', 'private') NOT NULL,
  owner_id       BIGINT NULL,
  member_count   INT NOT NULL,
  member_limit   INT NOT NULL,
  last_seq       BIGINT NOT NULL DEFAULT 0,
  last_ordinal   BIGINT NOT NULL DEFAULT 0,
  created_by     BIGINT NOT NULL,
  -- VARBINARY: compared byte for byte, without the padding of trailing spaces that utf8mb4_bin has.
  client_room_id VARBINARY(256) NULL,
  direct_low     BIGINT NULL,
  direct_high    BIGINT NULL,
  created_at     DATETIME(3) NOT NULL,
  deleted_at     DATETIME(3) NULL,
  PRIMARY KEY (id),
  -- Whoever asks first: the second insert of the pair finds this key taken.
  UNIQUE KEY chat_room_direct (direct_low, direct_high),
  UNIQUE KEY chat_room_client_id (created_by, client_room_id),
  KEY chat_room_public (visibility, id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci;

-- The marks are high-water marks; read_ordinal is the ordinal of the entry at read_seq, so that
-- unread = chat_room.last_ordinal - read_ordinal.
CREATE TABLE IF NOT EXISTS chat_member (
  room_id       BIGINT NOT NULL,
  user_id       BIGINT NOT NULL,
  joined_at     DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
  read_seq      BIGINT NOT NULL DEFAULT 0,
  read_ordinal  BIGINT NOT NULL DEFAULT 0,
  delivered_seq BIGINT NOT NULL DEFAULT 0,
  PRIMARY KEY (room_id, user_id),
  KEY chat_member_user (user_id, room_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci;

CREATE TABLE IF NOT EXISTS chat_ban (
  room_id   BIGINT NOT NULL,
  user_id   BIGINT NOT NULL,
  banned_by BIGINT NOT NULL,
  banned_at DATETIME(3) NOT NULL,
  PRIMARY KEY (room_id, user_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci;

-- The streams. Clustered by (room_id, seq): a page of history is a range scan. ordinal counts the text and image
-- entries up to here. body is the text, or JSON for image and system.
CREATE TABLE IF NOT EXISTS chat_entry (
  room_id           BIGINT NOT NULL,
  seq               BIGINT NOT NULL,
  ordinal           BIGINT NOT NULL,
  kind              ENUM('text', 'image', 'system') NOT NULL,
  sender_id         BIGINT NULL,
  client_message_id VARBINARY(256) NULL,
  reply_to          BIGINT NULL,
  body              MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  sent_at           DATETIME(3) NOT NULL,
  PRIMARY KEY (room_id, seq),
  UNIQUE KEY chat_entry_client_id (room_id, sender_id, client_message_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci;

-- One row per running chat process. A process is alive while lease_until is in the future (database clock).
CREATE TABLE IF NOT EXISTS chat_process (
  id          VARCHAR(100) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  host        VARCHAR(255) NOT NULL,
  pid         INT NOT NULL,
  tcp_address VARCHAR(255) NOT NULL,
  connections INT NOT NULL DEFAULT 0,
  started_at  DATETIME(3) NOT NULL,
  lease_until DATETIME(3) NOT NULL,
  PRIMARY KEY (id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci;

-- Who is connected where. A user is online while a row exists whose process holds its lease.
CREATE TABLE IF NOT EXISTS chat_session (
  id           BIGINT NOT NULL AUTO_INCREMENT,
  user_id      BIGINT NOT NULL,
  device_id    VARBINARY(512) NOT NULL,
  device_name  VARCHAR(100) NULL,
  platform     VARCHAR(100) NULL,
  process_id   VARCHAR(100) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  address      VARCHAR(64) NOT NULL,
  connected_at DATETIME(3) NOT NULL,
  PRIMARY KEY (id),
  UNIQUE KEY chat_session_device (user_id, device_id),
  KEY chat_session_process (process_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci;

-- When a user's sessions last changed. Its row lock puts the logins and logouts of one user in order, and version
-- counts them, so that an older presence event can't overtake a newer one.
CREATE TABLE IF NOT EXISTS chat_presence (
  user_id        BIGINT NOT NULL,
  last_active_at DATETIME(3) NOT NULL,
  version        BIGINT NOT NULL,
  PRIMARY KEY (user_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci;
