/* SQLite behind a small face. The only folder that knows it.
 *
 * One SxDb is one database file in WAL mode: one connection for writing behind a mutex, and a bounded pool of connections
 * for reading that never wait for the writer. Statements are prepared once a connection and found again by the address of
 * their text, so the text must be a string literal.
 *
 * Errors inside a transaction stick to its connection: after the first one every further statement does nothing and gives
 * no rows, and sx_db_end() rolls back and returns that error. So a sequence of statements needs no check after each, and
 * a missing row that was really a read error is never taken for "not there".
 *
 * The file belongs to this process alone while it is open; the caller makes sure of it with a lock of its own.
 *
 * Durability: a committed transaction survives kill -9 (the WAL is in the page cache), after sx_db_sync() a power loss.
 * A thread of the SxDb copies the WAL back while writers go on (passive checkpoints); only when the WAL has grown to
 * SX_DB_WAL_MAX does it hold the writer back for the rest. A crash at any line leaves what was committed. */
#pragma once

#include "base/clock.h"
#include "base/error.h"

#define SX_DB_READERS 8                    /* connections in the pool; a ninth reader waits */
#define SX_DB_WAL_SOFT 4000                /* pages: from here the WAL is copied back in the background */
#define SX_DB_WAL_MAX 32000                /* pages: from here writers wait for it */
#define SX_DB_QUICK_CHECK_MS 2000          /* the check after an unclean stop gives up here */

typedef struct SxDb SxDb;
typedef struct SxConn SxConn; /* used by one thread at a time */
typedef struct SxStmt SxStmt; /* a statement in use */

typedef struct SxDbOptions {
    const char *path;
    const char *what;               /* for messages: "the store of the mount" */
    guint32 application_id;         /* other files are refused */
    const char *const *migrations;  /* SQL texts; text i brings user_version i to i+1; NULL-terminated */
    bool check;                     /* look for damage first (after an unclean stop), for at most SX_DB_QUICK_CHECK_MS */
    const char *vfs;                /* SQLite VFS by name, NULL: "unix-excl"; for fault injection */
    const SxClock *clock;
} SxDbOptions;
/* Creates, or opens and migrates. SX_ERR_CORRUPT for a damaged file or one that is none of ours, SX_ERR_NEWER for one of a
 * newer program; both name the file and the remedy. Nothing is ever deleted. */
SxDb *sx_db_open(const SxDbOptions *options, GError **error);
void sx_db_close(SxDb *db); /* all connections given back before; copies the WAL back unless killed */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SxDb, sx_db_close)
/* For tests: from now on each transaction that changes something fails with -EIO, those under way included. */
void sx_db_kill(SxDb *db);
int sx_db_sync(SxDb *db); /* what is committed survives power loss */

/* ---- transactions ---- */
int sx_db_write(SxDb *db, SxConn **ret_conn); /* takes the writer and begins; 0 or -errno */
int sx_db_end(SxConn *conn, int rc);          /* rc 0: commits, otherwise rolls back; gives the writer back; 0, rc or the error that stuck */
SxConn *sx_db_read(SxDb *db);                 /* a reader; each statement sees its own moment */
SxConn *sx_db_snapshot(SxDb *db);             /* a reader whose statements all see the same moment */
int sx_db_done(SxConn *conn, int rc);         /* gives a reader back; rc, or the error that stuck */
int sx_db_error(const SxConn *conn);          /* the error that stuck, or 0 */
void sx_db_set_error(SxConn *conn, int err);  /* makes it stick (the first one wins) */
bool sx_db_begun(SxConn *conn);               /* true on the writer */

/* ---- statements ---- */
typedef struct SxValue {
    enum { SX_VALUE_NULL, SX_VALUE_INT, SX_VALUE_TEXT, SX_VALUE_BLOB } type;
    gint64 i;
    const void *p;
    gsize n;
} SxValue;
#define SX_INT(x) ((SxValue){.type = SX_VALUE_INT, .i = (gint64)(x)})
#define SX_TEXT(x) (sx_value_text(x)) /* bytes up to a NUL, not necessarily UTF-8; NULL is NULL */
#define SX_BLOB(x, len) ((SxValue){.type = SX_VALUE_BLOB, .p = (x), .n = (len)})
SxValue sx_value_text(const char *text);

#define SX_VALUES(...) (const SxValue[]){__VA_ARGS__}, sizeof((const SxValue[]){__VA_ARGS__}) / sizeof(SxValue)
/* A statement with its parameters ?1 ?2 ...; the values stay valid until it is finished. Never NULL. */
SxStmt *sx_db_query_values(SxConn *conn, const char *sql, const SxValue *values, gsize n);
#define sx_db_query(conn, sql, ...) sx_db_query_values((conn), (sql), SX_VALUES(__VA_ARGS__))
bool sx_db_next(SxStmt *stmt); /* is there a (further) row */
void sx_db_finish(SxStmt *stmt);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SxStmt, sx_db_finish)
/* Runs to the end; false when it failed (the error sticks). */
bool sx_db_run_values(SxConn *conn, const char *sql, const SxValue *values, gsize n);
#define sx_db_run(conn, sql, ...) sx_db_run_values((conn), (sql), SX_VALUES(__VA_ARGS__))
/* The first column of the first row, or def. */
gint64 sx_db_get_int_values(SxConn *conn, gint64 def, const char *sql, const SxValue *values, gsize n);
#define sx_db_get_int(conn, def, sql, ...) sx_db_get_int_values((conn), (def), (sql), SX_VALUES(__VA_ARGS__))
gint64 sx_db_changed(SxConn *conn); /* rows that the last statement changed */

bool sx_db_is_null(SxStmt *stmt, int col);
gint64 sx_db_int(SxStmt *stmt, int col);
const char *sx_db_text(SxStmt *stmt, int col);                  /* valid until next or finish; NULL */
const void *sx_db_blob(SxStmt *stmt, int col, gsize *ret_len);  /* likewise */

/* For tests, with all connections given back: the statements prepared so far whose plan reads a whole table, a line each. */
char *sx_db_full_scans(SxDb *db);
