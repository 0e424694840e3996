/* Opening, numbers, providers.
 *
 * DIR/lock is held with flock while the store is open. meta.clean is 1 only between a regular close and the next open;
 * meta.boot names the boot of the machine. A crash before the first commit leaves the old values, which say the same. */
#include "tree/tree_i.h"

#include "base/path.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define APPLICATION_ID 0x53584653 /* "SXFS" */
#define ID_BLOCK 4096             /* numbers reserved at once */
#define SX_OWNER_MAX 4300         /* bytes of the lock's text: a path and some words */

static const char schema_1[] =
#include "src/tree/schema.inc"
    ;
static const char *const migrations[] = {schema_1, NULL};

bool
sx_tree_fail(SxTree *tree, int rc, const char *what, GError **error)
{
    return sx_fail_errno(error, -rc, "%s: %s", tree->path, what);
}

int
sx_tree_begin(SxTree *tree, SxConn **ret_conn)
{
    int rc = sx_db_write(tree->db, ret_conn);
    if (rc != 0 || !tree->reserved)
        return rc;
    /* The last reservation may have been rolled back: what is stored counts. */
    tree->ceiling = sx_db_get_int(*ret_conn, 0, "SELECT value FROM meta WHERE key='next'");
    tree->reserved = false;
    return 0;
}

int
sx_tree_end(SxConn *conn, int rc)
{
    return sx_db_end(conn, rc);
}

gint64
sx_tree_next(SxTree *tree, SxConn *conn)
{
    if (tree->next_id >= tree->ceiling) {
        tree->ceiling = tree->next_id + ID_BLOCK;
        tree->reserved = true;
        sx_db_run(conn, "INSERT INTO meta VALUES('next',?1) ON CONFLICT(key) DO UPDATE SET value=?1", SX_INT(tree->ceiling));
    }
    return tree->next_id++;
}

/* ---- providers ---- */

static const SxTreeProvider *
find_provider(SxTree *tree, int id) /* providers_lock held */
{
    for (guint i = 0; i < tree->providers->len; i++) {
        const SxTreeProvider *p = &g_array_index(tree->providers, SxTreeProvider, i);
        if (p->id == id)
            return p;
    }
    return NULL;
}

void
sx_tree_caps(SxTree *tree, int provider, SxTreeCaps *ret)
{
    g_rw_lock_reader_lock(&tree->providers_lock);
    const SxTreeProvider *p = find_provider(tree, provider);
    *ret = p != NULL ? p->caps : (SxTreeCaps){0};
    g_rw_lock_reader_unlock(&tree->providers_lock);
}

gint64
sx_tree_provider_root(SxTree *tree, int provider)
{
    g_rw_lock_reader_lock(&tree->providers_lock);
    const SxTreeProvider *p = find_provider(tree, provider);
    gint64 root = p != NULL ? p->root : 0;
    g_rw_lock_reader_unlock(&tree->providers_lock);
    return root;
}

bool
sx_tree_is_provider_root(SxTree *tree, gint64 ino)
{
    bool is = false;
    g_rw_lock_reader_lock(&tree->providers_lock);
    for (guint i = 0; i < tree->providers->len; i++)
        is |= g_array_index(tree->providers, SxTreeProvider, i).root == ino;
    g_rw_lock_reader_unlock(&tree->providers_lock);
    return is;
}

GArray *
sx_tree_provider_ids(SxTree *tree)
{
    GArray *ids = g_array_new(FALSE, FALSE, sizeof(int));
    g_rw_lock_reader_lock(&tree->providers_lock);
    for (guint i = 0; i < tree->providers->len; i++)
        g_array_append_val(ids, g_array_index(tree->providers, SxTreeProvider, i).id);
    g_rw_lock_reader_unlock(&tree->providers_lock);
    return ids;
}

static void
provider_clear(gpointer data)
{
    g_free(((SxTreeProvider *)data)->name);
}

static char *
caps_to_text(const SxTreeCaps *c)
{
    return g_strdup_printf("%d %d %d %d %d %" G_GINT64_FORMAT, c->probed, c->set_mtime, c->set_mode, c->symlinks,
                           c->stable_ids, c->mtime_precision_ns);
}

static void
caps_from_text(const char *text, SxTreeCaps *ret)
{
    int probed = 0, set_mtime = 0, set_mode = 0, symlinks = 0, stable_ids = 0;
    gint64 precision = 0;
    if (sscanf(text, "%d %d %d %d %d %" G_GINT64_FORMAT, &probed, &set_mtime, &set_mode, &symlinks, &stable_ids,
               &precision) != 6)
        probed = 0; /* as never probed: the next probe tells */
    *ret = (SxTreeCaps){.probed = probed != 0,
                        .set_mtime = set_mtime != 0,
                        .set_mode = set_mode != 0,
                        .symlinks = symlinks != 0,
                        .stable_ids = stable_ids != 0,
                        .mtime_precision_ns = precision};
}

static SxTreeCaps
caps_of(const SxCaps *caps)
{
    return (SxTreeCaps){.probed = caps->probed,
                        .set_mtime = caps->set_mtime && caps->mtime_precision_ns > 0,
                        .set_mode = caps->set_mode,
                        .symlinks = caps->symlinks,
                        .stable_ids = caps->stable_ids,
                        .mtime_precision_ns = caps->mtime_precision_ns};
}

/* What is pending under other caps: each row is computed anew. Rare: only when a probe finds what no probe found before. */
static void
recompute(SxTree *tree, SxConn *conn, int provider)
{
    gint64 after = 0;
    for (bool more = true; more;) {
        g_autoptr(GPtrArray) rows = g_ptr_array_new_with_free_func((GDestroyNotify)sx_row_free);
        SxStmt *s = sx_db_query(conn, SX_ROW_SELECT "WHERE l.id>?1 AND l.provider=?2 ORDER BY l.id LIMIT 1000",
                                SX_INT(after), SX_INT(provider));
        while (sx_db_next(s))
            g_ptr_array_add(rows, sx_tree_row_read(s));
        sx_db_finish(s);
        for (guint i = 0; i < rows->len; i++) {
            SxRow *row = rows->pdata[i];
            if (sx_tree_pending_bits(tree, row) != row->pending)
                sx_tree_row_save(tree, conn, row);
            after = row->id;
        }
        more = rows->len == 1000;
    }
}

static SxTreeCaps
swap_caps(SxTree *tree, int provider, SxTreeCaps caps)
{
    g_rw_lock_writer_lock(&tree->providers_lock);
    SxTreeProvider *p = (SxTreeProvider *)find_provider(tree, provider);
    SxTreeCaps old = p != NULL ? p->caps : (SxTreeCaps){0};
    if (p != NULL)
        p->caps = caps;
    g_rw_lock_writer_unlock(&tree->providers_lock);
    return old;
}

static int
store_caps(SxTree *tree, SxConn *conn, int provider, SxTreeCaps caps, SxTreeCaps *ret_old)
{
    g_autofree char *text = caps_to_text(&caps);
    sx_db_run(conn, "UPDATE provider SET caps=?2 WHERE id=?1", SX_INT(provider), SX_TEXT(text));
    *ret_old = swap_caps(tree, provider, caps);
    g_autofree char *old_text = caps_to_text(ret_old);
    if (strcmp(text, old_text) != 0)
        recompute(tree, conn, provider);
    return 0;
}

bool
sx_tree_set_caps(SxTree *tree, int provider, const SxCaps *caps, GError **error)
{
    SxTreeCaps want = caps_of(caps), old;
    sx_tree_caps(tree, provider, &old);
    if (!want.probed && old.probed)
        return true; /* a guess does not overrule what was found */
    g_autofree char *a = caps_to_text(&want);
    g_autofree char *b = caps_to_text(&old);
    if (strcmp(a, b) == 0)
        return true;
    SxConn *conn;
    int rc = sx_tree_begin(tree, &conn);
    if (rc == 0) {
        rc = sx_tree_end(conn, store_caps(tree, conn, provider, want, &old));
        if (rc != 0)
            swap_caps(tree, provider, old);
    }
    return rc == 0 || sx_tree_fail(tree, rc, "cannot store what the provider can do", error);
}

static gint64
make_root(SxTree *tree, SxConn *conn, int id, const char *label)
{
    SxAttr attr = {.provider = id, .kind = SX_KIND_DIR, .mode = tree->dir_mode, .uid = tree->uid, .gid = tree->gid, .nlink = 2};
    sx_tree_inode_insert(tree, conn, &attr, NULL);
    SxRow row = {.ino = attr.ino, .provider = id, .kind = SX_KIND_DIR, .l_parent = SX_ROOT_INO, .l_name = (char *)label,
                 .r_size = -1, .r_mtime_ns = SX_TIME_UNKNOWN, .r_mode = -1, .err = SX_N_ERRORS};
    sx_tree_row_insert(tree, conn, &row);
    sx_tree_dir_changed(tree, conn, SX_ROOT_INO, 1);
    return attr.ino;
}

static int
insert_provider(SxTree *tree, SxConn *conn, const char *label, SxTreeProvider *p)
{
    g_autofree char *caps = caps_to_text(&p->caps);
    p->id = (int)sx_db_get_int(conn, 1, "SELECT coalesce(max(id),0)+1 FROM provider");
    p->root = make_root(tree, conn, p->id, label);
    sx_db_run(conn, "INSERT INTO provider(id,name,label,root,caps) VALUES(?1,?2,?3,?4,?5)", SX_INT(p->id),
              SX_TEXT(p->name), SX_TEXT(label), SX_INT(p->root), SX_TEXT(caps));
    return 0;
}

/* The labels of providers that are no longer configured make room: their roots stay, under their id. */
static void
make_room(SxConn *conn, const char *label, gint64 root)
{
    g_autoptr(SxRow) other = sx_tree_row_local(conn, SX_ROOT_INO, label);
    if (other == NULL || other->ino == root)
        return;
    g_autofree char *aside = g_strdup_printf("%.200s (%d)", label, other->provider);
    sx_db_run(conn, "UPDATE link SET l_name=?2 WHERE id=?1", SX_INT(other->id), SX_TEXT(aside));
    sx_db_run(conn, "UPDATE provider SET label=?2 WHERE id=?1", SX_INT(other->provider), SX_TEXT(aside));
}

static int
relabel(SxConn *conn, const SxTreeProvider *p, const char *label)
{
    sx_db_run(conn, "UPDATE provider SET label=?2 WHERE id=?1", SX_INT(p->id), SX_TEXT(label));
    sx_db_run(conn, "UPDATE link SET l_name=?2 WHERE ino=?1 AND ino>0 AND l_name<>?2", SX_INT(p->root), SX_TEXT(label));
    return 0;
}

static bool
load_provider(SxConn *conn, SxTreeProvider *p)
{
    g_autoptr(SxStmt) s = sx_db_query(conn, "SELECT id,root,caps FROM provider WHERE name=?1", SX_TEXT(p->name));
    if (!sx_db_next(s))
        return false;
    p->id = (int)sx_db_int(s, 0);
    p->root = sx_db_int(s, 1);
    SxTreeCaps stored;
    caps_from_text(sx_db_text(s, 2), &stored);
    if (stored.probed || !p->caps.probed)
        p->caps = stored;
    return true;
}

static int
add_provider_in(SxTree *tree, SxConn *conn, const char *label, SxTreeProvider *p)
{
    bool known = load_provider(conn, p);
    make_room(conn, label, known ? p->root : 0);
    return known ? relabel(conn, p, label) : insert_provider(tree, conn, label, p);
}

static void
remember_provider(SxTree *tree, SxTreeProvider *p)
{
    g_rw_lock_writer_lock(&tree->providers_lock);
    if (find_provider(tree, p->id) == NULL)
        g_array_append_val(tree->providers, *p);
    else
        provider_clear(p);
    g_rw_lock_writer_unlock(&tree->providers_lock);
}

bool
sx_tree_add_provider(SxTree *tree, const char *name, const char *label, const SxCaps *caps, int *ret_id, gint64 *ret_root,
                     GError **error)
{
    if (!sx_name_valid(label, strlen(label)))
        return sx_fail(error, SX_ERR_NAME, "provider %s: “%s” cannot be a directory's name", name, label);
    SxTreeProvider p = {.name = g_strdup(name), .caps = caps_of(caps)};
    SxConn *conn;
    int rc = sx_tree_begin(tree, &conn);
    if (rc == 0)
        rc = sx_tree_end(conn, add_provider_in(tree, conn, label, &p));
    if (rc != 0) {
        g_free(p.name);
        return sx_tree_fail(tree, rc, "cannot add a provider", error);
    }
    *ret_id = p.id;
    *ret_root = p.root;
    remember_provider(tree, &p);
    return sx_tree_set_caps(tree, *ret_id, caps, error);
}

/* ---- opening ---- */

static char *
boot_id(SxTree *tree)
{
    g_auto(SxFd) fd = tree->sys->openat(tree->sys, AT_FDCWD, "/proc/sys/kernel/random/boot_id", O_RDONLY, 0);
    char text[64];
    ssize_t n = fd >= 0 ? sx_sys_pread_full(tree->sys, fd, text, sizeof text, 0) : -1;
    return n > 0 ? g_strstrip(g_strndup(text, (gsize)n)) : g_strdup("");
}

/* For people only: what counts is the lock itself. So a disk that takes no more text is no reason not to start. */
static void
write_owner(SxTree *tree, const char *owner)
{
    if (owner != NULL && tree->sys->ftruncate(tree->sys, tree->lock_fd, 0) == 0)
        sx_sys_pwrite_full(tree->sys, tree->lock_fd, owner, MIN(strlen(owner), SX_OWNER_MAX), 0);
}

static bool
take_lock(SxTree *tree, const char *owner, GError **error)
{
    g_autofree char *dir = g_path_get_dirname(tree->path);
    g_autofree char *file = g_build_filename(dir, "lock", NULL);
    tree->lock_fd = tree->sys->openat(tree->sys, AT_FDCWD, file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (tree->lock_fd < 0)
        return sx_fail_errno(error, errno, "%s", file);
    if (flock(tree->lock_fd, LOCK_EX | LOCK_NB) == 0) {
        write_owner(tree, owner);
        return true;
    }
    if (errno != EWOULDBLOCK)
        return sx_fail_errno(error, errno, "%s", file);
    char other[SX_OWNER_MAX + 1] = "";
    sx_sys_pread_full(tree->sys, tree->lock_fd, other, SX_OWNER_MAX, 0);
    return sx_fail(error, SX_ERR_BUSY,
                   "%s: this store is in use by another syncoxfs%s%s%s; end that mount first, or give this one a state-dir of its own",
                   file, *other != '\0' ? " (" : "", other, *other != '\0' ? ")" : "");
}

/* SQLite removes the WAL at the end of a regular close. */
static bool
wal_left_over(SxTree *tree)
{
    g_autofree char *wal = g_strconcat(tree->path, "-wal", NULL);
    struct stat st;
    return tree->sys->fstatat(tree->sys, AT_FDCWD, wal, &st, 0) == 0;
}

static bool
meta_is(SxConn *conn, const char *key, const char *value)
{
    g_autoptr(SxStmt) s = sx_db_query(conn, "SELECT value FROM meta WHERE key=?1", SX_TEXT(key));
    return sx_db_next(s) && g_strcmp0(sx_db_text(s, 0), value) == 0;
}

static void
meta_set(SxConn *conn, const char *key, const char *value)
{
    sx_db_run(conn, "INSERT INTO meta VALUES(?1,?2) ON CONFLICT(key) DO UPDATE SET value=?2", SX_TEXT(key), SX_TEXT(value));
}

static int
start_in(SxTree *tree, SxConn *conn)
{
    g_autofree char *boot = boot_id(tree);
    bool fresh = sx_db_get_int(conn, 0, "SELECT count(*) FROM inode WHERE ino=?1", SX_INT(SX_ROOT_INO)) == 0;
    tree->was_clean = fresh || meta_is(conn, "clean", "1");
    tree->same_boot = fresh || (*boot != '\0' && meta_is(conn, "boot", boot));
    tree->next_id = MAX(SX_ROOT_INO + 1, sx_db_get_int(conn, 0, "SELECT value FROM meta WHERE key='next'"));
    meta_set(conn, "boot", boot);
    meta_set(conn, "clean", "0");
    if (fresh) {
        gint64 now = sx_clock_real_ns(tree->clock);
        sx_db_run(conn,
                  "INSERT INTO inode(ino,provider,kind,mode,uid,gid,nlink,atime,mtime,ctime,btime,cached,listed) "
                  "VALUES(?1,0,?2,?3,?4,?5,2,?6,?6,?6,?6,0,1)",
                  SX_INT(SX_ROOT_INO), SX_INT(SX_KIND_DIR), SX_INT(0755), SX_INT(tree->uid), SX_INT(tree->gid), SX_INT(now));
    }
    return 0;
}

static bool
start(SxTree *tree, GError **error)
{
    SxConn *conn;
    int rc = sx_tree_begin(tree, &conn);
    if (rc == 0)
        rc = sx_tree_end(conn, start_in(tree, conn));
    return rc == 0 || sx_tree_fail(tree, rc, "cannot start", error);
}

static bool
open_files(SxTree *tree, const SxTreeOptions *o, GError **error)
{
    if (!take_lock(tree, o->owner, error))
        return false;
    SxDbOptions options = {.path = tree->path,
                           .what = "the store of the mount",
                           .application_id = APPLICATION_ID,
                           .migrations = migrations,
                           .check = wal_left_over(tree),
                           .vfs = o->sqlite_vfs,
                           .clock = tree->clock};
    tree->db = sx_db_open(&options, error);
    return tree->db != NULL && start(tree, error);
}

SxTree *
sx_tree_open(const SxTreeOptions *options, GError **error)
{
    SxTree *tree = g_new0(SxTree, 1);
    tree->path = g_strdup(options->path);
    tree->sys = options->sys;
    tree->clock = options->clock;
    tree->uid = options->uid;
    tree->gid = options->gid;
    tree->file_mode = options->file_mode;
    tree->dir_mode = options->dir_mode;
    tree->keep_local = g_strdupv((char **)options->keep_local);
    tree->lock_fd = -1;
    tree->providers = g_array_new(FALSE, FALSE, sizeof(SxTreeProvider));
    g_array_set_clear_func(tree->providers, provider_clear);
    g_rw_lock_init(&tree->providers_lock);
    if (open_files(tree, options, error))
        return tree;
    g_clear_pointer(&tree->db, sx_db_close);
    sx_tree_close(tree);
    return NULL;
}

static void
mark_clean(SxTree *tree)
{
    SxConn *conn;
    if (sx_tree_begin(tree, &conn) != 0)
        return;
    meta_set(conn, "clean", "1");
    sx_tree_end(conn, 0);
}

void
sx_tree_close(SxTree *tree)
{
    if (tree == NULL)
        return;
    if (tree->db != NULL)
        mark_clean(tree);
    sx_db_close(tree->db);
    if (tree->lock_fd >= 0)
        tree->sys->close(tree->sys, tree->lock_fd);
    g_array_unref(tree->providers);
    g_rw_lock_clear(&tree->providers_lock);
    g_strfreev(tree->keep_local);
    g_free(tree->path);
    g_free(tree);
}

void
sx_tree_kill(SxTree *tree)
{
    sx_db_kill(tree->db);
}

bool
sx_tree_was_clean(const SxTree *tree)
{
    return tree->was_clean;
}

bool
sx_tree_same_boot(const SxTree *tree)
{
    return tree->same_boot;
}

int
sx_tree_sync(SxTree *tree)
{
    return sx_db_sync(tree->db);
}
