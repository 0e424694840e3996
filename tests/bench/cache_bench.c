/* Reading and writing through the content cache against plain pread and pwrite on the same file system.
 * Prints MB/s and the ratio for a person to read; never a timed test. DIR (default: a temporary one) is where it works. */
#include "cache/cache.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TOTAL ((gint64)256 * 1024 * 1024)

typedef struct Bench {
    SxTree *tree;
    SxCache *cache;
    SxContent *content; /* complete */
    int fd;
    char *buf;
} Bench;

typedef gssize (*Step)(Bench *b, gint64 off, gsize n);

static gssize
plain_write(Bench *b, gint64 off, gsize n)
{
    return pwrite(b->fd, b->buf, n, off);
}
static gssize
cache_write(Bench *b, gint64 off, gsize n)
{
    gint64 at, len;
    int rc = sx_content_prepare(b->content, off, (gint64)n, &at, &len);
    return rc != 0 ? -1 : sx_content_write(b->content, off, b->buf, n);
}
static gssize
plain_read(Bench *b, gint64 off, gsize n)
{
    return pread(b->fd, b->buf, n, off);
}
static gssize
cache_read(Bench *b, gint64 off, gsize n)
{
    return sx_content_read(b->content, off, b->buf, n);
}
static gssize
cache_hold(Bench *b, gint64 off, gsize n)
{
    int fd;
    SxHold *hold = NULL;
    gssize k = sx_content_hold(b->content, off, n, &fd, &hold);
    k = k > 0 ? pread(fd, b->buf, (gsize)k, off) : k;
    sx_content_release(hold);
    return k;
}

static double
run(Bench *b, Step step, gsize n)
{
    gint64 t = g_get_monotonic_time();
    for (gint64 off = 0; off < TOTAL; off += (gint64)n)
        if (step(b, off, n) != (gssize)n) {
            fprintf(stderr, "a step at %ld failed: %s\n", (long)off, strerror(errno));
            exit(1);
        }
    return (double)TOTAL / (double)MAX(g_get_monotonic_time() - t, 1);
}

static void
report(Bench *b, const char *what, Step plain, Step cached, gsize n)
{
    double p = run(b, plain, n), c = run(b, cached, n);
    printf("%-28s %7zu B  plain %7.0f MB/s  cache %7.0f MB/s  %3.0f %%\n", what, n, p, c, 100 * c / p);
}

static SxContent *
new_content(Bench *b, gint64 root, const char *name)
{
    SxNew n = {.kind = SX_KIND_FILE, .mode = 0644};
    SxAttr a;
    g_autoptr(GError) error = NULL;
    if (sx_tree_create(b->tree, root, name, &n, &a) != 0)
        g_error("no file in the tree");
    SxContent *c = sx_content_create(b->cache, &a, &error);
    if (c == NULL)
        g_error("%s", error->message);
    return c;
}

static void
start(Bench *b, const char *dir)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *db = g_build_filename(dir, "tree.db", NULL);
    g_autofree char *cache = g_build_filename(dir, "cache", NULL);
    SxTreeOptions to = {.path = db, .sys = sx_sys_default(), .clock = sx_clock_default(), .file_mode = 0644, .dir_mode = 0755};
    SxCaps caps = {0};
    int id;
    gint64 root;
    b->tree = sx_tree_open(&to, &error);
    if (b->tree == NULL || !sx_tree_add_provider(b->tree, "bench", "bench", &caps, &id, &root, &error))
        g_error("%s", error->message);
    SxCacheOptions co = {.dir = cache, .size = 8 * TOTAL, .sys = sx_sys_default(), .clock = sx_clock_default(), .tree = b->tree};
    b->cache = sx_cache_open(&co, &error);
    if (b->cache == NULL)
        g_error("%s", error->message);
    b->content = new_content(b, root, "whole");
    g_autofree char *plain = g_build_filename(dir, "plain", NULL);
    b->fd = open(plain, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    b->buf = g_malloc0(1 << 20);
}

int
main(int argc, char **argv)
{
    Bench b = {0};
    g_autofree char *dir = g_build_filename(argc > 1 ? argv[1] : g_get_tmp_dir(), "syncox-bench-XXXXXX", NULL);
    if (g_mkdtemp(dir) == NULL) {
        perror(dir);
        return 1;
    }
    start(&b, dir);
    report(&b, "write, a new file", plain_write, cache_write, 128 * 1024);
    report(&b, "write over", plain_write, cache_write, 128 * 1024);
    report(&b, "write over", plain_write, cache_write, 4096);
    report(&b, "read", plain_read, cache_read, 128 * 1024);
    report(&b, "read", plain_read, cache_read, 4096);
    report(&b, "read by hold", plain_read, cache_hold, 4096);
    sx_content_unref(b.content);
    sx_cache_close(b.cache);
    sx_tree_close(b.tree);
    close(b.fd);
    g_free(b.buf);
    g_autofree char *rm = g_strdup_printf("rm -rf '%s'", dir);
    return system(rm) != 0;
}
