-- tree.db, format 1. What the columns mean is told in tree.h; here is how they are stored.
-- Numbers of inodes, rows and generations come from one counter (meta.next), which is reserved in blocks and never goes back,
-- so that no number is ever used twice, and equal generations mean equal content whichever inode they came from.
-- Names, versions, ids and targets are TEXT that holds raw bytes; comparison is by bytes.
-- 0 stands for "absent" in parents, ino and gen; NULL for an unknown text; times are ns, `_ms` ms since 1970.

CREATE TABLE meta (
  key TEXT PRIMARY KEY,
  value
) WITHOUT ROWID;

CREATE TABLE provider (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  label TEXT NOT NULL,
  root INTEGER NOT NULL,       -- inode of its root directory
  caps TEXT NOT NULL           -- what decides about pending, as last probed
);

CREATE TABLE inode (
  ino INTEGER PRIMARY KEY,
  provider INTEGER NOT NULL,
  kind INTEGER NOT NULL,
  mode INTEGER NOT NULL,
  uid INTEGER NOT NULL,
  gid INTEGER NOT NULL,
  rdev INTEGER NOT NULL DEFAULT 0,
  nlink INTEGER NOT NULL,      -- files: rows with a local side; directories: 2 + directories in it, 0 when not shown
  size INTEGER NOT NULL DEFAULT 0,
  atime INTEGER NOT NULL,
  mtime INTEGER NOT NULL,
  ctime INTEGER NOT NULL,
  btime INTEGER NOT NULL,
  gen INTEGER NOT NULL DEFAULT 0,
  cver INTEGER NOT NULL DEFAULT 1,
  cached INTEGER NOT NULL DEFAULT 0,
  writing INTEGER NOT NULL DEFAULT 0,
  listed INTEGER NOT NULL DEFAULT 0,
  listed_ms INTEGER NOT NULL DEFAULT 0,
  used_ms INTEGER NOT NULL DEFAULT 0,
  pin INTEGER NOT NULL DEFAULT -1, -- 1 pinned, 0 not, -1 as its parent
  target TEXT
);
CREATE INDEX inode_orphan ON inode(ino) WHERE nlink = 0;
CREATE INDEX inode_writing ON inode(ino) WHERE writing = 1;
CREATE INDEX inode_pin ON inode(ino) WHERE pin >= 0;
CREATE INDEX inode_dirs ON inode(provider, listed_ms) WHERE kind = 2;

CREATE TABLE link (
  id INTEGER PRIMARY KEY,
  ino INTEGER NOT NULL,        -- 0: a deleted file or link whose remote side is still there
  provider INTEGER NOT NULL,
  kind INTEGER NOT NULL,
  l_parent INTEGER NOT NULL,
  l_name TEXT,
  r_parent INTEGER NOT NULL DEFAULT 0,
  r_name TEXT,
  r_id TEXT,
  r_version TEXT,
  r_hash TEXT,
  r_size INTEGER NOT NULL DEFAULT -1,
  r_mtime INTEGER,             -- NULL: not told
  r_mode INTEGER NOT NULL DEFAULT -1,
  r_gen INTEGER NOT NULL DEFAULT 0,
  base_version TEXT,
  pending INTEGER NOT NULL DEFAULT 0,
  due INTEGER NOT NULL DEFAULT 0,
  parked INTEGER NOT NULL DEFAULT 0,
  tries INTEGER NOT NULL DEFAULT 0,
  err TEXT,                    -- stable name of the code
  err_text TEXT,
  verify INTEGER NOT NULL DEFAULT 0,
  sent_ms INTEGER NOT NULL DEFAULT 0, -- verify: when the upload had ended
  t_parent INTEGER NOT NULL DEFAULT 0, -- where an operation under way puts the object; 0: none
  t_name TEXT,
  intent TEXT,
  resume TEXT,
  resume_gen INTEGER NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX link_local ON link(l_parent, l_name) WHERE l_parent > 0;
CREATE INDEX link_dir ON link(l_parent) WHERE l_parent > 0; -- readdir: entries by row id
CREATE UNIQUE INDEX link_remote ON link(r_parent, r_name) WHERE r_parent > 0;
CREATE INDEX link_target ON link(t_parent, t_name) WHERE t_parent > 0;
CREATE INDEX link_ino ON link(ino) WHERE ino > 0;
CREATE INDEX link_rid ON link(provider, r_id) WHERE r_id IS NOT NULL;
CREATE INDEX link_due ON link(provider, due) WHERE pending > 0 AND parked = 0;
CREATE INDEX link_parked ON link(provider, id) WHERE parked = 1;

CREATE TABLE xattr (
  ino INTEGER NOT NULL,
  name TEXT NOT NULL,
  value BLOB NOT NULL,
  PRIMARY KEY (ino, name)
) WITHOUT ROWID;

CREATE TABLE conflict (
  ino INTEGER PRIMARY KEY,     -- the copy
  original TEXT NOT NULL,      -- path inside the mount when it happened
  real_ns INTEGER NOT NULL
);
