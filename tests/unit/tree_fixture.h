/* A tree in a directory of its own, with a clock by hand; shared by the tests of the tree. */
#pragma once

#include "tree/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

G_GNUC_BEGIN_IGNORE_DEPRECATIONS

typedef struct Fix {
    SxTree *tree;
    char *dir, *path;
    gint64 now_ns;
    SxClock clock;
    SxCaps caps;
    const char *vfs;
    int provider;
    gint64 root;
} Fix;

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)
#define NOW_MS(f) ((f)->now_ns / 1000000)

static inline gint64
fix_real_ns(const SxClock *clock)
{
    return ((Fix *)clock->data)->now_ns;
}
static inline gint64
fix_mono_ms(const SxClock *clock)
{
    return ((Fix *)clock->data)->now_ns / 1000000;
}
static inline guint64
fix_random(const SxClock *clock)
{
    return 4;
}
static inline void
tick(Fix *f)
{
    f->now_ns += 1000000000;
}

static inline SxTreeOptions
options_of(Fix *f)
{
    return (SxTreeOptions){.path = f->path, .sys = sx_sys_default(), .clock = &f->clock, .uid = 10, .gid = 20,
                           .file_mode = 0644, .dir_mode = 0755, .sqlite_vfs = f->vfs};
}

static inline void
open_tree(Fix *f)
{
    g_autoptr(GError) error = NULL;
    SxTreeOptions o = options_of(f);
    f->tree = sx_tree_open(&o, &error);
    if (f->tree == NULL)
        fail_msg("%s", error->message);
    assert_true(sx_tree_add_provider(f->tree, "files", "Files", &f->caps, &f->provider, &f->root, &error));
}

static inline void
reopen(Fix *f, bool kill)
{
    if (kill)
        sx_tree_kill(f->tree);
    sx_tree_close(f->tree);
    open_tree(f);
}

static inline Fix *
fix_new(void)
{
    Fix *f = g_new0(Fix, 1);
    f->dir = g_dir_make_tmp("syncox-tree-XXXXXX", NULL);
    assert_non_null(f->dir);
    f->path = g_build_filename(f->dir, "tree.db", NULL);
    f->now_ns = (gint64)1700000000 * 1000000000;
    f->clock = (SxClock){.real_ns = fix_real_ns, .mono_ms = fix_mono_ms, .random = fix_random, .data = f};
    f->caps = (SxCaps){.probed = true, .version_after_write = true, .content_version = true, .set_mtime = true,
                       .set_mode = true, .symlinks = true, .mtime_precision_ns = 1000000000, .name_max = 255,
                       .forbidden = ""};
    return f;
}

static inline void
fix_free(Fix *f)
{
    if (f->tree != NULL)
        sx_tree_kill(f->tree); /* saves the copying back */
    sx_tree_close(f->tree);
    const char *files[] = {"tree.db", "tree.db-wal", "tree.db-shm", "lock"};
    for (gsize i = 0; i < G_N_ELEMENTS(files); i++) {
        g_autofree char *file = g_build_filename(f->dir, files[i], NULL);
        unlink(file);
    }
    assert_int_equal(rmdir(f->dir), 0);
    g_free(f->path);
    g_free(f->dir);
    g_free(f);
}

static inline int
set_up(void **state)
{
    Fix *f = *state = fix_new();
    open_tree(f);
    return 0;
}

static inline int
tear_down(void **state)
{
    fix_free(*state);
    return 0;
}

static inline SxNew
new_of(SxKind kind)
{
    return (SxNew){.kind = kind, .mode = 0644, .uid = 10, .gid = 20, .target = kind == SX_KIND_SYMLINK ? "there" : NULL};
}

static inline SxAttr
make(Fix *f, gint64 parent, const char *name, SxKind kind)
{
    SxAttr a;
    SxNew n = new_of(kind);
    assert_int_equal(sx_tree_create(f->tree, parent, name, &n, &a), 0);
    return a;
}

static inline int
mv(Fix *f, gint64 p, const char *n, gint64 np, const char *nn, unsigned flags)
{
    SxRenamed r;
    return sx_tree_rename(f->tree, p, n, np, nn, flags, false, 0, &r);
}

static inline SxRow *
row_at(Fix *f, gint64 parent, const char *name)
{
    SxAttr a;
    assert_int_equal(sx_tree_lookup(f->tree, parent, name, &a), 0);
    SxRow *row = sx_tree_row(f->tree, a.row);
    assert_non_null(row);
    return row;
}

static inline unsigned
bits(Fix *f, gint64 parent, const char *name)
{
    g_autoptr(SxRow) row = row_at(f, parent, name);
    return row->pending;
}

static inline void
check(Fix *f)
{
    g_autoptr(GError) error = NULL;
    if (!sx_tree_check(f->tree, &error))
        fail_msg("%s", error->message);
}

G_GNUC_END_IGNORE_DEPRECATIONS
