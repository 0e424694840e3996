/* Rates of the tree's calls. Prints; judges nothing. usage: tree_bench [DIR] */
#include "tree/tree.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define CREATES 100000
#define LOOKUPS 300000
#define ENTRIES 10000

static gint64 started, started_cpu;

static gint64
cpu_us(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return (gint64)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static void
begin(void)
{
    started = g_get_monotonic_time();
    started_cpu = cpu_us();
}

static void
report(const char *what, gint64 n)
{
    double s = (double)(g_get_monotonic_time() - started) / 1e6, cpu = (double)(cpu_us() - started_cpu) / 1e6;
    printf("%-40s %9.1f ms %10.0f /s   cpu %9.1f ms %10.0f /s\n", what, s * 1000, (double)n / s, cpu * 1000, (double)n / cpu);
}

static void
must(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "tree_bench: %s failed\n", what);
        exit(1);
    }
}

static SxTree *
open_in(const char *path, gint64 *ret_root, int *ret_provider)
{
    g_autoptr(GError) error = NULL;
    SxTreeOptions o = {.path = path, .sys = sx_sys_default(), .clock = sx_clock_default(), .file_mode = 0644, .dir_mode = 0755};
    SxTree *tree = sx_tree_open(&o, &error);
    must(tree != NULL, error != NULL ? error->message : "open");
    SxCaps caps = {.probed = true, .set_mtime = true, .mtime_precision_ns = 1000000000};
    must(sx_tree_add_provider(tree, "p", "P", &caps, ret_provider, ret_root, &error), "add_provider");
    return tree;
}

static void
create_and_look(SxTree *tree, gint64 root)
{
    SxNew dir = {.kind = SX_KIND_DIR, .mode = 0755}, file = {.kind = SX_KIND_FILE, .mode = 0644};
    SxAttr d[100], a;
    char name[32];
    begin();
    for (int i = 0; i < CREATES; i++) {
        snprintf(name, sizeof name, "file-%d", i);
        if (i < 100)
            must(sx_tree_create(tree, root, name, &dir, &d[i]) == 0, "mkdir");
        else
            must(sx_tree_create(tree, d[i % 100].ino, name, &file, &a) == 0, "create");
    }
    report("create", CREATES);
    begin();
    for (int i = 0; i < LOOKUPS; i++) {
        int k = 100 + (int)((guint32)i * 2654435761u % (CREATES - 100));
        snprintf(name, sizeof name, "file-%d", k);
        must(sx_tree_lookup(tree, d[k % 100].ino, name, &a) == 0, "lookup");
    }
    report("lookup", LOOKUPS);
    begin();
    for (int i = 0; i < LOOKUPS; i++)
        must(sx_tree_getattr(tree, a.ino - i % 1000, &(SxAttr){0}) != -EIO, "getattr");
    report("getattr", LOOKUPS);
    begin();
    for (int i = 0; i < 20000; i++) {
        must(sx_tree_write_begin(tree, a.ino, &a) == 0, "write_begin");
        must(sx_tree_write_end(tree, a.ino, i, i, true, 0, &a) == 0, "write_end");
    }
    report("write session (begin and end)", 20000);
}

static void
pending(SxTree *tree, int provider)
{
    begin();
    for (int i = 0; i < 100; i++) {
        g_autoptr(GPtrArray) rows = sx_tree_pending(tree, provider, G_MAXINT64 / 2, 256);
        must(rows->len == 256, "pending");
    }
    report("pending, 256 of 100,000 rows", 100);
    begin();
    for (int i = 0; i < 100000; i++)
        sx_tree_next_due(tree);
    report("next_due", 100000);
    begin();
    SxCounts counts;
    sx_tree_counts(tree, 0, &counts);
    report("counts", 1);
}

static SxRemote *
entry(int i)
{
    g_autofree char *name = g_strdup_printf("entry-%d", i);
    SxRemote *e = sx_remote_new(name, SX_KIND_FILE);
    g_free(e->version);
    e->version = g_strdup("v1");
    e->size = i;
    e->mtime_ns = 1;
    return e;
}

static bool
count_entries(void *data, gint64 cookie, const char *name, const SxAttr *attr)
{
    ++*(int *)data;
    return true;
}

static void
listing(SxTree *tree, gint64 root, gint64 *ret_dir)
{
    SxNew dir = {.kind = SX_KIND_DIR, .mode = 0755};
    SxAttr d;
    must(sx_tree_create(tree, root, "listed", &dir, &d) == 0, "mkdir");
    g_autoptr(SxRemote) made = sx_remote_new("listed", SX_KIND_DIR);
    must(sx_tree_done_create(tree, d.row, root, "listed", 0, made, NULL), "done_create");
    g_autoptr(GPtrArray) entries = g_ptr_array_new_with_free_func((GDestroyNotify)sx_remote_free);
    for (int i = 0; i < ENTRIES; i++)
        g_ptr_array_add(entries, entry(i));
    SxListing l = {.dir = d.ino, .entries = entries, .listed_real_ms = 1};
    for (int i = 0; i < 2; i++) {
        SxListed ret;
        begin();
        must(sx_tree_apply_listing(tree, &l, NULL, &ret, NULL), "apply_listing");
        report(i == 0 ? "apply_listing, 10,000 new entries" : "apply_listing, 10,000 known entries", ENTRIES);
        sx_listed_clear(&ret);
    }
    int n = 0;
    begin();
    must(sx_tree_readdir(tree, d.ino, 0, count_entries, &n) == 0 && n == ENTRIES, "readdir");
    report("readdir, 10,000 entries", ENTRIES);
    *ret_dir = d.ino;
}

int
main(int argc, char **argv)
{
    g_autofree char *dir = argc > 1 ? g_build_filename(argv[1], "tree-bench-XXXXXX", NULL) : g_dir_make_tmp("tree-bench-XXXXXX", NULL);
    must(dir != NULL && (argc < 2 || g_mkdtemp(dir) != NULL), "mkdtemp");
    g_autofree char *path = g_build_filename(dir, "tree.db", NULL), *lock = g_build_filename(dir, "lock", NULL);
    gint64 root, listed;
    int provider;
    SxTree *tree = open_in(path, &root, &provider);
    create_and_look(tree, root);
    pending(tree, provider);
    listing(tree, root, &listed);
    begin();
    sx_tree_close(tree);
    report("close", 1);
    begin();
    tree = open_in(path, &root, &provider);
    report("open, 110,000 rows", 1);
    begin();
    must(sx_tree_check(tree, NULL), "check");
    report("check", 1);
    sx_tree_kill(tree);
    sx_tree_close(tree);
    begin();
    tree = open_in(path, &root, &provider);
    report("open after an unclean stop", 1);
    sx_tree_close(tree);
    unlink(path);
    unlink(lock);
    rmdir(dir);
    return 0;
}
