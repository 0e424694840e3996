/* The cache over the real tree: what each tells the other in the life of two files. */
#include "tree_fixture.h"

#include "base/log.h"
#include "cache/cache.h"

#include <ftw.h>

#define B SX_BLOCK

static int
remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    return remove(path);
}

static SxCache *
open_cache(Fix *f, const char *dir, gint64 size)
{
    SxCacheOptions o = {.dir = dir, .size = size, .sys = sx_sys_default(), .clock = sx_clock_default(), .tree = f->tree};
    g_autoptr(GError) error = NULL;
    SxCache *cache = sx_cache_open(&o, &error);
    if (cache == NULL)
        fail_msg("%s", error->message);
    return cache;
}

/* The provider says that NAME is there with this size and version. */
static SxAttr
listed(Fix *f, const char *name, gint64 size, const char *version)
{
    g_autoptr(SxRemote) r = sx_remote_new(name, SX_KIND_FILE);
    r->size = size;
    r->mtime_ns = f->now_ns;
    g_free(r->version);
    r->version = g_strdup(version);
    g_autoptr(SxChanges) changes = sx_changes_new();
    g_autoptr(GError) error = NULL;
    if (!sx_tree_apply_stat(f->tree, f->root, name, r, changes, &error))
        fail_msg("%s", error->message);
    SxAttr a;
    assert_int_equal(sx_tree_lookup(f->tree, f->root, name, &a), 0);
    return a;
}

static int
cached(Fix *f, gint64 ino)
{
    SxAttr a;
    assert_int_equal(sx_tree_getattr(f->tree, ino, &a), 0);
    return a.cached;
}

static void
fill(SxContent *c, int byte)
{
    gint64 off, len;
    while (sx_content_missing(c, 0, G_MAXINT64, &off, &len)) {
        g_autofree guint8 *buf = g_malloc((gsize)len);
        memset(buf, byte, (gsize)len);
        assert_int_equal(sx_content_fill(c, sx_content_cver(c), off, buf, (gsize)len), 0);
    }
}

static SxContent *
open_content(SxCache *cache, const SxAttr *a)
{
    g_autoptr(GError) error = NULL;
    SxContent *c = sx_content_open(cache, a, &error);
    if (c == NULL)
        fail_msg("%s", error->message);
    return c;
}

static void
two_files_live(void **state)
{
    Fix *f = *state;
    g_autofree char *top = g_dir_make_tmp("syncox-store-XXXXXX", NULL);
    SxCache *cache = open_cache(f, top, 3 * B);

    /* Downloaded, then pushed out by another one. */
    SxAttr a = listed(f, "a", 2 * B, "v1"), b = listed(f, "b", 2 * B, "v1");
    SxContent *c = open_content(cache, &a);
    fill(c, 'a');
    assert_int_equal(cached(f, a.ino), 2);
    sx_content_unref(c);
    c = open_content(cache, &b);
    fill(c, 'b');
    assert_int_equal(cached(f, a.ino), 0);
    assert_int_equal(cached(f, b.ino), 2);
    assert_true(sx_cache_used(cache) <= 3 * B);

    /* A new version comes, and a writer begins before the object has heard of it. */
    b = listed(f, "b", B, "v2");
    assert_int_equal(b.cached, 0);
    SxAttr now;
    assert_int_equal(sx_tree_write_begin(f->tree, b.ino, &now), 0);
    assert_int_equal(sx_content_follow(c, &now), 0);
    gint64 off, len;
    assert_int_equal(sx_content_prepare(c, 3, 4, &off, &len), 1);
    fill(c, 'B');
    assert_int_equal(sx_content_prepare(c, 3, 4, &off, &len), 0);
    assert_int_equal(sx_content_write(c, 3, "mine", 4), 4);
    sx_content_unref(c);

    /* Dirty: nothing takes it away. */
    assert_int_equal(sx_cache_evict(cache, b.ino), -EBUSY);
    assert_int_equal(sx_cache_trim(cache, B), 0);

    /* Killed before the end of the write was recorded. */
    sx_cache_close(cache);
    reopen(f, true);
    cache = open_cache(f, top, 3 * B);
    sx_cache_sweep(cache, NULL);
    assert_int_equal(sx_cache_used(cache), B);
    c = open_content(cache, &b);
    char buf[8];
    assert_int_equal(sx_content_read(c, 0, buf, 8), 8);
    assert_memory_equal(buf, "BBBmineB", 8);
    assert_int_equal(sx_tree_write_end(f->tree, b.ino, sx_content_size(c), f->now_ns, true, 0, &now), 0);
    assert_true(now.dirty);

    /* Deleted while open: the file goes with its last user. */
    SxAttr gone;
    assert_int_equal(sx_tree_unlink(f->tree, f->root, "b", true, 0, &gone), 0);
    assert_int_equal(gone.nlink, 0);
    assert_int_equal(sx_tree_drop_orphan(f->tree, b.ino), 0);
    sx_cache_discard(cache, b.ino, now.cver);
    assert_int_equal(sx_content_read(c, 0, buf, 8), 8);
    sx_content_unref(c);
    assert_int_equal(sx_cache_used(cache), 0);

    sx_cache_close(cache);
    check(f);
    nftw(top, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

int
main(void)
{
    sx_log_set_level(SX_LOG_ERROR);
    const struct CMUnitTest tests[] = {TEST(two_files_live)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
