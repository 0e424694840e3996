#include "db/db.h"

#include "base/log.h"

#include <errno.h>
#include <sqlite3.h>
#include <string.h>

#define BUSY_TIMEOUT_MS 10000
#define CACHE_KIB 4096

struct SxStmt {
    sqlite3_stmt *s;
    SxConn *conn;
    bool busy;
    bool temporary; /* the cached one is in use further up the stack */
};

struct SxConn {
    sqlite3 *handle;
    SxDb *db;
    GHashTable *stmts; /* address of the text -> SxStmt */
    int err;           /* -errno that stuck */
    bool open;         /* false: the file could not be opened; thrown away when it is given back */
    bool writer;
    bool snapshot;
    SxConn *next;      /* idle list; readers_lock */
};

struct SxDb {
    char *path;
    char *what;
    char *vfs;
    const SxClock *clock;
    GMutex writer_lock; /* held from sx_db_write to sx_db_end */
    SxConn *writer;     /* writer_lock */
    GMutex readers_lock;
    GCond readers_cond;
    SxConn *idle;     /* readers_lock */
    guint n_readers;  /* readers_lock: made so far */
    gint killed;      /* atomic */
    GThread *checkpointer;
    GMutex wal_lock;
    GCond wal_cond;
    int wal_pages; /* wal_lock: as of the last commit */
    bool stop;     /* wal_lock */
};

/* ---- connections ---- */

static int
errno_of(sqlite3 *handle, int rc)
{
    int sys = handle != NULL ? sqlite3_system_errno(handle) : 0;
    switch (rc & 0xff) {
    case SQLITE_OK:
    case SQLITE_ROW:
    case SQLITE_DONE: return 0;
    case SQLITE_FULL: return ENOSPC;
    case SQLITE_IOERR: return sys == ENOSPC || sys == EDQUOT ? sys : EIO;
    case SQLITE_NOMEM: return ENOMEM;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB: return EUCLEAN;
    case SQLITE_BUSY:
    case SQLITE_LOCKED: return EBUSY;
    case SQLITE_READONLY: return EROFS;
    case SQLITE_CANTOPEN: return sys == EMFILE || sys == ENFILE || sys == EACCES ? sys : EIO; /* never ENOENT: it has a meaning */
    case SQLITE_PERM: return EACCES;
    default: return EIO;
    }
}

static void
conn_stick(SxConn *conn, int rc)
{
    if (conn->err != 0)
        return;
    conn->err = -errno_of(conn->handle, rc);
    sx_warn("%s: %s (%d)", conn->db->path, sqlite3_errmsg(conn->handle), sqlite3_extended_errcode(conn->handle));
}

static void
stmt_free(gpointer data)
{
    SxStmt *stmt = data;
    sqlite3_finalize(stmt->s);
    g_free(stmt);
}

static void
conn_free(SxConn *conn)
{
    if (conn == NULL)
        return;
    g_hash_table_unref(conn->stmts);
    sqlite3_close(conn->handle);
    g_free(conn);
}

/* Small pages: a transaction here touches a few rows in many places, and each page it touches goes to the WAL as a whole.
 * No mapping: each connection would count the whole store in our memory, and maps it anew after every commit of another one. */
static void
connection_pragmas(SxConn *conn)
{
    g_autofree char *sql = g_strdup_printf("PRAGMA page_size=2048;PRAGMA synchronous=NORMAL;PRAGMA cache_size=-%d;PRAGMA mmap_size=0;"
                                           "PRAGMA foreign_keys=OFF;PRAGMA temp_store=MEMORY;PRAGMA wal_autocheckpoint=0",
                                           CACHE_KIB);
    int rc = sqlite3_exec(conn->handle, sql, NULL, NULL, NULL);
    if (rc != SQLITE_OK)
        conn_stick(conn, rc);
}

static SxConn *
conn_new(SxDb *db, bool writer)
{
    SxConn *conn = g_new0(SxConn, 1);
    conn->db = db;
    conn->writer = writer;
    conn->stmts = g_hash_table_new_full(g_direct_hash, g_direct_equal, NULL, stmt_free);
    int rc = sqlite3_open_v2(db->path, &conn->handle, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, db->vfs);
    if (rc != SQLITE_OK) {
        conn_stick(conn, rc);
        return conn;
    }
    conn->open = true;
    sqlite3_extended_result_codes(conn->handle, 1);
    sqlite3_busy_timeout(conn->handle, BUSY_TIMEOUT_MS);
    connection_pragmas(conn);
    return conn;
}

/* ---- statements ---- */

SxValue
sx_value_text(const char *text)
{
    if (text == NULL)
        return (SxValue){.type = SX_VALUE_NULL};
    return (SxValue){.type = SX_VALUE_TEXT, .p = text, .n = strlen(text)};
}

static SxStmt *
stmt_prepare(SxConn *conn, const char *sql, bool temporary)
{
    SxStmt *stmt = g_new0(SxStmt, 1);
    stmt->conn = conn;
    stmt->temporary = temporary;
    int rc = sqlite3_prepare_v3(conn->handle, sql, -1, temporary ? 0 : SQLITE_PREPARE_PERSISTENT, &stmt->s, NULL);
    if (rc != SQLITE_OK)
        conn_stick(conn, rc);
    return stmt;
}

static void
stmt_bind(SxStmt *stmt, const SxValue *values, gsize n)
{
    for (int i = 0; i < (int)n; i++) {
        const SxValue *v = &values[i];
        int rc = SQLITE_OK;
        if (v->type == SX_VALUE_INT)
            rc = sqlite3_bind_int64(stmt->s, i + 1, v->i);
        else if (v->type == SX_VALUE_TEXT)
            rc = sqlite3_bind_text64(stmt->s, i + 1, v->p, v->n, SQLITE_STATIC, SQLITE_UTF8);
        else if (v->type == SX_VALUE_BLOB)
            rc = sqlite3_bind_blob64(stmt->s, i + 1, v->n > 0 ? v->p : "", v->n, SQLITE_STATIC);
        else
            rc = sqlite3_bind_null(stmt->s, i + 1);
        if (rc != SQLITE_OK)
            conn_stick(stmt->conn, rc);
    }
}

SxStmt *
sx_db_query_values(SxConn *conn, const char *sql, const SxValue *values, gsize n)
{
    SxStmt *stmt = g_hash_table_lookup(conn->stmts, sql);
    if (stmt == NULL) {
        stmt = stmt_prepare(conn, sql, false);
        if (stmt->s == NULL)
            stmt->temporary = true;
        else
            g_hash_table_insert(conn->stmts, (gpointer)(gsize)sql, stmt);
    } else if (stmt->busy) {
        stmt = stmt_prepare(conn, sql, true);
    }
    stmt->busy = true;
    if (stmt->s != NULL)
        stmt_bind(stmt, values, n);
    return stmt;
}

bool
sx_db_next(SxStmt *stmt)
{
    SxConn *conn = stmt->conn;
    if (conn->err != 0 || stmt->s == NULL)
        return false;
    int rc = sqlite3_step(stmt->s);
    if (rc == SQLITE_ROW)
        return true;
    if (rc != SQLITE_DONE)
        conn_stick(conn, rc);
    return false;
}

void
sx_db_finish(SxStmt *stmt)
{
    if (stmt == NULL)
        return;
    if (stmt->temporary) {
        stmt_free(stmt);
        return;
    }
    sqlite3_reset(stmt->s);
    stmt->busy = false;
}

bool
sx_db_run_values(SxConn *conn, const char *sql, const SxValue *values, gsize n)
{
    g_autoptr(SxStmt) stmt = sx_db_query_values(conn, sql, values, n);
    while (sx_db_next(stmt))
        ;
    return conn->err == 0;
}

gint64
sx_db_get_int_values(SxConn *conn, gint64 def, const char *sql, const SxValue *values, gsize n)
{
    g_autoptr(SxStmt) stmt = sx_db_query_values(conn, sql, values, n);
    return sx_db_next(stmt) ? sx_db_int(stmt, 0) : def;
}

gint64
sx_db_changed(SxConn *conn)
{
    return sqlite3_changes64(conn->handle);
}

bool
sx_db_is_null(SxStmt *stmt, int col)
{
    return sqlite3_column_type(stmt->s, col) == SQLITE_NULL;
}

gint64
sx_db_int(SxStmt *stmt, int col)
{
    return sqlite3_column_int64(stmt->s, col);
}

const char *
sx_db_text(SxStmt *stmt, int col)
{
    return (const char *)sqlite3_column_text(stmt->s, col);
}

const void *
sx_db_blob(SxStmt *stmt, int col, gsize *ret_len)
{
    const void *p = sqlite3_column_blob(stmt->s, col);
    *ret_len = (gsize)sqlite3_column_bytes(stmt->s, col);
    return p;
}

/* ---- transactions ---- */

static bool
run_plain(SxConn *conn, const char *sql)
{
    return sx_db_run_values(conn, sql, NULL, 0);
}

int
sx_db_write(SxDb *db, SxConn **ret_conn)
{
    g_mutex_lock(&db->writer_lock);
    SxConn *conn = db->writer;
    conn->err = g_atomic_int_get(&db->killed) ? -EIO : 0;
    if (conn->err == 0)
        run_plain(conn, "BEGIN IMMEDIATE");
    if (conn->err != 0) {
        int err = conn->err;
        conn->err = 0;
        g_mutex_unlock(&db->writer_lock);
        return err;
    }
    *ret_conn = conn;
    return 0;
}

static void
rollback(SxConn *conn)
{
    conn->err = 0;
    /* A failed commit may have rolled back already. */
    if (!sqlite3_get_autocommit(conn->handle))
        run_plain(conn, "ROLLBACK");
    conn->err = 0;
}

int
sx_db_end(SxConn *conn, int rc)
{
    SxDb *db = conn->db;
    if (conn->err == 0 && rc == 0) {
        if (g_atomic_int_get(&db->killed))
            conn->err = -EIO;
        else
            run_plain(conn, "COMMIT");
    }
    if (conn->err != 0)
        rc = conn->err;
    if (rc != 0)
        rollback(conn);
    g_mutex_unlock(&db->writer_lock);
    return rc;
}

SxConn *
sx_db_read(SxDb *db)
{
    g_mutex_lock(&db->readers_lock);
    while (db->idle == NULL && db->n_readers == SX_DB_READERS)
        g_cond_wait(&db->readers_cond, &db->readers_lock);
    SxConn *conn = db->idle;
    if (conn != NULL)
        db->idle = conn->next;
    else
        db->n_readers++;
    g_mutex_unlock(&db->readers_lock);
    return conn != NULL ? conn : conn_new(db, false);
}

SxConn *
sx_db_snapshot(SxDb *db)
{
    SxConn *conn = sx_db_read(db);
    conn->snapshot = true;
    run_plain(conn, "BEGIN");
    return conn;
}

int
sx_db_done(SxConn *conn, int rc)
{
    SxDb *db = conn->db;
    int err = conn->err;
    bool broken = !conn->open;
    if (!broken && (conn->snapshot || err != 0))
        rollback(conn);
    conn->snapshot = false;
    if (broken)
        g_clear_pointer(&conn, conn_free);
    g_mutex_lock(&db->readers_lock);
    if (broken) {
        db->n_readers--;
    } else {
        conn->next = db->idle;
        db->idle = conn;
    }
    g_cond_signal(&db->readers_cond);
    g_mutex_unlock(&db->readers_lock);
    return err != 0 ? err : rc;
}

int
sx_db_error(const SxConn *conn)
{
    return conn->err;
}

void
sx_db_set_error(SxConn *conn, int err)
{
    if (conn->err == 0)
        conn->err = err;
}

bool
sx_db_begun(SxConn *conn)
{
    return conn->writer;
}

/* ---- the WAL ---- */

static int
on_commit(void *data, sqlite3 *handle, const char *name, int pages)
{
    SxDb *db = data;
    if (pages < SX_DB_WAL_SOFT)
        return SQLITE_OK;
    g_mutex_lock(&db->wal_lock);
    db->wal_pages = pages;
    g_cond_signal(&db->wal_cond);
    g_mutex_unlock(&db->wal_lock);
    return SQLITE_OK;
}

/* Copies what is committed back into the file; the next writer then starts the WAL anew when nothing was added meanwhile.
 * Under steady writing that never happens by itself, so a WAL that has grown large is finished with the writer held. */
static void
checkpoint(SxDb *db, SxConn *conn, int pages)
{
    sqlite3_wal_checkpoint_v2(conn->handle, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
    if (pages < SX_DB_WAL_MAX)
        return;
    g_mutex_lock(&db->writer_lock);
    sqlite3_wal_checkpoint_v2(conn->handle, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
    g_mutex_unlock(&db->writer_lock);
}

static gpointer
checkpointer_run(gpointer data)
{
    SxDb *db = data;
    SxConn *conn = conn_new(db, false);
    g_mutex_lock(&db->wal_lock);
    while (!db->stop) {
        if (db->wal_pages < SX_DB_WAL_SOFT) {
            g_cond_wait(&db->wal_cond, &db->wal_lock);
            continue;
        }
        int pages = db->wal_pages;
        db->wal_pages = 0;
        g_mutex_unlock(&db->wal_lock);
        if (conn->open)
            checkpoint(db, conn, pages);
        g_mutex_lock(&db->wal_lock);
    }
    g_mutex_unlock(&db->wal_lock);
    conn_free(conn);
    return NULL;
}

int
sx_db_sync(SxDb *db)
{
    if (g_atomic_int_get(&db->killed))
        return -EIO;
    SxConn *conn = sx_db_snapshot(db);
    /* A statement opens the WAL of this connection. */
    sx_db_get_int_values(conn, 0, "SELECT count(*) FROM sqlite_schema", NULL, 0);
    sqlite3_file *file = NULL;
    if (conn->err == 0)
        sqlite3_file_control(conn->handle, "main", SQLITE_FCNTL_JOURNAL_POINTER, &file);
    if (file != NULL && file->pMethods != NULL) {
        int rc = file->pMethods->xSync(file, SQLITE_SYNC_NORMAL | SQLITE_SYNC_DATAONLY);
        if (rc != SQLITE_OK)
            conn->err = rc == SQLITE_FULL ? -ENOSPC : -EIO;
    }
    return sx_db_done(conn, 0);
}

/* ---- opening ---- */

static bool
fail_open(SxDb *db, int rc, const char *detail, GError **error)
{
    int err = errno_of(db->writer->handle, rc);
    if (err == EUCLEAN)
        return sx_fail(error, SX_ERR_CORRUPT,
                       "%s: %s is damaged or not ours (%s). Nothing was changed. Keep a copy of its directory; to start anew "
                       "move this file and those beside it that begin with its name away (changes that were not "
                       "uploaded are recorded only there)",
                       db->path, db->what, detail);
    return sx_fail_errno(error, err != 0 ? err : EIO, "%s: cannot open %s (%s)", db->path, db->what, detail);
}

static bool
fail_last(SxDb *db, GError **error)
{
    return fail_open(db, sqlite3_extended_errcode(db->writer->handle), sqlite3_errmsg(db->writer->handle), error);
}

static bool
check_identity(SxDb *db, guint32 application_id, gint64 version, int newest, GError **error)
{
    SxConn *conn = db->writer;
    gint64 objects = sx_db_get_int_values(conn, -1, "SELECT count(*) FROM sqlite_schema", NULL, 0);
    gint64 id = sx_db_get_int_values(conn, -1, "PRAGMA application_id", NULL, 0);
    if (conn->err != 0)
        return fail_last(db, error);
    if (objects > 0 && id != (gint64)application_id)
        return fail_open(db, SQLITE_NOTADB, "it belongs to another program", error);
    if (version > newest)
        return sx_fail(error, SX_ERR_NEWER,
                       "%s: %s was written by a newer version of syncoxfs (format %d, this one knows %d). Nothing was "
                       "changed. Install that version or a later one",
                       db->path, db->what, (int)version, newest);
    return true;
}

static int
check_deadline(void *data)
{
    return g_get_monotonic_time() / 1000 > *(gint64 *)data;
}

static bool
quick_check(SxDb *db, GError **error)
{
    gint64 deadline = g_get_monotonic_time() / 1000 + SX_DB_QUICK_CHECK_MS;
    sqlite3 *handle = db->writer->handle;
    sqlite3_progress_handler(handle, 100000, check_deadline, &deadline);
    sqlite3_stmt *s = NULL;
    g_autofree char *found = NULL;
    int rc = sqlite3_prepare_v2(handle, "PRAGMA quick_check(1)", -1, &s, NULL);
    if (rc == SQLITE_OK && (rc = sqlite3_step(s)) == SQLITE_ROW)
        found = g_strdup((const char *)sqlite3_column_text(s, 0));
    sqlite3_finalize(s);
    sqlite3_progress_handler(handle, 0, NULL, NULL);
    if (found != NULL && strcmp(found, "ok") != 0)
        return fail_open(db, SQLITE_CORRUPT, found, error);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE && (rc & 0xff) != SQLITE_INTERRUPT)
        return fail_last(db, error);
    return true;
}

static bool
migrate_one(SxDb *db, guint32 application_id, const char *sql, int to, GError **error)
{
    g_autofree char *text = g_strdup_printf("BEGIN IMMEDIATE;%s;PRAGMA application_id=%d;PRAGMA user_version=%d;COMMIT", sql,
                                            (int)application_id, to);
    if (sqlite3_exec(db->writer->handle, text, NULL, NULL, NULL) == SQLITE_OK)
        return true;
    fail_last(db, error);
    rollback(db->writer);
    return false;
}

static bool
prepare_file(SxDb *db, const SxDbOptions *options, GError **error)
{
    SxConn *conn = db->writer;
    if (conn->err != 0)
        return fail_last(db, error);
    gint64 version = sx_db_get_int_values(conn, 0, "PRAGMA user_version", NULL, 0);
    int newest = (int)g_strv_length((char **)options->migrations);
    if (conn->err != 0)
        return fail_last(db, error);
    if (!check_identity(db, options->application_id, version, newest, error))
        return false;
    if (sqlite3_exec(conn->handle, "PRAGMA journal_mode=WAL", NULL, NULL, NULL) != SQLITE_OK)
        return fail_last(db, error);
    if (options->check && !quick_check(db, error))
        return false;
    for (int i = (int)version; i < newest; i++)
        if (!migrate_one(db, options->application_id, options->migrations[i], i + 1, error))
            return false;
    return true;
}

SxDb *
sx_db_open(const SxDbOptions *options, GError **error)
{
    SxDb *db = g_new0(SxDb, 1);
    db->path = g_strdup(options->path);
    db->what = g_strdup(options->what);
    /* One process, many connections (the caller holds a lock of its own against other processes): with this VFS of SQLite's
     * the locks between connections and the index of the WAL are in memory and cost no system call. */
    db->vfs = g_strdup(options->vfs != NULL ? options->vfs : "unix-excl");
    db->clock = options->clock;
    g_mutex_init(&db->writer_lock);
    g_mutex_init(&db->readers_lock);
    g_cond_init(&db->readers_cond);
    g_mutex_init(&db->wal_lock);
    g_cond_init(&db->wal_cond);
    db->writer = conn_new(db, true);
    if (!prepare_file(db, options, error)) {
        sx_db_close(db);
        return NULL;
    }
    sqlite3_wal_hook(db->writer->handle, on_commit, db);
    db->checkpointer = g_thread_new("checkpoint", checkpointer_run, db);
    return db;
}

void
sx_db_kill(SxDb *db)
{
    g_atomic_int_set(&db->killed, 1);
}

static void
stop_checkpointer(SxDb *db)
{
    if (db->checkpointer == NULL)
        return;
    g_mutex_lock(&db->wal_lock);
    db->stop = true;
    g_cond_signal(&db->wal_cond);
    g_mutex_unlock(&db->wal_lock);
    g_thread_join(db->checkpointer);
}

void
sx_db_close(SxDb *db)
{
    if (db == NULL)
        return;
    stop_checkpointer(db);
    while (db->idle != NULL) {
        SxConn *conn = db->idle;
        db->idle = conn->next;
        conn_free(conn);
    }
    /* The last connection to close copies the WAL back by itself; a "dead" one must leave the files as they are. */
    if (db->killed)
        sqlite3_db_config(db->writer->handle, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    conn_free(db->writer);
    g_mutex_clear(&db->writer_lock);
    g_mutex_clear(&db->readers_lock);
    g_cond_clear(&db->readers_cond);
    g_mutex_clear(&db->wal_lock);
    g_cond_clear(&db->wal_cond);
    g_free(db->path);
    g_free(db->what);
    g_free(db->vfs);
    g_free(db);
}

/* ---- for tests ---- */

static bool
scans_a_table(SxConn *conn, const char *sql)
{
    g_autofree char *explain = g_strconcat("EXPLAIN QUERY PLAN ", sql, NULL);
    sqlite3_stmt *s = NULL;
    bool scans = false;
    if (sqlite3_prepare_v2(conn->handle, explain, -1, &s, NULL) != SQLITE_OK)
        return true;
    while (sqlite3_step(s) == SQLITE_ROW) {
        const char *detail = (const char *)sqlite3_column_text(s, 3);
        scans |= g_str_has_prefix(detail, "SCAN ") && strstr(detail, " USING ") == NULL && strstr(detail, "CONSTANT ROW") == NULL;
    }
    sqlite3_finalize(s);
    return scans;
}

static void
add_scans(SxConn *conn, GHashTable *found)
{
    GHashTableIter it;
    gpointer sql;
    g_hash_table_iter_init(&it, conn->stmts);
    while (g_hash_table_iter_next(&it, &sql, NULL))
        if (scans_a_table(conn, sql))
            g_hash_table_add(found, sql);
}

char *
sx_db_full_scans(SxDb *db)
{
    g_autoptr(GHashTable) found = g_hash_table_new(g_str_hash, g_str_equal);
    g_mutex_lock(&db->writer_lock);
    add_scans(db->writer, found);
    g_mutex_unlock(&db->writer_lock);
    g_mutex_lock(&db->readers_lock);
    for (SxConn *conn = db->idle; conn != NULL; conn = conn->next)
        add_scans(conn, found);
    g_mutex_unlock(&db->readers_lock);
    g_autofree char **all = (char **)g_hash_table_get_keys_as_array(found, NULL);
    return g_strjoinv("\n", all);
}
