#include "test_cache_env.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#define B SX_BLOCK
#define MB (1024 * 1024)

static void
assert_remote(SxContent *c, gint64 off, gsize n)
{
    g_autofree guint8 *got = g_malloc(n), *want = g_malloc(n);
    assert_int_equal(sx_content_read(c, off, got, n), n);
    remote_bytes(sx_content_ino(c), sx_content_cver(c), off, n, want);
    assert_memory_equal(got, want, n);
}

static void
a_new_file_is_written_and_read(void **state)
{
    Env *e = env_new(64 * MB);
    fake_tree_add(e->tree, 7, 0, 2, true);
    SxAttr a = {.ino = 7};
    SxContent *c = sx_content_create(e->cache, &a, NULL);
    assert_non_null(c);
    assert_true(sx_content_complete(c));
    assert_int_equal(sx_content_mtime_ns(c), SX_TIME_UNKNOWN);
    assert_int_equal(write_all_steps(c, 3, "hello", 5), 5);
    assert_int_equal(sx_content_size(c), 8);
    assert_int_equal(sx_content_mtime_ns(c), e->now_ms * 1000000);
    char buf[16];
    assert_int_equal(sx_content_read(c, 0, buf, sizeof buf), 8);
    assert_memory_equal(buf, "\0\0\0hello", 8);
    assert_int_equal(sx_content_read(c, 8, buf, sizeof buf), 0);
    assert_int_equal(fake_tree_row(e->tree, 7)->cached, 2);
    assert_ptr_equal(sx_cache_peek(e->cache, 7), c);
    sx_content_unref(c);
    sx_content_unref(c);
    assert_null(sx_cache_peek(e->cache, 7));
    assert_true(env_used_is_right(e));
    env_free(e);
}

static void
blocks_come_and_complete(void **state)
{
    Env *e = env_new(64 * MB);
    gint64 size = 5 * B + 100, off, len;
    fake_tree_add(e->tree, 9, size, 0, false);
    SxContent *c = env_open(e, 9);
    g_autofree char *path = env_path(e, 9, 1, false), *map = env_path(e, 9, 1, true);
    assert_int_not_equal(access(path, F_OK), 0); /* nothing is made before bytes come */
    char buf[10];
    assert_int_equal(sx_content_read(c, 0, buf, 10), -ENODATA);
    assert_true(sx_content_missing(c, B + 5, 10, &off, &len));
    assert_int_equal(off, B);
    assert_int_equal(len, B);
    assert_int_equal(fetch(c, B, 2 * B), 0);
    assert_int_equal(fake_tree_row(e->tree, 9)->cached, 1);
    assert_int_equal(access(map, F_OK), 0);
    assert_int_equal(sx_content_present_bytes(c), 2 * B);
    assert_remote(c, B + 7, 2 * B - 7);
    assert_int_equal(sx_content_read(c, B - 1, buf, 2), -ENODATA);
    assert_true(sx_content_missing(c, 0, size, &off, &len));
    assert_int_equal(off, 0);
    assert_int_equal(len, B);
    assert_int_equal(fetch(c, size - 1, 1), 0);
    assert_int_equal(sx_content_present_bytes(c), 2 * B + 100);
    assert_int_equal(fetch(c, 0, size), 0);
    assert_true(sx_content_complete(c));
    assert_int_equal(fake_tree_row(e->tree, 9)->cached, 2);
    assert_int_not_equal(access(map, F_OK), 0);
    assert_remote(c, 0, (gsize)size);
    sx_content_unref(c);
    env_free(e);
}

static void
seal_and_epoch(void **state)
{
    Env *e = env_new(64 * MB);
    fake_tree_add(e->tree, 1, 0, 2, true);
    SxContent *c = env_open(e, 1);
    sx_content_set_announced(c);
    assert_int_equal(write_all_steps(c, 0, "a", 1), 1);
    guint64 epoch = sx_content_seal(c);
    assert_false(sx_content_announced(c));
    assert_true(sx_content_same_epoch(c, epoch));
    assert_int_equal(write_all_steps(c, 0, "b", 1), 1);
    assert_false(sx_content_same_epoch(c, epoch));
    epoch = sx_content_seal(c);
    assert_int_equal(sx_content_truncate(c, 0), 0);
    assert_false(sx_content_same_epoch(c, epoch));
    sx_content_unref(c);
    env_free(e);
}

/* ---- writes into absent blocks ---- */

static void
prepare_names_what_a_write_cuts(void **state)
{
    Env *e = env_new(64 * MB);
    gint64 size = 3 * B + 50, off, len;
    fake_tree_add(e->tree, 5, size, 0, false);
    SxContent *c = env_open(e, 5);
    static const struct {
        gint64 off, len, need_off, need_len;
    } cases[] = {
        {0, B, -1, 0},           {0, 3 * B + 50, -1, 0},     {B, 2 * B, -1, 0},      {3 * B, 50, -1, 0},    {3 * B, 500, -1, 0},
        {1, 10, 0, B},           {0, B - 1, 0, B},           {B - 1, B + 1, 0, B},   {B, B + 1, 2 * B, B},  {3 * B, 49, 3 * B, 50},
        {4 * B, 1, -1, 0},       {3 * B + 50, 1, 3 * B, 50}, {2 * B, 0, -1, 0},      {2 * B + 1, 0, 2 * B, B},
        {3 * B + 50, 0, -1, 0},  {3 * B + 51, 0, -1, 0},    {3 * B, 0, -1, 0},      {0, 0, -1, 0},
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        int rc = sx_content_prepare(c, cases[i].off, cases[i].len, &off, &len);
        assert_int_equal(rc, cases[i].need_off >= 0);
        if (rc == 1) {
            assert_int_equal(off, cases[i].need_off);
            assert_int_equal(len, cases[i].need_len);
            assert_int_equal(sx_content_write(c, cases[i].off, "x", (gsize)MIN(cases[i].len, 1)), cases[i].len > 0 ? -ENODATA : 0);
        }
    }
    assert_int_equal(sx_content_truncate(c, B + 1), -ENODATA);
    assert_int_equal(sx_content_fallocate(c, 3, 5, B), -ENODATA);
    assert_int_equal(sx_content_size(c), size);
    /* Longer, with an absent end: what the remote lacks is zeros, and nobody asks it for more than it has. */
    guint8 buf[64], zeros[64] = {0};
    assert_int_equal(sx_content_fallocate(c, 0, 0, 4 * B), 0);
    assert_int_equal(sx_content_truncate(c, 5 * B), 0);
    assert_int_equal(sx_content_present_bytes(c), 5 * B - size);
    assert_true(sx_content_missing(c, 3 * B, 2 * B, &off, &len));
    assert_int_equal(off, 3 * B);
    assert_int_equal(len, 50);
    assert_int_equal(fetch(c, 3 * B, B), 0);
    assert_remote(c, 3 * B, 50);
    assert_int_equal(sx_content_read(c, 3 * B + 50, buf, 64), 64);
    assert_memory_equal(buf, zeros, 64);
    assert_int_equal(sx_content_truncate(c, B), 0);
    assert_int_equal(sx_content_truncate(c, 5 * B), 0);
    assert_int_equal(sx_content_read(c, 2 * B, buf, 64), 64); /* zeros that are there */
    assert_memory_equal(buf, zeros, 64);
    assert_int_equal(sx_content_read(c, 0, buf, 64), -ENODATA);
    sx_content_unref(c);
    env_free(e);
}

static void
odd_arguments(void **state)
{
    Env *e = env_new(64 * MB);
    gint64 off, len;
    fake_tree_add(e->tree, 1, 10, 0, false);
    fake_tree_add(e->tree, 2, G_MAXINT64 - 5, 0, false);
    SxContent *c = env_open(e, 1);
    char buf[8];
    assert_int_equal(sx_content_read(c, -1, buf, 1), -EINVAL);
    assert_int_equal(sx_content_write(c, -1, buf, 1), -EINVAL);
    assert_int_equal(sx_content_write(c, G_MAXINT64 - 2, buf, 8), -EFBIG);
    assert_int_equal(sx_content_prepare(c, G_MAXINT64 - 2, 8, &off, &len), -EFBIG);
    assert_int_equal(sx_content_prepare(c, -1, 8, &off, &len), -EINVAL);
    assert_int_equal(sx_content_truncate(c, -1), -EINVAL);
    assert_int_equal(sx_content_fallocate(c, 0, 0, 0), -EINVAL);
    assert_int_equal(sx_content_fallocate(c, 0, 5, G_MAXINT64), -EFBIG);
    assert_int_equal(sx_content_fallocate(c, 0x20, 0, B), -EOPNOTSUPP);
    assert_int_equal(sx_content_fill(c, 1, 5, buf, 8), -EINVAL);
    assert_int_equal(sx_content_fill(c, 2, 0, buf, 8), -ESTALE);
    assert_int_equal(sx_content_fill(c, 1, 0, buf, 8), 0); /* not all of the tail: left out */
    assert_int_equal(sx_content_present_bytes(c), 0);
    assert_int_equal(sx_content_seek(c, 10, SEEK_DATA), -ENXIO);
    assert_int_equal(sx_content_seek(c, 0, SEEK_SET), -EINVAL);
    sx_content_unref(c);
    SxAttr a = {.ino = 2};
    g_autoptr(GError) error = NULL;
    assert_null(sx_content_open(e->cache, &a, &error));
    assert_true(sx_error_is(error, SX_ERR_TOO_LARGE));
    a.ino = 3;
    g_clear_error(&error);
    assert_null(sx_content_open(e->cache, &a, &error));
    assert_true(sx_error_is(error, SX_ERR_NOT_FOUND));
    env_free(e);
}

/* The block whose end did not reach the disk stays absent, and the count does not claim it. */
static void
short_write_over_absent_blocks(void **state)
{
    Env *e = env_new(64 * MB);
    fake_tree_add(e->tree, 5, 4 * B, 0, true);
    SxContent *c = env_open(e, 5);
    g_autofree guint8 *buf = g_malloc0(3 * B);
    memset(buf, 'w', 3 * B);
    assert_int_equal(fetch(c, 3 * B, B), 0); /* the file exists now */
    int p[2];
    assert_int_equal(pipe(p), 0);
    fcntl(p[1], F_SETPIPE_SZ, 4 * B);
    assert_int_equal(write(p[1], buf, B + 4096), B + 4096);
    close(p[1]); /* fewer bytes than announced */
    assert_int_equal(sx_content_write_fd(c, 0, p[0], 2 * B), B);
    close(p[0]);
    assert_int_equal(sx_content_present_bytes(c), 2 * B);
    assert_int_equal(fetch(c, 0, 4 * B), 0);
    assert_remote(c, B, 3 * B);
    assert_int_equal(sx_content_read(c, 0, buf, 3 * B), 3 * B);
    assert_int_equal(buf[B - 1], 'w');
    sx_content_unref(c);
    env_free(e);
}

/* The cut reached the file and not the map; the process dies; the remote's bytes must not come back behind the cut. */
static void
cut_whose_map_failed(void **state)
{
    for (int crash = 0; crash < 2; crash++) {
        Env *e = env_new(64 * MB);
        SxAttr *a = fake_tree_add(e->tree, 5, 4 * B, 0, false);
        SxContent *c = env_open(e, 5);
        assert_int_equal(fetch(c, 0, B), 0);
        a->dirty = a->writing = true;
        env_fault(e, CALL_PWRITE, 1, FAULT_ERRNO, ENOSPC);
        e->sticky = true;
        assert_int_equal(sx_content_truncate(c, 2 * B), 0);
        assert_int_equal(sx_content_truncate(c, 4 * B), -ENOSPC); /* not before the map knows */
        assert_int_equal(sx_content_write(c, 3 * B, "x", 1), -ENOSPC);
        assert_int_equal(sx_content_size(c), 2 * B);
        e->sticky = false;
        assert_true(env_fault_hit(e));
        if (crash) {
            sx_content_unref(c);
            env_crash(e);
            env_start(e);
            c = env_open(e, 5);
        }
        assert_int_equal(sx_content_size(c), 2 * B);
        assert_int_equal(sx_content_truncate(c, 4 * B), 0);
        assert_int_equal(sx_content_present_bytes(c), 3 * B);
        guint8 buf[16], zeros[16] = {0};
        assert_int_equal(sx_content_read(c, 3 * B, buf, 16), 16);
        assert_memory_equal(buf, zeros, 16);
        sx_content_unref(c);
        env_free(e);
    }
}

/* ---- repair at open ---- */

static void
damage(Env *e, gint64 ino, const char *bytes, gint64 off)
{
    g_autofree char *map = env_path(e, ino, 1, true);
    int fd = open(map, O_WRONLY);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, bytes, strlen(bytes), off), strlen(bytes));
    close(fd);
}

static void
a_damaged_map(void **state)
{
    static const struct {
        const char *bytes;
        gint64 off;
        gint64 size; /* of the map, or -1 */
    } hurts[] = {{"BADMAGIC", 0, -1}, {"\x07", 8, -1}, {"\x07", 12, -1}, {"\x07", 16, -1}, {"\x07", 24, -1}, {"\x09", 32, -1},
                 {"\xff\xff", 46, -1}, {"", 0, 0}, {"", 0, 70}, {"", 0, 1000}, {"", 0, -2}};
    for (guint i = 0; i < G_N_ELEMENTS(hurts) * 2; i++) {
        bool dirty = i % 2;
        Env *e = env_new(64 * MB);
        SxAttr *a = fake_tree_add(e->tree, 5, 4 * B, 0, false);
        SxContent *c = env_open(e, 5);
        assert_int_equal(fetch(c, B, B), 0);
        if (dirty) {
            a->dirty = true;
            g_autofree guint8 *buf = g_malloc0(B);
            memset(buf, 'L', B);
            assert_int_equal(write_all_steps(c, 2 * B, buf, B), B);
        }
        sx_content_unref(c);
        g_autofree char *map = env_path(e, 5, 1, true);
        if (hurts[i / 2].size == -2)
            unlink(map);
        else if (hurts[i / 2].size >= 0)
            assert_int_equal(truncate(map, hurts[i / 2].size), 0);
        else
            damage(e, 5, hurts[i / 2].bytes, hurts[i / 2].off);
        sx_log_set_level((SxLogLevel)-1);
        c = env_open(e, 5);
        sx_log_set_level(SX_LOG_ERROR);
        /* Dirty: what is on the disk may be the only copy. Clean: all comes again. */
        assert_int_equal(sx_content_present_bytes(c), dirty ? 2 * B : 0);
        assert_int_equal(a->cached, dirty ? 1 : 0);
        assert_int_equal(fetch(c, 0, 4 * B), 0);
        assert_remote(c, 0, 2 * B);
        assert_remote(c, 3 * B, B);
        guint8 byte;
        assert_int_equal(sx_content_read(c, 2 * B, &byte, 1), 1);
        assert_int_equal(byte, dirty ? 'L' : remote_byte(5, 1, 2 * B));
        assert_int_equal(a->cached, 2);
        sx_content_unref(c);
        assert_true(env_used_is_right(e));
        env_free(e);
    }
}

static void
a_full_map_is_a_complete_file(void **state)
{
    Env *e = env_new(64 * MB);
    SxAttr *a = fake_tree_add(e->tree, 5, 2 * B, 0, false);
    SxContent *c = env_open(e, 5);
    assert_int_equal(fetch(c, 0, B), 0);
    fake_tree_fail(e->tree, EIO); /* the last bit is set, the tree is not told: as after a crash between */
    assert_int_equal(fetch(c, B, B), 0);
    fake_tree_fail(e->tree, 0);
    assert_true(sx_content_complete(c));
    assert_int_equal(a->cached, 1);
    sx_content_unref(c);
    c = env_open(e, 5);
    assert_true(sx_content_complete(c));
    assert_int_equal(a->cached, 2);
    g_autofree char *map = env_path(e, 5, 1, true);
    assert_int_not_equal(access(map, F_OK), 0);
    assert_remote(c, 0, 2 * B);
    sx_content_unref(c);
    env_free(e);
}

static void
a_file_that_is_gone_or_short(void **state)
{
    for (int i = 0; i < 8; i++) {
        bool dirty = i & 1, gone = i & 2, partial = i & 4;
        Env *e = env_new(64 * MB);
        SxAttr *a = fake_tree_add(e->tree, 5, 2 * B, 0, false);
        SxContent *c = env_open(e, 5);
        assert_int_equal(fetch(c, 0, partial ? B : 2 * B), 0);
        sx_content_unref(c);
        a->dirty = dirty;
        g_autofree char *path = env_path(e, 5, 1, false);
        assert_int_equal(gone ? unlink(path) : truncate(path, B), 0);
        g_autoptr(GError) error = NULL;
        SxAttr ask = {.ino = 5};
        sx_log_set_level((SxLogLevel)-1);
        c = sx_content_open(e->cache, &ask, &error);
        sx_log_set_level(SX_LOG_ERROR);
        if (dirty) { /* never zeros, never the remote's bytes as if they were ours */
            assert_null(c);
            assert_true(sx_error_is(error, SX_ERR_CORRUPT));
            assert_non_null(strstr(error->message, "content lost"));
            assert_null(sx_cache_peek(e->cache, 5));
            assert_int_not_equal(a->cached, 0);
        } else {
            assert_non_null(c);
            assert_int_equal(a->cached, 0);
            assert_int_equal(fetch(c, 0, 2 * B), 0);
            assert_remote(c, 0, 2 * B);
            sx_content_unref(c);
        }
        env_free(e);
    }
}

/* Pinned content cannot be evicted, but when it is gone it is gone: it comes again. */
static void
a_pinned_file_that_is_gone(void **state)
{
    Env *e = env_new(64 * MB);
    SxAttr *a = fake_tree_add(e->tree, 5, 2 * B, 0, false);
    SxContent *c = env_open(e, 5);
    assert_int_equal(fetch(c, 0, 2 * B), 0);
    sx_content_unref(c);
    fake_tree_pin(e->tree, 5, true);
    assert_int_equal(sx_cache_evict(e->cache, 5), -EBUSY);
    g_autofree char *path = env_path(e, 5, 1, false);
    assert_int_equal(unlink(path), 0);
    for (int i = 0; i < 2; i++) {
        c = env_open(e, 5);
        assert_int_equal(sx_content_present_bytes(c), 0);
        assert_int_equal(a->cached, 1);
        if (i == 1)
            assert_int_equal(fetch(c, 0, 2 * B), 0);
        sx_content_unref(c);
    }
    assert_int_equal(a->cached, 2);
    env_free(e);
}

/* A crash between a write and the commit of its size: the file knows. */
static void
the_file_knows_its_size_while_writing(void **state)
{
    Env *e = env_new(64 * MB);
    SxAttr *a = fake_tree_add(e->tree, 5, 0, 2, true);
    SxContent *c = env_open(e, 5);
    a->writing = true;
    assert_int_equal(write_all_steps(c, 0, "0123456789", 10), 10);
    sx_content_unref(c);
    env_crash(e);
    env_start(e);
    c = env_open(e, 5);
    assert_int_equal(sx_content_size(c), 10);
    assert_int_not_equal(sx_content_disk_mtime_ns(c), SX_TIME_UNKNOWN);
    a->size = 10;
    assert_int_equal(sx_content_truncate(c, 4), 0);
    sx_content_unref(c);
    c = env_open(e, 5);
    assert_int_equal(sx_content_size(c), 4);
    sx_content_unref(c);
    env_free(e);
}

/* ---- power loss ---- */

static void
set_age(const char *path, int seconds)
{
    struct timespec t[2];
    clock_gettime(CLOCK_REALTIME, &t[0]);
    t[0].tv_sec -= seconds;
    t[1] = t[0];
    assert_int_equal(utimensat(AT_FDCWD, path, t, 0), 0);
}

/* Files 1 (synced before), 2 (not synced), 3 (dirty, partly synced, with a hole in what was not), 4 (written after the loss). */
static Env *
lose_power(bool synced)
{
    Env *e = env_new(64 * MB);
    for (gint64 ino = 1; ino <= 2; ino++) {
        fake_tree_add(e->tree, ino, 2 * B, 0, false);
        g_autoptr(SxContent) c = env_open(e, ino);
        assert_int_equal(fetch(c, 0, 2 * B), 0);
    }
    if (synced) {
        e->now_ms += SX_CACHE_SYNC_INTERVAL_MS;
        sx_cache_tick(e->cache);
        g_autofree char *mark = g_build_filename(e->dir, "cache", "synced", NULL);
        set_age(mark, 50);
    }
    SxAttr *a = fake_tree_add(e->tree, 3, 4 * B, 0, false);
    g_autoptr(SxContent) c = env_open(e, 3);
    assert_int_equal(fetch(c, 0, B), 0);
    a->dirty = true;
    assert_int_equal(sx_content_sync(c), 0);
    assert_int_equal(fetch(c, B, 2 * B), 0);
    g_clear_pointer(&c, sx_content_unref);
    env_crash(e);
    g_autofree char *path = env_path(e, 3, 1, false);
    int fd = open(path, O_RDWR); /* what the disk did not get */
    assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, B, B), 0);
    close(fd);
    static const int ages[] = {100, 20, 20};
    for (int i = 0; i < 3; i++) {
        g_autofree char *content = env_path(e, i + 1, 1, false);
        set_age(content, ages[i]);
    }
    g_autofree char *map = env_path(e, 3, 1, true);
    set_age(map, 20);
    fake_tree_started(e->tree, false, false);
    env_start(e);
    return e;
}

static void
check_after_loss(Env *e, bool synced)
{
    gint64 off, len;
    g_autoptr(SxContent) one = env_open(e, 1);
    assert_int_equal(sx_content_complete(one), synced);
    g_autoptr(SxContent) two = env_open(e, 2);
    assert_false(sx_content_complete(two));
    assert_int_equal(fake_tree_row(e->tree, 2)->cached, 0);
    g_autoptr(SxContent) three = env_open(e, 3);
    assert_int_equal(sx_content_present_bytes(three), 2 * B); /* the synced block, and the one that shows to be there */
    assert_true(sx_content_missing(three, 0, 4 * B, &off, &len));
    assert_int_equal(off, B);
    assert_int_equal(len, B);
    assert_remote(three, 0, B);
    assert_int_equal(fetch(three, 0, 4 * B), 0);
    assert_remote(three, 0, 4 * B);
}

static void
power_loss_is_repaired_at_open(void **state)
{
    for (int synced = 0; synced < 2; synced++) {
        Env *e = lose_power(synced);
        check_after_loss(e, synced);
        env_free(e);
    }
}

/* Killed before the sweep was done: the next start is in the same boot and must still know. */
static void
power_loss_outlives_a_crash(void **state)
{
    Env *e = lose_power(true);
    fake_tree_add(e->tree, 4, B, 0, false);
    SxContent *c = env_open(e, 4);
    assert_int_equal(fetch(c, 0, B), 0);
    sx_content_unref(c);
    e->now_ms += SX_CACHE_SYNC_INTERVAL_MS + 1;
    sx_cache_tick(e->cache); /* must not make the lost ones look synced */
    env_crash(e);
    fake_tree_started(e->tree, false, true);
    env_start(e);
    c = env_open(e, 4);
    assert_true(sx_content_complete(c)); /* written after the loss */
    sx_content_unref(c);
    check_after_loss(e, true);
    env_free(e);
}

static void
power_loss_is_over_after_a_sweep(void **state)
{
    Env *e = lose_power(true);
    sx_cache_sweep(e->cache, NULL);
    assert_int_equal(fake_tree_row(e->tree, 1)->cached, 2);
    assert_int_equal(fake_tree_row(e->tree, 2)->cached, 0);
    assert_true(env_used_is_right(e));
    g_autofree char *mark = g_build_filename(e->dir, "cache", "recovering", NULL);
    assert_int_not_equal(access(mark, F_OK), 0);
    check_after_loss(e, true);
    env_free(e);
}

/* ---- sweep, discard, eviction ---- */

static void
touch(Env *e, const char *name)
{
    g_autofree char *path = g_build_filename(e->dir, "cache", "content", name, NULL);
    g_autofree char *dir = g_path_get_dirname(path);
    g_mkdir_with_parents(dir, 0700);
    assert_true(g_file_set_contents(path, "leftover", -1, NULL));
}

static bool
there(Env *e, const char *name)
{
    g_autofree char *path = g_build_filename(e->dir, "cache", "content", name, NULL);
    return access(path, F_OK) == 0;
}

static void
the_sweep_removes_what_is_unknown(void **state)
{
    Env *e = env_new(64 * MB);
    for (gint64 ino = 1; ino <= 3; ino++) {
        fake_tree_add(e->tree, ino, 2 * B, 0, false);
        g_autoptr(SxContent) c = env_open(e, ino);
        assert_int_equal(fetch(c, 0, ino == 1 ? B : 2 * B), 0);
    }
    touch(e, "63/63-1");       /* unknown inode */
    touch(e, "63/63-1.map");
    touch(e, "02/2-7");        /* another version */
    touch(e, "03/3-2.map");    /* a map without content */
    touch(e, "05/README");     /* not ours */
    touch(e, "05/05-1");       /* not a name that we would write */
    touch(e, "06/5-1");        /* in a wrong folder */
    fake_tree_row(e->tree, 3)->cached = 0; /* a crash in an eviction */
    env_crash(e);
    env_start(e);
    assert_int_equal(sx_cache_used(e->cache), 0);
    SxContent *open = env_open(e, 1);
    sx_cache_sweep(e->cache, NULL);
    assert_false(there(e, "63/63-1") || there(e, "63/63-1.map") || there(e, "02/2-7") || there(e, "03/3-2.map"));
    assert_false(there(e, "03/3-1"));
    assert_true(there(e, "05/README") && there(e, "05/05-1") && there(e, "06/5-1"));
    assert_true(there(e, "01/1-1") && there(e, "01/1-1.map") && there(e, "02/2-1"));
    assert_int_equal(sx_cache_used(e->cache), 3 * B);
    sx_content_unref(open);
    sx_cache_sweep(e->cache, NULL); /* once more changes nothing */
    assert_int_equal(sx_cache_used(e->cache), 3 * B);
    env_free(e);
}

static void
an_unreadable_tree_deletes_nothing(void **state)
{
    Env *e = env_new(64 * MB);
    fake_tree_add(e->tree, 1, B, 0, false);
    SxContent *c = env_open(e, 1);
    assert_int_equal(fetch(c, 0, B), 0);
    sx_content_unref(c);
    fake_tree_broken(e->tree, true);
    sx_cache_sweep(e->cache, NULL);
    sx_cache_discard(e->cache, 1, 1);
    assert_int_not_equal(sx_cache_evict(e->cache, 1), 0);
    fake_tree_broken(e->tree, false);
    assert_true(there(e, "01/1-1"));
    env_free(e);
}

static void
discard_waits_for_the_last_user(void **state)
{
    Env *e = env_new(64 * MB);
    fake_tree_add(e->tree, 1, B, 0, false);
    SxContent *c = env_open(e, 1);
    assert_int_equal(fetch(c, 0, B), 0);
    sx_cache_discard(e->cache, 1, 1); /* the tree still has it */
    sx_content_unref(c);
    assert_true(there(e, "01/1-1"));
    c = env_open(e, 1);
    fake_tree_remove(e->tree, 1);
    sx_cache_discard(e->cache, 1, 1);
    assert_remote(c, 0, B);
    sx_content_unref(c);
    assert_false(there(e, "01/1-1"));
    assert_int_equal(sx_cache_used(e->cache), 0);
    /* The number is used again after a power loss took the tree's last commits: nothing shines through. */
    touch(e, "01/1-1");
    SxAttr *a = fake_tree_add(e->tree, 1, 0, 2, true);
    c = sx_content_create(e->cache, a, NULL);
    assert_int_equal(sx_content_size(c), 0);
    sx_content_unref(c);
    env_free(e);
}

/* ---- replacement ---- */

static void
a_held_version_outlives_its_replacement(void **state)
{
    Env *e = env_new(64 * MB);
    fake_tree_add(e->tree, 1, B, 0, false);
    SxContent *c = env_open(e, 1);
    assert_int_equal(fetch(c, 0, B), 0);
    SxHold *hold[3];
    int fd[3];
    for (int i = 0; i < 3; i++) {
        assert_int_equal(sx_content_hold(c, 0, 10, &fd[i], &hold[i]), 10);
        gint64 cver = fake_tree_replace(e->tree, 1, B);
        assert_int_equal(sx_content_replace(c, cver, B), 0);
        assert_int_equal(sx_content_replace(c, cver, B), 0);
        char buf[1];
        assert_int_equal(sx_content_read(c, 0, buf, 1), -ENODATA);
        int none;
        SxHold *no = NULL;
        assert_int_equal(sx_content_hold(c, 0, 1, &none, &no), -ENODATA);
        assert_int_equal(sx_content_fill(c, cver - 1, 0, buf, 1), -ESTALE);
        assert_int_equal(fetch(c, 0, B), 0);
        assert_remote(c, 0, B);
    }
    assert_true(sx_cache_used(e->cache) >= 4 * B); /* the space is taken as long as somebody reads there */
    sx_content_unref(c); /* the holds keep it */
    assert_non_null(c = sx_cache_peek(e->cache, 1));
    sx_content_unref(c);
    for (int i = 0; i < 3; i++) {
        guint8 byte;
        assert_int_equal(pread(fd[i], &byte, 1, 7), 1);
        assert_int_equal(byte, remote_byte(1, i + 1, 7));
        sx_content_release(hold[i]);
        assert_int_equal(fcntl(fd[i], F_GETFD), -1);
    }
    assert_null(sx_cache_peek(e->cache, 1));
    assert_int_equal(sx_cache_used(e->cache), B);
    assert_int_equal(env_disk_use(e), B);
    env_free(e);
}

static void
others_may_write_the_file(void **state)
{
    Env *e = env_new(64 * MB);
    fake_tree_add(e->tree, 1, 0, 2, true);
    SxContent *c = env_open(e, 1);
    assert_int_equal(write_all_steps(c, 0, "abc", 3), 3);
    assert_int_equal(sx_content_refresh(c), 0);
    guint64 epoch = sx_content_seal(c);
    assert_int_equal(sx_content_refresh(c), 0);
    assert_true(sx_content_same_epoch(c, epoch));
    assert_int_equal(write_all_steps(c, 0, "xyz", 3), 3);
    assert_int_equal(sx_content_refresh(c), 0);
    epoch = sx_content_seal(c);
    assert_int_equal(pwrite(sx_content_fd(c), "k", 1, 1), 1); /* the kernel, in passthrough: same size */
    struct timespec later[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 2000000000}};
    assert_int_equal(futimens(sx_content_fd(c), later), 0);
    assert_int_equal(sx_content_refresh(c), 0);
    assert_false(sx_content_same_epoch(c, epoch));
    epoch = sx_content_seal(c);
    assert_int_equal(pwrite(sx_content_fd(c), "longer", 6, 3), 6);
    assert_int_equal(sx_content_refresh(c), 0);
    assert_false(sx_content_same_epoch(c, epoch));
    assert_int_equal(sx_content_size(c), 9);
    sx_content_unref(c);
    env_free(e);
}

/* ---- waiting ---- */

typedef struct Later {
    SxContent *c;
    GCancellable *cancel;
    int what;
    int done; /* atomic */
} Later;

static gpointer
do_later(gpointer data)
{
    Later *l = data;
    if (l->what == 1) /* an error is for those who wait now: again until the waiter was there */
        while (!g_atomic_int_get(&l->done)) {
            sx_content_set_error(l->c, 0, 10, EHOSTUNREACH);
            g_thread_yield();
        }
    else if (l->what == 2)
        g_cancellable_cancel(l->cancel);
    else if (l->what == 3)
        for (gint64 cver = 2; !g_atomic_int_get(&l->done); cver++) {
            sx_content_replace(l->c, cver, B);
            g_thread_yield();
        }
    else
        fetch(l->c, 0, B);
    return NULL;
}

static void
waits_end(void **state)
{
    static const int results[] = {0, -EHOSTUNREACH, -EINTR, -ESTALE};
    for (int what = 0; what < 4; what++) {
        Env *e = env_new(64 * MB);
        fake_tree_add(e->tree, 1, 3 * B, 0, false);
        SxContent *c = env_open(e, 1);
        g_autoptr(GCancellable) cancel = g_cancellable_new();
        sx_content_set_error(c, 0, B, EIO); /* nobody waits: nobody hears */
        assert_int_equal(sx_content_wait(c, 0, 1, e->now_ms, NULL), -ETIMEDOUT);
        Later l = {c, cancel, what, 0};
        GThread *t = g_thread_new("later", do_later, &l);
        int rc = sx_content_wait(c, 0, 10, e->now_ms + 60000, cancel);
        g_atomic_int_set(&l.done, 1);
        g_thread_join(t);
        assert_int_equal(rc, results[what]);
        sx_content_unref(c);
        env_free(e);
    }
}

/* ---- opening the cache itself ---- */

static void
a_cache_that_does_not_open(void **state)
{
    for (int nth = 1;; nth++) {
        Env *e = env_new(64 * MB);
        env_crash(e);
        fake_tree_started(e->tree, false, false);
        g_autofree char *dir = g_build_filename(e->dir, "other", "deep", NULL);
        SxCacheOptions o = {.dir = dir, .size = 1, .sys = &e->sys, .clock = &e->clock, .tree = e->tree};
        g_autoptr(GError) error = NULL;
        env_fault(e, CALL_ALL & ~CALL_CLOSE, nth, FAULT_ERRNO, EACCES);
        SxCache *cache = sx_cache_open(&o, &error);
        bool reached = env_fault_hit(e);
        if (cache == NULL) {
            assert_true(reached);
            assert_non_null(strstr(error->message, dir));
        }
        sx_cache_close(cache);
        env_start(e);
        env_free(e);
        if (!reached)
            break;
        assert_true(nth < 100);
    }
}

int
main(void)
{
    sx_log_set_level(SX_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_file_is_written_and_read),
        cmocka_unit_test(blocks_come_and_complete),
        cmocka_unit_test(seal_and_epoch),
        cmocka_unit_test(prepare_names_what_a_write_cuts),
        cmocka_unit_test(odd_arguments),
        cmocka_unit_test(short_write_over_absent_blocks),
        cmocka_unit_test(cut_whose_map_failed),
        cmocka_unit_test(a_damaged_map),
        cmocka_unit_test(a_full_map_is_a_complete_file),
        cmocka_unit_test(a_file_that_is_gone_or_short),
        cmocka_unit_test(a_pinned_file_that_is_gone),
        cmocka_unit_test(the_file_knows_its_size_while_writing),
        cmocka_unit_test(power_loss_is_repaired_at_open),
        cmocka_unit_test(power_loss_outlives_a_crash),
        cmocka_unit_test(power_loss_is_over_after_a_sweep),
        cmocka_unit_test(the_sweep_removes_what_is_unknown),
        cmocka_unit_test(an_unreadable_tree_deletes_nothing),
        cmocka_unit_test(discard_waits_for_the_last_user),
        cmocka_unit_test(a_held_version_outlives_its_replacement),
        cmocka_unit_test(others_may_write_the_file),
        cmocka_unit_test(waits_end),
        cmocka_unit_test(a_cache_that_does_not_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
