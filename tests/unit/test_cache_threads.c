/* Many threads on few contents; meant for ThreadSanitizer, and right without it.
 *
 * Every byte that is not local is remote_byte(ino, cver, off); each writer owns certain blocks and STAMP
 * there, so a reader knows of each byte what it may be. */
#include "test_cache_env.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#define B SX_BLOCK
#define MB (1024 * 1024)
#define BLOCKS 24
#define WRITERS 2

typedef struct Shared {
    Env *e;
    SxContent *c;
    int turn;             /* atomic: hands out numbers to threads */
    int stop;             /* atomic */
    int wrong;            /* atomic: count of bytes that nobody wrote */
    gint64 written[BLOCKS]; /* atomic: 1 when a local write of that block has returned */
} Shared;

#define STAMP 0 /* never a remote byte, so that a lost write shows */

static void
check_block(Shared *s, gint64 b)
{
    guint8 buf[512];
    bool local = __atomic_load_n(&s->written[b], __ATOMIC_SEQ_CST);
    gint64 off = b * B + (b * 997) % (B - 512);
    gssize k = sx_content_read(s->c, off, buf, sizeof buf);
    if (k == -ENODATA && !local)
        return;
    if (k != sizeof buf) {
        g_atomic_int_inc(&s->wrong);
        return;
    }
    for (gint64 i = 0; i < k; i++)
        if (buf[i] != STAMP && (local || buf[i] != remote_byte(7, 1, off + i)))
            g_atomic_int_inc(&s->wrong);
}

static gpointer
reader(gpointer data)
{
    Shared *s = data;
    for (gint64 b = 0; !g_atomic_int_get(&s->stop); b = (b + 7) % BLOCKS)
        check_block(s, b);
    return NULL;
}

static gpointer
filler(gpointer data)
{
    Shared *s = data;
    int me = g_atomic_int_add(&s->turn, 1);
    g_autofree guint8 *buf = g_malloc(B);
    for (gint64 k = 0; k < BLOCKS; k++) {
        gint64 b = me % 2 ? k : BLOCKS - 1 - k;
        remote_bytes(7, 1, b * B, B, buf);
        if (sx_content_fill(s->c, 1, b * B, buf, B) != 0)
            g_atomic_int_inc(&s->wrong);
    }
    return NULL;
}

static gpointer
writer(gpointer data)
{
    Shared *s = data;
    int me = g_atomic_int_add(&s->turn, 1) % WRITERS;
    g_autofree guint8 *buf = g_malloc(B);
    memset(buf, STAMP, B);
    for (gint64 b = me; b < BLOCKS; b += WRITERS) {
        if (write_all_steps(s->c, b * B, buf, B) != B)
            g_atomic_int_inc(&s->wrong);
        __atomic_store_n(&s->written[b], 1, __ATOMIC_SEQ_CST);
        check_block(s, b);
    }
    return NULL;
}

/* Whatever the order: a block that was written here never shows downloaded bytes afterwards. */
static void
a_download_never_passes_a_write(void **state)
{
    for (int round = 0; round < 15; round++) {
        Env *e = env_new(64 * MB);
        SxAttr *a = fake_tree_add(e->tree, 7, BLOCKS * B, 0, false);
        Shared s = {.e = e, .c = env_open(e, 7)};
        fake_tree_set_dirty(e->tree, 7, true);
        GThread *t[7];
        t[0] = g_thread_new("r", reader, &s);
        t[1] = g_thread_new("w", writer, &s);
        t[2] = g_thread_new("w", writer, &s);
        t[3] = g_thread_new("f", filler, &s);
        t[4] = g_thread_new("f", filler, &s);
        for (int i = 1; i < 5; i++)
            g_thread_join(t[i]);
        g_atomic_int_set(&s.stop, 1);
        g_thread_join(t[0]);
        assert_int_equal(s.wrong, 0);
        assert_true(sx_content_complete(s.c));
        for (gint64 b = 0; b < BLOCKS; b++)
            check_block(&s, b);
        assert_int_equal(s.wrong, 0);
        sx_content_unref(s.c);
        assert_int_equal(a->cached, 2);
        assert_true(env_used_is_right(e));
        env_free(e);
    }
}

/* ---- replaced, evicted, opened and closed all the time ---- */

typedef struct Storm {
    Env *e;
    int stop, wrong, turn; /* atomic */
    guint64 reads;         /* atomic */
} Storm;

#define STORM_FILES 3
#define STORM_SIZE (3 * B)

/* A hold is of one version: all its bytes are of the same. */
static void
check_hold(Storm *s, SxContent *c, gint64 off)
{
    int fd;
    SxHold *hold = NULL;
    gssize k = sx_content_hold(c, off, 4096, &fd, &hold);
    if (k <= 0)
        return;
    guint8 buf[4096];
    gint64 ino = sx_content_ino(c);
    if (pread(fd, buf, (gsize)k, off) != k)
        g_atomic_int_inc(&s->wrong);
    gint64 newest = sx_content_cver(c), cver = newest;
    for (; cver > 0; cver--) {
        gint64 i = 0;
        while (i < k && buf[i] == remote_byte(ino, cver, off + i))
            i++;
        if (i == k)
            break;
    }
    if (cver == 0)
        g_atomic_int_inc(&s->wrong);
    __atomic_add_fetch(&s->reads, 1, __ATOMIC_RELAXED);
    sx_content_release(hold);
}

static gpointer
storm_reader(gpointer data)
{
    Storm *s = data;
    guint32 x = (guint32)g_atomic_int_add(&s->turn, 1) * 7919 + 1;
    while (!g_atomic_int_get(&s->stop)) {
        x = x * 1103515245 + 12345;
        SxAttr a = {.ino = 1 + (x >> 16) % STORM_FILES};
        SxContent *c = sx_content_open(s->e->cache, &a, NULL);
        if (c == NULL) {
            g_atomic_int_inc(&s->wrong);
            continue;
        }
        gint64 off = (x >> 8) % (STORM_SIZE - 4096);
        gint64 at, n, cver = sx_content_cver(c);
        if (sx_content_missing(c, off, 4096, &at, &n) && sx_content_cver(c) == cver) {
            g_autofree guint8 *buf = g_malloc((gsize)n);
            remote_bytes(a.ino, cver, at, (gsize)n, buf);
            sx_content_fill(c, cver, at, buf, (gsize)n);
        }
        check_hold(s, c, off);
        sx_content_unref(c);
    }
    return NULL;
}

static gpointer
storm_changer(gpointer data)
{
    Storm *s = data;
    for (int i = 0; i < 150; i++) {
        gint64 ino = 1 + i % STORM_FILES;
        gint64 cver = fake_tree_replace(s->e->tree, ino, STORM_SIZE);
        g_autoptr(SxContent) c = sx_cache_peek(s->e->cache, ino);
        int rc = c != NULL ? sx_content_replace(c, cver, STORM_SIZE) : 0;
        if (rc != 0)
            g_atomic_int_inc(&s->wrong);
        if (c == NULL)
            sx_cache_discard(s->e->cache, ino, cver - 1);
        sx_cache_evict(s->e->cache, 1 + (i + 1) % STORM_FILES);
        if (i % 10 == 0)
            sx_cache_trim(s->e->cache, MB);
        if (i == 50)
            sx_cache_sweep(s->e->cache, NULL);
        if (i % 50 == 7)
            sx_cache_tick(s->e->cache);
        guint64 reads = __atomic_load_n(&s->reads, __ATOMIC_RELAXED);
        while (__atomic_load_n(&s->reads, __ATOMIC_RELAXED) == reads)
            g_thread_yield(); /* the readers see each version */
    }
    return NULL;
}

static void
versions_never_mix(void **state)
{
    Env *e = env_new(2 * MB);
    for (gint64 ino = 1; ino <= STORM_FILES; ino++)
        fake_tree_add(e->tree, ino, STORM_SIZE, 0, false);
    Storm s = {.e = e};
    GThread *r[3], *w = g_thread_new("c", storm_changer, &s);
    for (int i = 0; i < 3; i++)
        r[i] = g_thread_new("r", storm_reader, &s);
    g_thread_join(w);
    g_atomic_int_set(&s.stop, 1);
    for (int i = 0; i < 3; i++)
        g_thread_join(r[i]);
    assert_int_equal(s.wrong, 0);
    assert_true(s.reads > 0);
    assert_true(env_used_is_right(e));
    env_free(e);
}

/* ---- size, epoch and budget under concurrent writers of complete files ---- */

typedef struct Append {
    Env *e;
    SxContent *c;
    int turn; /* atomic */
    int stop; /* atomic */
    int torn; /* atomic */
} Append;

static gpointer
appender(gpointer data)
{
    Append *p = data;
    int me = g_atomic_int_add(&p->turn, 1);
    char buf[5000];
    memset(buf, 'a' + me, sizeof buf);
    for (int i = 0; i < 300; i++)
        if (sx_content_write(p->c, (me + 3 * i) * (gint64)sizeof buf, buf, sizeof buf) != sizeof buf)
            g_atomic_int_inc(&p->torn);
    return NULL;
}

static gpointer
cutter(gpointer data)
{
    Append *p = data;
    for (int i = 0; i < 100; i++) {
        sx_content_truncate(p->c, i * 1000);
        g_thread_yield();
    }
    return NULL;
}

/* An upload's view: when the epoch held, the two readings agree. */
static gpointer
snapshooter(gpointer data)
{
    Append *p = data;
    g_autofree char *one = g_malloc0(MB), *two = g_malloc0(MB);
    while (!g_atomic_int_get(&p->stop)) {
        guint64 epoch = sx_content_seal(p->c);
        gssize n = sx_content_read(p->c, 0, one, MB);
        gssize m = sx_content_read(p->c, 0, two, MB);
        if (sx_content_same_epoch(p->c, epoch) && (n != m || memcmp(one, two, (gsize)MAX(n, 0)) != 0))
            g_atomic_int_inc(&p->torn);
    }
    return NULL;
}

static void
size_and_epoch_tell_the_truth(void **state)
{
    for (int cut = 0; cut < 2; cut++) {
        Env *e = env_new(64 * MB);
        SxAttr *a = fake_tree_add(e->tree, 1, 0, 2, true);
        Append p = {.e = e, .c = sx_content_create(e->cache, a, NULL)};
        GThread *t[5];
        t[4] = g_thread_new("s", snapshooter, &p);
        for (int i = 0; i < 3; i++)
            t[i] = g_thread_new("a", appender, &p);
        t[3] = cut ? g_thread_new("c", cutter, &p) : NULL;
        for (int i = 0; i < 3 + cut; i++)
            g_thread_join(t[i]);
        g_atomic_int_set(&p.stop, 1);
        g_thread_join(t[4]);
        assert_int_equal(p.torn, 0);
        struct stat st;
        assert_int_equal(fstat(sx_content_fd(p.c), &st), 0);
        assert_int_equal(sx_content_size(p.c), st.st_size);
        if (!cut)
            assert_int_equal(st.st_size, 900 * 5000);
        sx_content_unref(p.c);
        assert_true(env_used_is_right(e));
        env_free(e);
    }
}

int
main(void)
{
    sx_log_set_level(SX_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_download_never_passes_a_write),
        cmocka_unit_test(versions_never_mix),
        cmocka_unit_test(size_and_epoch_tell_the_truth),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
