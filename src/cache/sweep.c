/* The sweep at start: every file of the cache against the tree. What the tree does not know any more goes, what a power loss
 * made doubtful is decided, and the rest is added up. Runs beside everything else: an inode is looked at while it is
 * marked busy, and one that is open was repaired and counted by its open. */
#include "cache/cache_i.h"

#include "base/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

typedef struct Name {
    gint64 ino, cver;
    bool map;
} Name;

static bool
parse_name(const char *dir, const char *text, Name *ret)
{
    char again[SX_NAME_BUF], full[SX_NAME_BUF];
    guint64 ino, cver;
    int n = 0;
    if (sscanf(text, "%16" G_GINT64_MODIFIER "x-%16" G_GINT64_MODIFIER "x%n", &ino, &cver, &n) != 2)
        return false;
    *ret = (Name){(gint64)ino, (gint64)cver, strcmp(text + n, ".map") == 0};
    /* Only what we would write ourselves is ours. */
    sx_cache_name(again, ret->ino, ret->cver, ret->map);
    g_snprintf(full, sizeof full, "%s/%s", dir, text);
    return strcmp(again, full) == 0;
}

static GArray *
names_in(SxCache *cache, const char *dir)
{
    GArray *names = g_array_new(false, false, sizeof(Name));
    int fd = cache->sys->openat(cache->sys, cache->content_fd, dir, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0) {
        if (errno == ENOENT)
            return names;
        sx_warn("cache: cannot read %s/content/%s: %s", cache->dir, dir, g_strerror(errno));
        g_array_unref(names);
        return NULL;
    }
    DIR *d = fdopendir(fd);
    if (d == NULL) {
        cache->sys->close(cache->sys, fd);
        g_array_unref(names);
        return NULL;
    }
    struct dirent *e;
    Name name;
    while ((e = readdir(d)) != NULL)
        if (parse_name(dir, e->d_name, &name))
            g_array_append_val(names, name);
    closedir(d);
    return names;
}

typedef enum Verdict { KEEP, REMOVE, FORGET, REPAIR } Verdict;

static Verdict
judge(SxCache *cache, const Name *name, const struct stat *st)
{
    SxAttr a;
    int rc = sx_tree_getattr(cache->tree, name->ino, &a);
    if (rc != 0)
        return rc == -ENOENT ? REMOVE : KEEP; /* what could not be asked is not unknown */
    if (a.cver != name->cver || a.cached == 0)
        return REMOVE;
    if (!sx_cache_untrusted(cache, st))
        return KEEP;
    if (!a.dirty && !a.writing)
        return FORGET;
    return a.cached == 1 ? REPAIR : KEEP;
}

static void
repair(SxCache *cache, gint64 ino)
{
    SxAttr a = {.ino = ino};
    g_autoptr(GError) error = NULL;
    g_autoptr(SxContent) c = sx_content_open(cache, &a, &error);
    if (c == NULL)
        sx_warn("cache: %s", error->message);
}

static void
look_at_map(SxCache *cache, const Name *name)
{
    const SxSys *sys = cache->sys;
    char content[SX_NAME_BUF], map[SX_NAME_BUF];
    struct stat st;
    sx_cache_name(content, name->ino, name->cver, false);
    sx_cache_name(map, name->ino, name->cver, true);
    if (sys->fstatat(sys, cache->content_fd, content, &st, AT_SYMLINK_NOFOLLOW) != 0 && errno == ENOENT)
        sys->unlinkat(sys, cache->content_fd, map, 0);
}

/* false: it could not be decided. */
static bool
look_at(SxCache *cache, const Name *name)
{
    if (!sx_cache_busy(cache, name->ino))
        return true;
    gint64 freed = 0;
    char path[SX_NAME_BUF];
    struct stat st;
    Verdict verdict = KEEP;
    int rc = 0;
    sx_cache_name(path, name->ino, name->cver, false);
    if (name->map) {
        look_at_map(cache, name);
    } else if (cache->sys->fstatat(cache->sys, cache->content_fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0) {
        verdict = judge(cache, name, &st);
        if (verdict == FORGET && (rc = sx_tree_set_cached(cache->tree, name->ino, name->cver, 0)) != 0)
            verdict = KEEP;
        if (verdict == REMOVE || verdict == FORGET)
            freed = sx_cache_remove_files(cache, name->ino, name->cver);
        if (verdict == KEEP || freed < 0)
            sx_evict_count(cache, name->ino, name->cver, (gint64)st.st_blocks * 512);
    } else {
        rc = errno == ENOENT ? 0 : -errno;
    }
    sx_cache_idle(cache, name->ino);
    if (verdict == REPAIR)
        repair(cache, name->ino);
    return rc == 0;
}

void
sx_sweep_run(SxCache *cache, GCancellable *cancel)
{
    bool all = true;
    for (unsigned i = 0; i < 256; i++) {
        char dir[3];
        g_snprintf(dir, sizeof dir, "%02x", i);
        g_autoptr(GArray) names = names_in(cache, dir);
        if (names == NULL) {
            all = false;
            continue;
        }
        for (guint k = 0; k < names->len; k++) {
            if (g_cancellable_is_cancelled(cancel))
                return;
            all = look_at(cache, &g_array_index(names, Name, k)) && all;
        }
    }
    if (all)
        sx_cache_recovered(cache);
}
