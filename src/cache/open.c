/* What lies on the disk for an inode, compared with what the tree says of it: repair at open.
 *
 *   tree       files                                    result
 *   cached=0   any                                      absent (files are made anew when bytes come)
 *   cached=1   content and valid map                    as the map says; all bits set: complete, the tree is told
 *              bad map, clean                           absent, cached=0
 *              bad map, dirty                           data extents are present: what is not recorded is local
 *   cached=2   content of the right size                complete
 *   1 or 2     missing or another size, clean           absent, cached=0
 *              missing or shorter, dirty                SX_ERR_CORRUPT: never invents zeros. While `writing` (the crash came between a
 *                                                       write and its commit) the file's size is the truth
 *   1 or 2     not synced before a power loss, clean    absent, cached=0 */
#include "cache/cache_i.h"

#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static bool
absent(SxContent *c, SxVersion *v, gint64 size, GError **error)
{
    if (!sx_extents_init(&v->map, c->ino, v->cver, size))
        return sx_fail(error, SX_ERR_TOO_LARGE, "inode %" G_GINT64_FORMAT ": a size of %" G_GINT64_FORMAT " bytes cannot be cached",
                       c->ino, size);
    v->size = size;
    v->complete = size == 0;
    return true;
}

/* Clean content that cannot be trusted: the provider has it. */
static bool
forget(SxContent *c, SxVersion *v, const SxAttr *a, const char *why, GError **error)
{
    sx_info("cache: inode %" G_GINT64_FORMAT " will be fetched again: %s", c->ino, why);
    int rc = sx_tree_set_cached(c->cache->tree, c->ino, a->cver, 0);
    if (rc == -EBUSY) /* pinned, or its upload is not confirmed yet: the tree keeps it as wanted, which is right */
        rc = sx_tree_set_cached(c->cache->tree, c->ino, a->cver, 1);
    if (rc == -EBUSY)
        return sx_fail(error, SX_ERR_CORRUPT, "inode %" G_GINT64_FORMAT ": its content in the cache is lost (%s) and cannot be fetched yet",
                       c->ino, why);
    if (rc != 0)
        return sx_fail_errno(error, -rc, "inode %" G_GINT64_FORMAT ": the cache entry cannot be dropped", c->ino);
    sx_cache_remove_files(c->cache, c->ino, a->cver);
    return absent(c, v, a->size, error);
}

static bool
lost(SxContent *c, const char *why, GError **error)
{
    sx_error_log("cache: inode %" G_GINT64_FORMAT ": content lost: %s", c->ino, why);
    return sx_fail(error, SX_ERR_CORRUPT, "content lost: the changes of inode %" G_GINT64_FORMAT " are not in the cache any more (%s)",
                   c->ino, why);
}

static void
full(SxContent *c, SxVersion *v, gint64 size)
{
    v->map = (SxExtents){.fd = -1, .ino = c->ino, .cver = v->cver};
    v->size = size;
    v->complete = 1;
}

static bool
after_loss(SxCache *cache, const char *name)
{
    struct stat st;
    return cache->sys->fstatat(cache->sys, cache->content_fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0 ||
           sx_cache_untrusted(cache, &st);
}

static bool
rebuild_map(SxContent *c, SxVersion *v, int fd, gint64 size, const char *name, GError **error)
{
    SxCache *cache = c->cache;
    sx_error_log("cache: inode %" G_GINT64_FORMAT ": the map of its changed content is damaged; what has data is kept", c->ino);
    if (!absent(c, v, size, error))
        return false;
    int rc = sx_extents_from_data(&v->map, cache->sys, fd, size);
    if (rc == 0 && v->map.n_absent > 0)
        rc = sx_extents_create(&v->map, cache->sys, cache->content_fd, name);
    if (rc != 0) {
        sx_extents_clear(&v->map, cache->sys);
        return sx_fail_errno(error, -rc, "the map of inode %" G_GINT64_FORMAT " cannot be made", c->ino);
    }
    return true;
}

static bool
partial(SxContent *c, SxVersion *v, const SxAttr *a, bool dirty, int fd, gint64 size, bool *ret_keep, GError **error)
{
    SxCache *cache = c->cache;
    char name[SX_NAME_BUF];
    sx_cache_name(name, c->ino, v->cver, true);
    int rc = sx_extents_load(&v->map, cache->sys, cache->content_fd, name, c->ino, v->cver, fd, after_loss(cache, name));
    if (rc == -EUCLEAN || rc == -ENOENT) {
        if (!dirty)
            return forget(c, v, a, "its map is missing or damaged", error);
        if (!rebuild_map(c, v, fd, size, name, error))
            return false;
    } else if (rc != 0) {
        sx_extents_clear(&v->map, cache->sys);
        return sx_fail_errno(error, -rc, "cannot read the map %s/content/%s", cache->dir, name);
    }
    if (!dirty && v->map.n_blocks != (size + SX_BLOCK - 1) / SX_BLOCK) {
        sx_extents_clear(&v->map, cache->sys);
        return forget(c, v, a, "its map is of another size", error);
    }
    /* The file was cut before the crash and the map not told yet: what lies behind the end is nobody's. */
    sx_extents_force(&v->map, cache->sys, (size + SX_BLOCK - 1) / SX_BLOCK, v->map.n_blocks);
    v->size = size;
    v->complete = sx_load(&v->map.n_absent) == 0;
    *ret_keep = true;
    return true;
}

static void
take_file(SxContent *c, SxVersion *v, int fd)
{
    v->linked = true;
    sx_store(&v->fd, fd);
    sx_evict_adopt(c->cache, v);
    sx_content_check_complete(c, v);
}

static bool
existing(SxContent *c, SxVersion *v, const SxAttr *a, int fd, bool *ret_keep, GError **error)
{
    SxCache *cache = c->cache;
    bool dirty = a->dirty || a->writing;
    struct stat st;
    if (cache->sys->fstat(cache->sys, fd, &st) != 0)
        return sx_fail_errno(error, errno, "cannot look at the content of inode %" G_GINT64_FORMAT, c->ino);
    if (!S_ISREG(st.st_mode))
        return sx_fail(error, SX_ERR_CORRUPT, "the content of inode %" G_GINT64_FORMAT " is not a file", c->ino);
    if (!dirty && st.st_size != a->size)
        return forget(c, v, a, "its file has another size", error);
    if (!dirty && sx_cache_untrusted(cache, &st))
        return forget(c, v, a, "it was not on the disk before the power was lost", error);
    if (dirty && !a->writing && st.st_size < a->size)
        return lost(c, "the file is too short", error);
    if (a->cached != 2)
        return partial(c, v, a, dirty, fd, st.st_size, ret_keep, error);
    *ret_keep = true;
    full(c, v, st.st_size);
    return true;
}

static bool
create_empty(SxContent *c, SxVersion *v, GError **error)
{
    full(c, v, 0);
    int rc = sx_content_materialise(c, v);
    if (rc == 0)
        return true;
    return sx_fail_errno(error, -rc, "cannot make a file in the cache %s", c->cache->dir);
}

bool
sx_open_version(SxContent *c, SxVersion *v, bool create, GError **error)
{
    SxCache *cache = c->cache;
    SxAttr a;
    int rc = sx_tree_getattr(cache->tree, c->ino, &a);
    if (rc != 0)
        return sx_fail_errno(error, -rc, "inode %" G_GINT64_FORMAT, c->ino);
    v->cver = a.cver;
    if (create)
        return create_empty(c, v, error);
    if (a.cached == 0)
        return absent(c, v, a.size, error);
    char name[SX_NAME_BUF];
    sx_cache_name(name, c->ino, v->cver, false);
    g_auto(SxFd) fd = cache->sys->openat(cache->sys, cache->content_fd, name, O_RDWR | O_NOFOLLOW, 0);
    if (fd < 0 && errno != ENOENT)
        return sx_fail_errno(error, errno, "cannot open %s/content/%s", cache->dir, name);
    if (fd < 0 && a.size == 0)
        return create_empty(c, v, error);
    if (fd < 0)
        return a.dirty || a.writing ? lost(c, "the file is gone", error) : forget(c, v, &a, "its file is gone", error);
    bool keep = false;
    if (!existing(c, v, &a, fd, &keep, error))
        return false;
    if (keep)
        take_file(c, v, sx_fd_take(&fd));
    return true;
}
