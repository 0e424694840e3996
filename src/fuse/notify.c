/* Tells the kernel what changed without it: a queue of bounded length and one thread.
 *
 * Never inside a request handler: invalidating a name takes the directory's lock in the kernel, which a request that waits
 * for an answer may hold. What the kernel does not know of is not queued. Names beyond SX_NOTIFY_MAX are not kept; their
 * directory is remembered instead, and all names that it has are invalidated. Names that are gone are kept in any case:
 * only those of inodes the kernel holds are queued, so the kernel's own memory bounds them.
 *
 * Behind the names of a directory, the directory itself is invalidated: the kernel drops its cached listing at a name's
 * invalidation only when it knew the name. */
#include "fuse/fuse_i.h"

#include <errno.h>
#include <string.h>

typedef struct Item {
    gint64 parent, ino; /* ino 0: a new or changed name, else the inode that is gone from there */
    char name[];
} Item;

struct SxNotifier {
    SxNotify face;
    GMutex lock;
    GCond cond;
    GThread *thread;         /* the thread that starts and stops */
    struct fuse_session *se; /* set before the thread starts */
    SxVfs *vfs;              /* atomic; NULL: not mounted, the kernel knows nothing */
    bool stop;               /* lock */
    GQueue items;            /* lock; of Item */
    GHashTable *inodes;      /* lock; gint64 -> GINT_TO_POINTER(content); coalesced */
    GHashTable *whole;       /* lock; set of gint64: directories with names that were not kept */
};

static GHashTable *
new_set(void)
{
    return g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
}

static void
put(GHashTable *set, gint64 ino, int value)
{
    g_hash_table_insert(set, g_memdup2(&ino, sizeof ino), GINT_TO_POINTER(value));
}

static void
on_inode(void *data, gint64 ino, bool content)
{
    SxNotifier *n = data;
    SxVfs *vfs = g_atomic_pointer_get(&n->vfs);
    if (vfs == NULL)
        return;
    if (content)
        sx_vfs_content_changed(vfs, ino);
    if (!sx_vfs_known(vfs, ino))
        return;
    g_mutex_lock(&n->lock);
    put(n->inodes, ino, content || GPOINTER_TO_INT(g_hash_table_lookup(n->inodes, &ino)));
    g_cond_signal(&n->cond);
    g_mutex_unlock(&n->lock);
}

static void
queue_name(SxNotifier *n, gint64 parent, gint64 ino, const char *name)
{
    g_mutex_lock(&n->lock);
    if (ino == 0 && g_queue_get_length(&n->items) >= SX_NOTIFY_MAX) {
        put(n->whole, parent, 1);
    } else {
        gsize len = strlen(name) + 1;
        Item *item = g_malloc(sizeof *item + len);
        item->parent = parent;
        item->ino = ino;
        memcpy(item->name, name, len);
        g_queue_push_tail(&n->items, item);
    }
    g_cond_signal(&n->cond);
    g_mutex_unlock(&n->lock);
}

static void
on_entry(void *data, gint64 parent, const char *name)
{
    SxNotifier *n = data;
    SxVfs *vfs = g_atomic_pointer_get(&n->vfs);
    if (vfs != NULL && sx_vfs_known(vfs, parent))
        queue_name(n, parent, 0, name);
}

static void
on_gone(void *data, gint64 parent, gint64 ino, const char *name)
{
    SxNotifier *n = data;
    SxVfs *vfs = g_atomic_pointer_get(&n->vfs);
    if (vfs == NULL)
        return;
    sx_vfs_name_gone(vfs, parent, ino, name);
    if (sx_vfs_known(vfs, parent))
        queue_name(n, parent, sx_vfs_known(vfs, ino) ? ino : 0, name);
}

static void
send_name(SxNotifier *n, gint64 parent, gint64 ino, const char *name)
{
    gsize len = strlen(name);
    /* A deletion is told as one, so that inotify users see it; it is refused while a directory is in use. */
    if (ino != 0 && fuse_lowlevel_notify_delete(n->se, (fuse_ino_t)parent, (fuse_ino_t)ino, name, len) == 0)
        return;
    fuse_lowlevel_notify_inval_entry(n->se, (fuse_ino_t)parent, name, len);
}

static bool
send_child(void *data, gint64 cookie, const char *name, const SxAttr *attr)
{
    SxNotifier *n = ((void **)data)[0];
    const gint64 *parent = ((void **)data)[1];
    send_name(n, *parent, 0, name);
    return true;
}

/* One batch, without the lock: the calls may wait in the kernel for a directory's lock. */
static void
send_batch(SxNotifier *n, GQueue *items, GHashTable *inodes, GHashTable *whole)
{
    g_autoptr(GHashTable) dirs = new_set();
    Item *item;
    while ((item = g_queue_pop_head(items)) != NULL) {
        if (!g_hash_table_contains(dirs, &item->parent))
            put(dirs, item->parent, 1);
        send_name(n, item->parent, item->ino, item->name);
        g_free(item);
    }
    GHashTableIter iter;
    gpointer key, value;
    g_hash_table_iter_init(&iter, whole);
    while (g_hash_table_iter_next(&iter, &key, NULL)) {
        sx_tree_readdir(sx_vfs_tree(n->vfs), *(gint64 *)key, 0, send_child, (void *[]){n, key});
        put(dirs, *(gint64 *)key, 1);
    }
    g_hash_table_iter_init(&iter, dirs);
    while (g_hash_table_iter_next(&iter, &key, NULL))
        fuse_lowlevel_notify_inval_inode(n->se, *(fuse_ino_t *)key, 0, 0);
    g_hash_table_iter_init(&iter, inodes);
    while (g_hash_table_iter_next(&iter, &key, &value))
        fuse_lowlevel_notify_inval_inode(n->se, *(fuse_ino_t *)key, GPOINTER_TO_INT(value) ? 0 : -1, 0);
}

static bool
idle(SxNotifier *n)
{
    return g_queue_is_empty(&n->items) && g_hash_table_size(n->inodes) == 0 && g_hash_table_size(n->whole) == 0;
}

static gpointer
run(gpointer data)
{
    SxNotifier *n = data;
    g_mutex_lock(&n->lock);
    while (!n->stop) {
        if (idle(n)) {
            g_cond_wait(&n->cond, &n->lock);
            continue;
        }
        GQueue items = n->items;
        g_queue_init(&n->items);
        g_autoptr(GHashTable) inodes = g_steal_pointer(&n->inodes);
        g_autoptr(GHashTable) whole = g_steal_pointer(&n->whole);
        n->inodes = new_set();
        n->whole = new_set();
        g_mutex_unlock(&n->lock);
        send_batch(n, &items, inodes, whole);
        g_mutex_lock(&n->lock);
    }
    g_mutex_unlock(&n->lock);
    return NULL;
}

SxNotifier *
sx_notifier_new(void)
{
    SxNotifier *n = g_new0(SxNotifier, 1);
    g_mutex_init(&n->lock);
    g_cond_init(&n->cond);
    g_queue_init(&n->items);
    n->inodes = new_set();
    n->whole = new_set();
    n->face = (SxNotify){.inval_inode = on_inode, .inval_entry = on_entry, .gone_entry = on_gone, .data = n};
    return n;
}

const SxNotify *
sx_notifier_face(SxNotifier *n)
{
    return &n->face;
}

void
sx_notifier_start(SxNotifier *n, struct fuse_session *se, SxVfs *vfs)
{
    n->se = se;
    n->stop = false;
    g_atomic_pointer_set(&n->vfs, vfs);
    n->thread = g_thread_new("sx-notify", run, n);
}

void
sx_notifier_stop(SxNotifier *n)
{
    if (n->thread == NULL)
        return;
    g_mutex_lock(&n->lock);
    n->stop = true;
    g_cond_signal(&n->cond);
    g_mutex_unlock(&n->lock);
    g_clear_pointer(&n->thread, g_thread_join);
    g_atomic_pointer_set(&n->vfs, NULL);
}

void
sx_notifier_free(SxNotifier *n)
{
    if (n == NULL)
        return;
    sx_notifier_stop(n);
    g_queue_clear_full(&n->items, g_free);
    g_hash_table_unref(n->inodes);
    g_hash_table_unref(n->whole);
    g_cond_clear(&n->cond);
    g_mutex_clear(&n->lock);
    g_free(n);
}
