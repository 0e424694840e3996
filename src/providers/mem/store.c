#include "providers/mem/store_i.h"

#include "base/path.h"

#include <errno.h>
#include <string.h>

/* The stores that outlive their providers: what a server is to a real provider. The one global here, for tests. */
static GMutex named_lock;
static GHashTable *named; /* name -> SxMemStore; guarded by named_lock */

void
sx_mem_node_free(MemNode *node)
{
    if (node == NULL)
        return;
    g_clear_pointer(&node->children, g_hash_table_unref);
    g_clear_pointer(&node->bytes, g_bytes_unref);
    g_free(node->target);
    g_free(node);
}

static MemNode *
node_new(SxMemStore *s, SxKind kind)
{
    MemNode *n = g_new0(MemNode, 1);
    n->kind = kind;
    n->id = ++s->last_id;
    n->version = ++s->last_version;
    n->mode = -1;
    if (kind == SX_KIND_DIR)
        n->children = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)sx_mem_node_free);
    if (kind == SX_KIND_FILE)
        n->bytes = g_bytes_new_static("", 0);
    return n;
}

static void
staged_free(MemStaged *st)
{
    g_free(st->path);
    g_byte_array_unref(st->bytes);
    g_free(st);
}

SxMemStore *
sx_mem_store_new(void)
{
    SxMemStore *s = g_new0(SxMemStore, 1);
    g_atomic_ref_count_init(&s->ref);
    g_mutex_init(&s->lock);
    g_cond_init(&s->changed);
    s->space = -1;
    s->root = node_new(s, SX_KIND_DIR);
    s->staged = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)staged_free);
    s->watchers = g_ptr_array_new();
    return s;
}

SxMemStore *
sx_mem_store_ref(SxMemStore *s)
{
    g_atomic_ref_count_inc(&s->ref);
    return s;
}

void
sx_mem_store_unref(SxMemStore *s)
{
    if (s == NULL || !g_atomic_ref_count_dec(&s->ref))
        return;
    sx_mem_node_free(s->root);
    g_hash_table_unref(s->staged);
    g_ptr_array_unref(s->watchers);
    g_mutex_clear(&s->lock);
    g_cond_clear(&s->changed);
    g_free(s);
}

SxMemStore *
sx_mem_store(const char *name)
{
    g_mutex_lock(&named_lock);
    if (named == NULL)
        named = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)sx_mem_store_unref);
    SxMemStore *s = g_hash_table_lookup(named, name);
    if (s == NULL) {
        s = sx_mem_store_new();
        g_hash_table_insert(named, g_strdup(name), s);
    }
    sx_mem_store_ref(s);
    g_mutex_unlock(&named_lock);
    return s;
}

void
sx_mem_drop(const char *name)
{
    g_mutex_lock(&named_lock);
    if (named != NULL)
        g_hash_table_remove(named, name);
    if (named != NULL && g_hash_table_size(named) == 0)
        g_clear_pointer(&named, g_hash_table_unref);
    g_mutex_unlock(&named_lock);
}

/* ---- the tree ---- */

static int
walk(SxMemStore *s, const char *path, gsize len, MemNode **ret)
{
    MemNode *n = s->root;
    for (gsize i = 0; i < len;) {
        const char *end = memchr(path + i, '/', len - i);
        gsize k = end != NULL ? (gsize)(end - path) - i : len - i;
        g_autofree char *name = g_strndup(path + i, k);
        if (n->kind != SX_KIND_DIR)
            return -ENOTDIR;
        n = g_hash_table_lookup(n->children, name);
        if (n == NULL)
            return -ENOENT;
        i += k + 1;
    }
    *ret = n;
    return 0;
}

MemNode *
sx_mem_find_locked(SxMemStore *s, const char *path)
{
    MemNode *n = NULL;
    return walk(s, path, strlen(path), &n) == 0 ? n : NULL;
}

int
sx_mem_parent_locked(SxMemStore *s, const char *path, MemNode **ret_dir)
{
    const char *base = sx_path_basename(path);
    gsize len = base == path ? 0 : (gsize)(base - path) - 1;
    MemNode *dir = NULL;
    int r = walk(s, path, len, &dir);
    if (r == 0 && dir->kind != SX_KIND_DIR)
        r = -ENOTDIR;
    if (r == 0)
        *ret_dir = dir;
    return r;
}

MemNode *
sx_mem_add_locked(SxMemStore *s, MemNode *dir, const char *path, SxKind kind)
{
    MemNode *n = node_new(s, kind);
    g_hash_table_insert(dir->children, g_strdup(sx_path_basename(path)), n);
    return n;
}

static gint64
bytes_below(const MemNode *n)
{
    if (n->kind == SX_KIND_FILE)
        return (gint64)g_bytes_get_size(n->bytes);
    gint64 sum = 0;
    if (n->kind == SX_KIND_DIR) {
        GHashTableIter it;
        gpointer child;
        g_hash_table_iter_init(&it, n->children);
        while (g_hash_table_iter_next(&it, NULL, &child))
            sum += bytes_below(child);
    }
    return sum;
}

int
sx_mem_delete_locked(SxMemStore *s, const char *path)
{
    MemNode *dir = NULL;
    int r = *path != '\0' ? sx_mem_parent_locked(s, path, &dir) : -EBUSY;
    if (r != 0)
        return r;
    MemNode *n = g_hash_table_lookup(dir->children, sx_path_basename(path));
    if (n == NULL)
        return -ENOENT;
    s->used -= bytes_below(n);
    g_hash_table_remove(dir->children, sx_path_basename(path));
    sx_mem_notify_locked(s, path);
    return 0;
}

int
sx_mem_set_bytes_locked(SxMemStore *s, MemNode *node, GBytes *bytes)
{
    gint64 grow = (gint64)g_bytes_get_size(bytes) - (gint64)g_bytes_get_size(node->bytes);
    if (s->space >= 0 && grow > 0 && s->used + grow > s->space)
        return -ENOSPC;
    s->used += grow;
    g_bytes_unref(node->bytes);
    node->bytes = g_bytes_ref(bytes);
    node->version = ++s->last_version;
    return 0;
}

int
sx_mem_rename_locked(SxMemStore *s, const char *from, const char *to)
{
    gsize n = strlen(from);
    if (strncmp(from, to, n) == 0 && (to[n] == '/' || n == 0))
        return -EINVAL;
    MemNode *from_dir = NULL, *to_dir = NULL;
    int r = sx_mem_parent_locked(s, from, &from_dir);
    if (r == 0 && !g_hash_table_contains(from_dir->children, sx_path_basename(from)))
        r = -ENOENT;
    if (r == 0)
        r = sx_mem_parent_locked(s, to, &to_dir);
    if (r == 0 && g_hash_table_contains(to_dir->children, sx_path_basename(to)))
        r = -EEXIST;
    if (r != 0)
        return r;
    char *name = NULL;
    MemNode *node = NULL;
    g_hash_table_steal_extended(from_dir->children, sx_path_basename(from), (gpointer *)&name, (gpointer *)&node);
    g_free(name);
    g_hash_table_insert(to_dir->children, g_strdup(sx_path_basename(to)), node);
    sx_mem_notify_locked(s, from);
    sx_mem_notify_locked(s, to);
    return 0;
}

void
sx_mem_notify_locked(SxMemStore *s, const char *path)
{
    for (guint i = 0; i < s->watchers->len; i++) {
        MemWatcher *w = g_ptr_array_index(s->watchers, i);
        if (w->paths.length >= MEM_WATCH_MAX)
            w->overflow = true;
        else
            g_queue_push_tail(&w->paths, g_strdup(path));
    }
    g_cond_broadcast(&s->changed);
}

/* ---- another client ---- */

static int
put_locked(SxMemStore *s, const char *path, GBytes *bytes, gint64 mtime_ns)
{
    MemNode *dir = NULL;
    int r = sx_mem_parent_locked(s, path, &dir);
    if (r != 0)
        return r;
    MemNode *n = g_hash_table_lookup(dir->children, sx_path_basename(path));
    if (n != NULL && n->kind != SX_KIND_FILE)
        return -EISDIR;
    bool fresh = n == NULL;
    if (fresh)
        n = sx_mem_add_locked(s, dir, path, SX_KIND_FILE);
    r = sx_mem_set_bytes_locked(s, n, bytes);
    if (r != 0 && fresh)
        g_hash_table_remove(dir->children, sx_path_basename(path));
    if (r != 0)
        return r;
    n->mtime_ns = mtime_ns != SX_TIME_UNKNOWN ? mtime_ns : 0;
    sx_mem_notify_locked(s, path);
    return r;
}

int
sx_mem_put(SxMemStore *s, const char *path, const void *data, gsize n, gint64 mtime_ns)
{
    g_autoptr(GBytes) bytes = g_bytes_new(data, n);
    g_mutex_lock(&s->lock);
    int r = put_locked(s, path, bytes, mtime_ns);
    g_mutex_unlock(&s->lock);
    return r;
}

static int
make_locked(SxMemStore *s, const char *path, SxKind kind, const char *target)
{
    MemNode *dir = NULL;
    int r = sx_mem_parent_locked(s, path, &dir);
    if (r == 0 && g_hash_table_contains(dir->children, sx_path_basename(path)))
        r = -EEXIST;
    if (r != 0)
        return r;
    sx_mem_add_locked(s, dir, path, kind)->target = g_strdup(target);
    sx_mem_notify_locked(s, path);
    return 0;
}

int
sx_mem_mkdir(SxMemStore *s, const char *path)
{
    g_mutex_lock(&s->lock);
    int r = make_locked(s, path, SX_KIND_DIR, NULL);
    g_mutex_unlock(&s->lock);
    return r;
}

int
sx_mem_symlink(SxMemStore *s, const char *path, const char *target)
{
    g_mutex_lock(&s->lock);
    int r = make_locked(s, path, SX_KIND_SYMLINK, target);
    g_mutex_unlock(&s->lock);
    return r;
}

int
sx_mem_remove(SxMemStore *s, const char *path)
{
    g_mutex_lock(&s->lock);
    int r = sx_mem_delete_locked(s, path);
    g_mutex_unlock(&s->lock);
    return r;
}

int
sx_mem_rename(SxMemStore *s, const char *from, const char *to)
{
    g_mutex_lock(&s->lock);
    int r = sx_mem_rename_locked(s, from, to);
    g_mutex_unlock(&s->lock);
    return r;
}

GBytes *
sx_mem_get(SxMemStore *s, const char *path)
{
    g_mutex_lock(&s->lock);
    MemNode *n = sx_mem_find_locked(s, path);
    GBytes *bytes = n != NULL && n->kind == SX_KIND_FILE ? g_bytes_ref(n->bytes) : NULL;
    g_mutex_unlock(&s->lock);
    return bytes;
}

bool
sx_mem_exists(SxMemStore *s, const char *path)
{
    g_mutex_lock(&s->lock);
    bool there = sx_mem_find_locked(s, path) != NULL;
    g_mutex_unlock(&s->lock);
    return there;
}

static void
dump_node(const MemNode *n, const char *path, GString *out)
{
    if (n->kind == SX_KIND_SYMLINK)
        g_string_append_printf(out, "l %s -> %s\n", path, n->target);
    if (n->kind == SX_KIND_FILE) {
        g_autofree char *sum = g_compute_checksum_for_bytes(G_CHECKSUM_SHA256, n->bytes);
        g_string_append_printf(out, "f %s %" G_GSIZE_FORMAT " %.12s\n", path, g_bytes_get_size(n->bytes), sum);
    }
    if (n->kind != SX_KIND_DIR)
        return;
    if (*path != '\0')
        g_string_append_printf(out, "d %s/\n", path);
    g_autoptr(GList) names = g_list_sort(g_hash_table_get_keys(n->children), (GCompareFunc)strcmp);
    for (GList *l = names; l != NULL; l = l->next) {
        g_autofree char *below = sx_path_join(path, l->data);
        dump_node(g_hash_table_lookup(n->children, l->data), below, out);
    }
}

char *
sx_mem_dump(SxMemStore *s)
{
    GString *out = g_string_new(NULL);
    g_mutex_lock(&s->lock);
    dump_node(s->root, "", out);
    g_mutex_unlock(&s->lock);
    return g_string_free(out, FALSE);
}

guint64
sx_mem_calls(SxMemStore *s, SxCall call)
{
    g_mutex_lock(&s->lock);
    guint64 sum = 0;
    for (int i = 0; i < SX_N_CALLS; i++)
        sum += call == SX_N_CALLS || call == (SxCall)i ? s->calls[i] : 0;
    g_mutex_unlock(&s->lock);
    return sum;
}

void
sx_mem_set_before_publish(SxMemStore *s, void (*fn)(void *data, const char *path), void *data)
{
    g_mutex_lock(&s->lock);
    s->before_publish = fn;
    s->before_publish_data = data;
    g_mutex_unlock(&s->lock);
}

void
sx_mem_set_space(SxMemStore *s, gint64 bytes)
{
    g_mutex_lock(&s->lock);
    s->space = bytes;
    g_mutex_unlock(&s->lock);
}

void
sx_mem_check(SxMemStore *s)
{
    g_mutex_lock(&s->lock);
    g_assert(s->used == bytes_below(s->root));
    g_assert(s->root->kind == SX_KIND_DIR);
    g_mutex_unlock(&s->lock);
}
