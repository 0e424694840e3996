#include "vfs/vfs_i.h"

#include "base/path.h"

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

SxVfs *
sx_vfs_new(const SxVfsOptions *options, GError **error)
{
    SxVfs *v = g_new0(SxVfs, 1);
    v->tree = options->tree;
    v->cache = options->cache;
    v->transfer = options->transfer;
    v->events = options->events;
    v->clock = options->clock;
    v->write_back_delay_ms = options->write_back_delay_ms;
    v->keep_local = options->keep_local;
    v->document = options->document;
    v->document_data = options->document_data;
    v->start_real_ns = sx_clock_real_ns(v->clock);
    g_mutex_init(&v->lock);
    v->nodes = g_hash_table_new(g_int64_hash, g_int64_equal);

    /* Files that were unlinked but still open when the last run ended: nobody can have them open any more. */
    g_autoptr(GArray) orphans = sx_tree_orphans(v->tree);
    for (guint i = 0; orphans != NULL && i < orphans->len; i++)
        sx_tree_drop_orphan(v->tree, g_array_index(orphans, gint64, i));
    return v;
}

void
sx_vfs_free(SxVfs *v)
{
    if (v == NULL)
        return;
    /* The kernel does not send forgets at the end of a mount. */
    GHashTableIter iter;
    gpointer value;
    g_hash_table_iter_init(&iter, v->nodes);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        SxNode *n = value;
        g_assert(n->users == 0);
        if (n->orphan)
            sx_tree_drop_orphan(v->tree, n->ino);
        g_hash_table_iter_remove(&iter);
        g_free(n->lost_name);
        g_free(n->ghost);
        g_free(n);
    }
    g_hash_table_unref(v->nodes);
    g_mutex_clear(&v->lock);
    g_free(v);
}

SxTree *
sx_vfs_tree(SxVfs *v)
{
    return v->tree;
}

SxCache *
sx_vfs_cache(SxVfs *v)
{
    return v->cache;
}

SxTransfer *
sx_vfs_transfer(SxVfs *v)
{
    return v->transfer;
}

SxEvents *
sx_vfs_events(SxVfs *v)
{
    return v->events;
}

int
sx_vfs_may_change(SxVfs *v, int provider)
{
    SxProvider *p = sx_transfer_provider(v->transfer, provider);
    if (p == NULL)
        return -EPERM; /* the root: its directories are the configuration's */
    SxCaps caps;
    sx_provider_caps(p, &caps);
    return caps.read_only ? -EROFS : 0;
}

/* Such names stay in the local store: the provider never sees them. */
static bool
stays_local(const SxVfs *v, const char *name)
{
    if (v->keep_local == NULL)
        return sx_name_is_temporary(name);
    for (const char *const *glob = v->keep_local; *glob != NULL; glob++)
        if (fnmatch(*glob, name, 0) == 0)
            return true;
    return false;
}

/* The directory in which a name is to be made: writable, and the name possible there. */
static int
prepare_name(SxVfs *v, gint64 parent, const char *name, SxAttr *ret_parent)
{
    if (strlen(name) > SX_NAME_MAX)
        return -ENAMETOOLONG;
    if (sx_virtual_is(parent))
        return -EROFS;
    SxAttr dir;
    int r = sx_tree_getattr(v->tree, parent, ret_parent != NULL ? ret_parent : &dir);
    if (r < 0)
        return r;
    int provider = ret_parent != NULL ? ret_parent->provider : dir.provider;
    r = sx_vfs_may_change(v, provider);
    if (r < 0)
        return r;
    if (stays_local(v, name))
        return 0;
    g_autoptr(GError) error = NULL;
    return sx_provider_check_name(sx_transfer_provider(v->transfer, provider), name, &error) ? 0 : -sx_errno(error);
}

/* Names that can be taken away: not the providers' roots, nothing virtual, nothing on a read-only provider. */
static int
prepare_removal(SxVfs *v, gint64 parent, const char *name)
{
    if (strlen(name) > SX_NAME_MAX)
        return -ENAMETOOLONG;
    if (sx_virtual_is(parent))
        return -EROFS;
    SxAttr dir;
    int r = sx_tree_getattr(v->tree, parent, &dir);
    return r < 0 ? r : sx_vfs_may_change(v, dir.provider);
}

static void
touch_dir(SxVfs *v, gint64 dir)
{
    if (dir != SX_ROOT_INO && sx_node_due_touch(v, dir))
        sx_tree_touch_dir(v->tree, dir, sx_clock_real_ms(v->clock));
}

/* A name that the tree does not have is known to be absent only when the directory has been listed. */
static int
lookup_unlisted(SxVfs *v, SxCaller *c, gint64 parent, const char *name, SxAttr *ret)
{
    SxAttr dir;
    int r = sx_tree_getattr(v->tree, parent, &dir);
    if (r < 0)
        return sx_node_ghost(v, parent, &dir) ? -ENOENT : r;
    if (dir.kind != SX_KIND_DIR)
        return -ENOTDIR;
    if (dir.listed || parent == SX_ROOT_INO)
        return -ENOENT;
    r = sx_transfer_list(v->transfer, parent, false, c->cancel(c), NULL);
    return r < 0 ? r : sx_tree_lookup(v->tree, parent, name, ret);
}

int
sx_vfs_lookup(SxVfs *v, SxCaller *c, gint64 parent, const char *name, SxAttr *ret)
{
    if (strlen(name) > SX_NAME_MAX)
        return -ENAMETOOLONG;
    int r = sx_virtual_lookup(v, parent, name, ret);
    if (r != -ENOSYS)
        return r;
    touch_dir(v, parent);
    r = sx_tree_lookup(v->tree, parent, name, ret);
    if (r == -ENOENT)
        r = lookup_unlisted(v, c, parent, name, ret);
    if (r == 0)
        sx_node_overlay(v, ret);
    return r;
}

int
sx_vfs_getattr(SxVfs *v, SxCaller *c, gint64 ino, SxAttr *ret)
{
    if (sx_virtual_is(ino))
        return sx_virtual_getattr(v, ino, ret);
    int r = sx_tree_getattr(v->tree, ino, ret);
    if (r == -ENOENT)
        r = sx_node_ghost(v, ino, ret) ? 0 : -ENOENT;
    else if (r == 0)
        sx_node_overlay(v, ret);
    return r;
}

gint64
sx_vfs_parent(SxVfs *v, gint64 dir)
{
    gint64 parent;
    if (sx_virtual_is(dir))
        return sx_virtual_parent(dir);
    if (dir == SX_ROOT_INO)
        return SX_ROOT_INO;
    int r = sx_tree_parent(v->tree, dir, &parent);
    return r < 0 ? r : parent;
}

int
sx_vfs_readlink(SxVfs *v, SxCaller *c, gint64 ino, char **ret)
{
    if (sx_virtual_is(ino))
        return -EINVAL;
    char *target = sx_tree_target(v->tree, ino);
    if (target == NULL)
        return -EINVAL;
    *ret = target;
    return 0;
}

int
sx_vfs_opendir(SxVfs *v, SxCaller *c, gint64 ino)
{
    SxAttr attr;
    int r = sx_vfs_getattr(v, c, ino, &attr);
    if (r < 0 || sx_virtual_is(ino) || ino == SX_ROOT_INO)
        return r;
    if (attr.kind != SX_KIND_DIR)
        return -ENOTDIR;
    if (attr.nlink == 0)
        return 0; /* removed while somebody is in it: empty */
    touch_dir(v, ino);
    return sx_transfer_list(v->transfer, ino, false, c->cancel(c), NULL);
}

typedef struct Overlay {
    SxVfs *v;
    SxDirFn fn;
    void *data;
    bool stopped;
} Overlay;

static bool
overlaid(void *data, gint64 cookie, const char *name, const SxAttr *attr)
{
    Overlay *o = data;
    SxAttr live = *attr;
    sx_node_overlay(o->v, &live);
    o->stopped = !o->fn(o->data, cookie, name, &live);
    return !o->stopped;
}

int
sx_vfs_readdir(SxVfs *v, SxCaller *c, gint64 ino, gint64 after, SxDirFn fn, void *data)
{
    if (sx_virtual_is(ino))
        return sx_virtual_readdir(v, ino, after, fn, data);
    Overlay o = {v, fn, data, false};
    int r = sx_tree_readdir(v->tree, ino, after, overlaid, &o);
    SxAttr gone;
    if (r == -ENOENT && sx_node_ghost(v, ino, &gone))
        return 0;
    if (r == 0 && ino == SX_ROOT_INO && !o.stopped)
        r = sx_virtual_readdir(v, ino, after, fn, data);
    return r;
}

/* Owner, group, mode and ACLs of a new object, as ext4 would give them. */
typedef struct Birth {
    SxNew new_;
    GBytes *access, *def;
} Birth;

static void
birth_clear(Birth *b)
{
    g_clear_pointer(&b->access, g_bytes_unref);
    g_clear_pointer(&b->def, g_bytes_unref);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Birth, birth_clear)

static int
birth_init(SxVfs *v, SxCaller *c, const SxAttr *dir, SxKind kind, guint32 mode, Birth *b)
{
    mode &= 07777;
    b->new_ = (SxNew){.kind = kind, .uid = c->uid, .gid = c->gid, .due_real_ms = sx_vfs_due(v)};
    if (dir->mode & S_ISGID) {
        b->new_.gid = dir->gid;
        if (kind == SX_KIND_DIR)
            mode |= S_ISGID;
    }
    int r = kind == SX_KIND_SYMLINK
                ? 0
                : sx_attributes_inherit(v, dir->ino, kind, c->umask, &mode, &b->access, &b->def);
    b->new_.mode = kind == SX_KIND_SYMLINK ? 0777 : mode;
    return r;
}

static int
make(SxVfs *v, SxCaller *c, gint64 parent, const char *name, SxKind kind, guint32 mode, guint64 rdev, const char *target,
     SxAttr *ret)
{
    SxAttr dir;
    g_auto(Birth) b = {0};
    int r = prepare_name(v, parent, name, &dir);
    if (r == 0)
        r = birth_init(v, c, &dir, kind, mode, &b);
    if (r < 0)
        return r;
    b.new_.rdev = rdev;
    b.new_.target = target;
    r = sx_tree_create(v->tree, parent, name, &b.new_, ret);
    if (r == 0)
        r = sx_attributes_store_inherited(v, ret->ino, b.access, b.def);
    if (r == 0)
        sx_transfer_kick(v->transfer);
    return r;
}

int
sx_vfs_mknod(SxVfs *v, SxCaller *c, gint64 parent, const char *name, SxKind kind, guint32 mode, guint64 rdev, SxAttr *ret)
{
    return make(v, c, parent, name, kind, mode, rdev, NULL, ret);
}

int
sx_vfs_mkdir(SxVfs *v, SxCaller *c, gint64 parent, const char *name, guint32 mode, SxAttr *ret)
{
    return make(v, c, parent, name, SX_KIND_DIR, mode, 0, NULL, ret);
}

int
sx_vfs_symlink(SxVfs *v, SxCaller *c, const char *target, gint64 parent, const char *name, SxAttr *ret)
{
    return make(v, c, parent, name, SX_KIND_SYMLINK, 0777, 0, target, ret);
}

int
sx_vfs_create(SxVfs *v, SxCaller *c, gint64 parent, const char *name, int flags, guint32 mode, SxAttr *ret, SxFile **ret_file)
{
    int r = make(v, c, parent, name, SX_KIND_FILE, mode, 0, NULL, ret);
    if (r < 0)
        return r;
    /* Empty whatever a power loss left under its number; open while sx_vfs_open looks for it. */
    g_autoptr(SxContent) fresh = sx_content_create(v->cache, ret, NULL);
    bool keep;
    r = sx_vfs_open(v, c, ret->ino, flags & ~(O_CREAT | O_EXCL | O_TRUNC), ret_file, &keep);
    if (r < 0) { /* no content, no file: a full disk must not leave an empty one behind */
        SxAttr gone;
        sx_tree_unlink(v->tree, parent, name, false, sx_vfs_due(v), &gone);
    }
    return r;
}

int
sx_vfs_tmpfile(SxVfs *v, SxCaller *c, gint64 parent, int flags, guint32 mode, SxAttr *ret, SxFile **ret_file)
{
    SxAttr dir;
    g_auto(Birth) b = {0};
    int r = prepare_removal(v, parent, "");
    if (r == 0)
        r = sx_tree_getattr(v->tree, parent, &dir);
    if (r == 0)
        r = birth_init(v, c, &dir, SX_KIND_FILE, mode, &b);
    if (r == 0)
        r = sx_tree_create_orphan(v->tree, dir.provider, &b.new_, ret);
    if (r < 0)
        return r;
    r = sx_attributes_store_inherited(v, ret->ino, b.access, NULL);
    bool keep;
    if (r == 0)
        r = sx_vfs_open(v, c, ret->ino, flags & ~(O_CREAT | O_EXCL | O_TRUNC), ret_file, &keep);
    if (r < 0)
        sx_tree_drop_orphan(v->tree, ret->ino);
    else
        sx_node_orphaned(v, ret->ino);
    return r;
}

int
sx_vfs_link(SxVfs *v, SxCaller *c, gint64 ino, gint64 parent, const char *name, SxAttr *ret)
{
    if (sx_virtual_is(ino))
        return -EXDEV;
    SxAttr dir, attr;
    int r = prepare_name(v, parent, name, &dir);
    if (r == 0)
        r = sx_tree_getattr(v->tree, ino, &attr);
    if (r < 0)
        return r;
    if (attr.provider != dir.provider)
        return -EXDEV;
    r = sx_tree_link(v->tree, ino, parent, name, sx_vfs_due(v), ret);
    if (r < 0)
        return r;
    sx_node_adopted(v, ino);
    sx_node_overlay(v, ret);
    sx_transfer_kick(v->transfer);
    return 0;
}

/* Before a name goes: whoever has the file open shall go on reading what is not here yet. */
static gint64
keep_open(SxVfs *v, gint64 parent, const char *name)
{
    SxAttr attr;
    if (sx_tree_lookup(v->tree, parent, name, &attr) != 0 || attr.kind != SX_KIND_FILE || attr.cached == 2 || attr.size == 0)
        return 0;
    SxNode *n = sx_node_peek(v, attr.ino);
    if (n == NULL)
        return 0;
    g_mutex_lock(&n->open->lock);
    bool reads = n->open->content != NULL; /* a descriptor that was lent keeps the object by itself */
    g_mutex_unlock(&n->open->lock);
    if (reads)
        sx_transfer_keep(v->transfer, attr.ino);
    sx_node_put(v, n);
    return reads ? attr.ino : 0;
}

int
sx_vfs_unlink(SxVfs *v, SxCaller *c, gint64 parent, const char *name, gint64 *ret_ino)
{
    int r = prepare_removal(v, parent, name);
    SxAttr gone;
    gint64 kept = r == 0 ? keep_open(v, parent, name) : 0;
    /* Kept without a name first, so that an open that comes at this moment finds it; dropped when nobody refers to it. */
    if (r == 0)
        r = sx_tree_unlink(v->tree, parent, name, true, sx_vfs_due(v), &gone);
    if (kept != 0 && (r < 0 || gone.ino != kept || gone.nlink > 0))
        sx_transfer_unkeep(v->transfer, kept);
    if (r < 0)
        return r;
    if (gone.nlink == 0)
        sx_node_orphaned(v, gone.ino);
    *ret_ino = gone.ino;
    sx_transfer_kick(v->transfer);
    return 0;
}

/* A directory that was never listed may have entries that we do not know. */
static int
list_before_removal(SxVfs *v, SxCaller *c, gint64 parent, const char *name)
{
    SxAttr attr;
    int r = sx_tree_lookup(v->tree, parent, name, &attr);
    if (r < 0 || attr.kind != SX_KIND_DIR || attr.listed)
        return r;
    return sx_transfer_list(v->transfer, attr.ino, false, c->cancel(c), NULL);
}

int
sx_vfs_rmdir(SxVfs *v, SxCaller *c, gint64 parent, const char *name)
{
    int r = prepare_removal(v, parent, name);
    if (r == 0)
        r = list_before_removal(v, c, parent, name);
    SxAttr gone;
    if (r == 0)
        r = sx_tree_rmdir(v->tree, parent, name, sx_vfs_due(v), &gone);
    if (r < 0)
        return r;
    sx_node_set_ghost(v, &gone);
    sx_transfer_kick(v->transfer);
    return 0;
}

int
sx_vfs_rename(SxVfs *v, SxCaller *c, gint64 parent, const char *name, gint64 new_parent, const char *new_name, unsigned flags)
{
    if (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE))
        return -EINVAL;
    int r = prepare_removal(v, parent, name);
    if (r == 0)
        r = prepare_name(v, new_parent, new_name, NULL);
    if (r == 0 && (flags & RENAME_EXCHANGE))
        r = prepare_name(v, parent, name, NULL);
    if (r == 0 && !(flags & RENAME_EXCHANGE) && (r = list_before_removal(v, c, new_parent, new_name)) == -ENOENT)
        r = 0;
    SxRenamed done;
    gint64 kept = r == 0 && !(flags & (RENAME_EXCHANGE | RENAME_NOREPLACE)) ? keep_open(v, new_parent, new_name) : 0;
    if (r == 0)
        r = sx_tree_rename(v->tree, parent, name, new_parent, new_name, flags, true, sx_vfs_due(v), &done);
    if (kept != 0 && (r < 0 || !done.replaced || done.victim.ino != kept || done.victim.nlink > 0))
        sx_transfer_unkeep(v->transfer, kept);
    if (r < 0)
        return r;
    if (done.replaced && done.victim.nlink == 0) {
        if (done.victim.kind == SX_KIND_DIR)
            sx_node_set_ghost(v, &done.victim);
        else
            sx_node_orphaned(v, done.victim.ino);
    }
    sx_transfer_kick(v->transfer);
    return 0;
}

int
sx_vfs_fsyncdir(SxVfs *v, SxCaller *c, gint64 ino)
{
    return sx_virtual_is(ino) ? 0 : sx_tree_sync(v->tree);
}

int
sx_vfs_statfs(SxVfs *v, SxCaller *c, gint64 ino, struct statvfs *ret)
{
    /* Where nobody tells how much there is: so much that no program refuses to write. */
    SxQuota q = {-1, -1, -1};
    SxAttr attr;
    if (!sx_virtual_is(ino) && sx_tree_getattr(v->tree, ino, &attr) == 0 && attr.provider != 0)
        sx_transfer_quota(v->transfer, attr.provider, &q);
    const gint64 plenty = (gint64)1 << 50, block = 4096;
    gint64 free_bytes = q.free >= 0 ? q.free : q.total >= 0 && q.used >= 0 ? MAX(q.total - q.used, 0) : plenty;
    gint64 total = q.total >= 0 ? q.total : q.used >= 0 ? q.used + free_bytes : free_bytes;
    *ret = (struct statvfs){
        .f_bsize = (unsigned long)block,
        .f_frsize = (unsigned long)block,
        .f_blocks = (fsblkcnt_t)(total / block),
        .f_bfree = (fsblkcnt_t)(free_bytes / block),
        .f_bavail = (fsblkcnt_t)(free_bytes / block),
        .f_files = 1u << 30,
        .f_ffree = 1u << 30,
        .f_favail = 1u << 30,
        .f_namemax = SX_NAME_MAX,
    };
    return 0;
}
