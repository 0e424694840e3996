#include "vfs/vfs_i.h"

#include "base/log.h"
#include "base/path.h"

#include <errno.h>
#include <string.h>

static SxNode *
ensure(SxVfs *v, gint64 ino)
{
    SxNode *n = g_hash_table_lookup(v->nodes, &ino);
    if (n == NULL) {
        n = g_new0(SxNode, 1);
        n->ino = ino;
        n->seen_cver = -1;
        n->touched_ms = G_MININT64 / 2;
        g_hash_table_insert(v->nodes, &n->ino, n);
    }
    return n;
}

/* With v->lock held. Frees the node when nobody refers to it; true when the tree has to drop the inode then. */
static bool
settle(SxVfs *v, SxNode *n)
{
    if (n->users > 0 || n->kernel > 0)
        return false;
    bool orphan = n->orphan;
    g_hash_table_remove(v->nodes, &n->ino);
    g_free(n->lost_name);
    g_free(n->ghost);
    g_free(n);
    return orphan;
}

SxNode *
sx_node_get(SxVfs *v, gint64 ino)
{
    g_mutex_lock(&v->lock);
    SxNode *n = ensure(v, ino);
    n->users++;
    if (n->open == NULL) {
        n->open = g_new0(SxOpen, 1);
        g_mutex_init(&n->open->lock);
        n->open->mtime_ns = SX_TIME_UNKNOWN;
    }
    g_mutex_unlock(&v->lock);
    return n;
}

SxNode *
sx_node_peek(SxVfs *v, gint64 ino)
{
    g_mutex_lock(&v->lock);
    SxNode *n = g_hash_table_lookup(v->nodes, &ino);
    if (n != NULL && n->open != NULL)
        n->users++;
    else
        n = NULL;
    g_mutex_unlock(&v->lock);
    return n;
}

/* The cache file goes as well, unless an upload still reads it. */
static void
drop_orphan(SxVfs *v, gint64 ino)
{
    gint64 cver;
    bool known = sx_tree_cver(v->tree, ino, &cver);
    sx_transfer_unkeep(v->transfer, ino);
    sx_tree_drop_orphan(v->tree, ino);
    if (known)
        sx_cache_discard(v->cache, ino, cver);
}

void
sx_node_put(SxVfs *v, SxNode *n)
{
    if (n == NULL)
        return;
    gint64 ino = n->ino;
    SxOpen *open = NULL;
    bool drop = false;
    g_mutex_lock(&v->lock);
    if (--n->users == 0) {
        open = g_steal_pointer(&n->open);
        drop = settle(v, n);
    }
    g_mutex_unlock(&v->lock);
    if (open != NULL) {
        sx_content_unref(open->content);
        g_mutex_clear(&open->lock);
        g_free(open);
    }
    if (drop)
        drop_orphan(v, ino);
}

int
sx_node_content(SxVfs *v, SxNode *n, SxContent **ret)
{
    SxOpen *o = n->open;
    int r = 0;
    g_mutex_lock(&o->lock);
    if (o->content == NULL) {
        SxAttr attr;
        g_autoptr(GError) error = NULL;
        r = sx_tree_getattr(v->tree, n->ino, &attr);
        if (r == 0 && (o->content = sx_content_open(v->cache, &attr, &error)) == NULL) {
            r = -sx_errno(error);
            sx_warn("cannot open the content of inode %" G_GINT64_FORMAT ": %s", n->ino, error->message);
        }
    }
    if (r == 0)
        *ret = o->content;
    g_mutex_unlock(&o->lock);
    return r;
}

void
sx_node_orphaned(SxVfs *v, gint64 ino)
{
    g_mutex_lock(&v->lock);
    SxNode *n = g_hash_table_lookup(v->nodes, &ino);
    if (n != NULL)
        n->orphan = true;
    g_mutex_unlock(&v->lock);
    if (n == NULL)
        drop_orphan(v, ino);
}

void
sx_node_adopted(SxVfs *v, gint64 ino)
{
    g_mutex_lock(&v->lock);
    SxNode *n = g_hash_table_lookup(v->nodes, &ino);
    if (n != NULL)
        n->orphan = false;
    g_mutex_unlock(&v->lock);
}

void
sx_vfs_name_gone(SxVfs *v, gint64 parent, gint64 ino, const char *name)
{
    SxAttr attr;
    if (sx_tree_getattr(v->tree, ino, &attr) != 0 || attr.kind == SX_KIND_DIR || attr.nlink > 0)
        return;
    g_mutex_lock(&v->lock);
    SxNode *n = g_hash_table_lookup(v->nodes, &ino);
    if (n != NULL && n->open != NULL) {
        n->lost_parent = parent;
        g_free(n->lost_name);
        n->lost_name = g_strdup(name);
    }
    g_mutex_unlock(&v->lock);
    sx_node_orphaned(v, ino);
}

/* The name may be taken by now: then it is a conflict, like any other change made on both sides. */
static int
link_lost(SxVfs *v, gint64 ino, gint64 parent, const char *lost, char **ret_name)
{
    SxAttr attr;
    g_autofree char *name = g_strdup(lost);
    int r = -EEXIST;
    for (unsigned i = 0; r == -EEXIST; i++) {
        r = sx_tree_link(v->tree, ino, parent, name, sx_vfs_due(v), &attr);
        if (r == 0)
            *ret_name = g_steal_pointer(&name);
        g_free(name);
        name = sx_conflict_name(lost, "here", sx_clock_real_ns(v->clock), i);
    }
    return r;
}

int
sx_node_restore(SxVfs *v, SxNode *n)
{
    g_mutex_lock(&v->lock);
    gint64 parent = n->lost_parent;
    g_autofree char *lost = g_steal_pointer(&n->lost_name);
    g_mutex_unlock(&v->lock);
    if (lost == NULL)
        return 0;
    g_autofree char *name = NULL;
    int r = link_lost(v, n->ino, parent, lost, &name);
    if (r < 0) {
        sx_error_log("inode %" G_GINT64_FORMAT " was removed by others and is written to, but cannot have a name: %s", n->ino, g_strerror(-r));
        g_mutex_lock(&v->lock);
        if (n->lost_name == NULL)
            n->lost_name = g_steal_pointer(&lost);
        g_mutex_unlock(&v->lock);
        return -EIO;
    }
    sx_node_adopted(v, n->ino);
    sx_transfer_tell_name(v->transfer, parent, name);
    g_autofree char *path = sx_tree_path(v->tree, n->ino);
    if (v->events != NULL)
        sx_events_emit(v->events, sx_clock_real_ns(v->clock), "restored", NULL, path,
                       "%s was removed there while it was being written here: what is written here is kept", lost);
    return 0;
}

void
sx_node_set_ghost(SxVfs *v, const SxAttr *attr)
{
    g_mutex_lock(&v->lock);
    SxNode *n = g_hash_table_lookup(v->nodes, &attr->ino);
    if (n != NULL && n->ghost == NULL) {
        n->ghost = g_memdup2(attr, sizeof *attr);
        n->ghost->nlink = 0;
    }
    g_mutex_unlock(&v->lock);
}

bool
sx_node_ghost(SxVfs *v, gint64 ino, SxAttr *ret)
{
    g_mutex_lock(&v->lock);
    SxNode *n = g_hash_table_lookup(v->nodes, &ino);
    bool found = n != NULL && n->ghost != NULL;
    if (found)
        *ret = *n->ghost;
    g_mutex_unlock(&v->lock);
    if (found || (n = sx_node_peek(v, ino)) == NULL)
        return found;
    g_mutex_lock(&n->open->lock);
    if (n->open->attr.ino == ino) {
        *ret = n->open->attr;
        ret->nlink = 0;
        found = true;
    }
    g_mutex_unlock(&n->open->lock);
    sx_node_put(v, n);
    return found;
}

bool
sx_node_saw_cver(SxVfs *v, SxNode *n, gint64 cver)
{
    g_mutex_lock(&v->lock);
    bool same = n->seen_cver == cver;
    n->seen_cver = cver;
    g_mutex_unlock(&v->lock);
    return same;
}

bool
sx_node_due_touch(SxVfs *v, gint64 ino)
{
    gint64 now = sx_clock_mono_ms(v->clock);
    g_mutex_lock(&v->lock);
    SxNode *n = g_hash_table_lookup(v->nodes, &ino);
    bool due = n == NULL || now - n->touched_ms >= SX_TOUCH_EVERY_MS;
    if (n != NULL && due)
        n->touched_ms = now;
    g_mutex_unlock(&v->lock);
    return due;
}

void
sx_node_overlay(SxVfs *v, SxAttr *attr)
{
    SxNode *n = attr->kind == SX_KIND_FILE ? sx_node_peek(v, attr->ino) : NULL;
    if (n == NULL)
        return;
    SxOpen *o = n->open;
    g_mutex_lock(&o->lock);
    if (o->session && o->content != NULL) {
        attr->size = sx_content_size(o->content);
        gint64 written = sx_content_mtime_ns(o->content);
        if (o->mtime_ns != SX_TIME_UNKNOWN)
            attr->mtime_ns = o->mtime_ns;
        else if (written != SX_TIME_UNKNOWN && o->changed)
            attr->mtime_ns = written;
        if (o->changed && written != SX_TIME_UNKNOWN && written > attr->ctime_ns)
            attr->ctime_ns = written;
    }
    g_mutex_unlock(&o->lock);
    sx_node_put(v, n);
}

void
sx_vfs_remember(SxVfs *v, gint64 ino)
{
    if (ino == SX_ROOT_INO || sx_virtual_is(ino))
        return;
    g_mutex_lock(&v->lock);
    ensure(v, ino)->kernel++;
    g_mutex_unlock(&v->lock);
}

void
sx_vfs_forget(SxVfs *v, gint64 ino, guint64 n)
{
    if (ino == SX_ROOT_INO || sx_virtual_is(ino))
        return;
    bool drop = false;
    g_mutex_lock(&v->lock);
    SxNode *node = g_hash_table_lookup(v->nodes, &ino);
    if (node != NULL) {
        node->kernel -= MIN(n, node->kernel);
        drop = settle(v, node);
    }
    g_mutex_unlock(&v->lock);
    if (drop)
        drop_orphan(v, ino);
}

bool
sx_vfs_known(SxVfs *v, gint64 ino)
{
    if (ino == SX_ROOT_INO || sx_virtual_is(ino))
        return true;
    g_mutex_lock(&v->lock);
    bool known = g_hash_table_contains(v->nodes, &ino);
    g_mutex_unlock(&v->lock);
    return known;
}

void
sx_vfs_content_changed(SxVfs *v, gint64 ino)
{
    SxNode *n = sx_node_peek(v, ino);
    if (n == NULL)
        return;
    g_atomic_int_inc(&n->open->epoch);
    sx_node_put(v, n);
}
