/* The cache against a model of byte arrays, by random operations from a seed; then the same with a failing system call.
 *
 * For each file the model has what programs must see (`local`) and what the provider has (`remote`). An operation that failed
 * may have done any part of itself: each byte is then the old or the new one, and what is found is what must stay. */
#include "test_cache_env.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#define N_FILES 4
#define MAX_SIZE (6 * SX_BLOCK)

typedef struct File {
    gint64 ino;
    GByteArray *local, *remote;
    SxContent *c; /* open, or NULL */
} File;

typedef struct Model {
    Env *env;
    GRand *rand;
    File files[N_FILES];
    guint32 seed;
    unsigned step;
    const char *what;
} Model;

#define fail_at(m, ...)                                                                                                        \
    do {                                                                                                                       \
        g_autofree char *text = g_strdup_printf(__VA_ARGS__);                                                                  \
        fail_msg("seed %u step %u %s: %s", (m)->seed, (m)->step, (m)->what, text);                                             \
    } while (0)

static gint64
upto(Model *m, gint64 n) /* 0..n */
{
    return g_rand_int_range(m->rand, 0, (gint32)n + 1);
}

/* Offsets near block edges are where mistakes live. */
static gint64
pick_off(Model *m)
{
    gint64 off = upto(m, MAX_SIZE);
    switch (upto(m, 3)) {
    case 0: return off / SX_BLOCK * SX_BLOCK;
    case 1: off = off / SX_BLOCK * SX_BLOCK + upto(m, 8) - 4; return CLAMP(off, 0, MAX_SIZE);
    default: return off;
    }
}

static SxAttr *
row_of(Model *m, File *f)
{
    return fake_tree_row(m->env->tree, f->ino);
}

static void
open_file(Model *m, File *f)
{
    SxAttr a = {.ino = f->ino};
    for (int i = 0; f->c == NULL; i++) {
        g_autoptr(GError) error = NULL;
        f->c = sx_content_open(m->env->cache, &a, &error);
        if (f->c == NULL && (i > 3 || sx_error_is(error, SX_ERR_CORRUPT)))
            fail_at(m, "open: %s", error->message);
    }
}

/* A fetch gets bytes of the model's remote side. One that fails is tried again: faults are single. */
static void
fetch_range(Model *m, File *f, gint64 off, gint64 len)
{
    gint64 at, n;
    for (int i = 0; sx_content_missing(f->c, off, len, &at, &n); i++) {
        if (at + n > f->remote->len)
            fail_at(m, "asks for %ld+%ld of a remote of %u", (long)at, (long)n, f->remote->len);
        int rc = sx_content_fill(f->c, sx_content_cver(f->c), at, f->remote->data + at, (gsize)n);
        __atomic_add_fetch(&m->env->now_ms, rc == -ENOSPC ? 6000 : 0, __ATOMIC_SEQ_CST); /* a full disk is believed for a while */
        if (rc != 0 && i > 20)
            fail_at(m, "fill: %s", g_strerror(-rc));
    }
}

static void
verify(Model *m, File *f, gint64 off, gint64 len)
{
    if (sx_content_size(f->c) != f->local->len)
        fail_at(m, "ino %d size %ld, should be %u", (int)f->ino, (long)sx_content_size(f->c), f->local->len);
    len = MIN(len, f->local->len - off);
    if (len <= 0)
        return;
    g_autofree guint8 *got = g_malloc((gsize)len);
    gssize k = -ENODATA;
    for (int i = 0; k < 0 && i < 4; i++) {
        fetch_range(m, f, off, len);
        k = sx_content_read(f->c, off, got, (gsize)len);
    }
    if (k != len)
        fail_at(m, "read of %ld at %ld gave %ld", (long)len, (long)off, (long)k);
    for (gint64 i = 0; i < len; i++)
        if (got[i] != f->local->data[off + i])
            fail_at(m, "ino %d byte %ld of %u is %d, should be %d (cached %d)", (int)f->ino, (long)(off + i), f->local->len, got[i],
                    f->local->data[off + i], row_of(m, f)->cached);
}

static void
resize(GByteArray *a, gint64 size)
{
    guint old = a->len;
    g_byte_array_set_size(a, (guint)size);
    if (size > old)
        memset(a->data + old, 0, (gsize)size - old);
}

/* After a failure: adopt what is there if every byte is explained by `local` (before) or `after`. */
static void
adopt(Model *m, File *f, GByteArray *after)
{
    gint64 size = sx_content_size(f->c);
    gint64 lo = MIN(f->local->len, after->len), hi = MAX(f->local->len, after->len);
    if (size < lo || size > hi)
        fail_at(m, "after a failure the size is %ld, neither %u nor %u", (long)size, f->local->len, after->len);
    g_autofree guint8 *got = g_malloc0((gsize)MAX(size, 1));
    fetch_range(m, f, 0, size);
    if (size > 0 && sx_content_read(f->c, 0, got, (gsize)size) != size)
        fail_at(m, "cannot be read after a failure");
    for (gint64 i = 0; i < size; i++) {
        guint8 a = i < f->local->len ? f->local->data[i] : 0, b = i < after->len ? after->data[i] : 0;
        if (got[i] != a && got[i] != b)
            fail_at(m, "after a failure byte %ld is %d, was %d, would be %d", (long)i, got[i], a, b);
    }
    resize(f->local, size);
    if (size > 0)
        memcpy(f->local->data, got, (gsize)size);
}

static GByteArray *
copy_of(GByteArray *a)
{
    GByteArray *b = g_byte_array_sized_new(a->len);
    return g_byte_array_append(b, a->data, a->len);
}

/* Announce, as the vfs does. */
static void
begin(Model *m, File *f)
{
    open_file(m, f);
    SxAttr *a = row_of(m, f);
    a->dirty = a->writing = true;
    sx_content_set_announced(f->c);
}

static int
prepare(Model *m, File *f, gint64 off, gint64 len)
{
    gint64 at, n;
    int rc;
    while ((rc = sx_content_prepare(f->c, off, len, &at, &n)) == 1)
        fetch_range(m, f, at, n);
    return rc;
}

static gssize
write_pipe(Model *m, File *f, gint64 off, const guint8 *buf, gsize n)
{
    int p[2];
    assert_int_equal(pipe2(p, O_CLOEXEC), 0);
    fcntl(p[0], F_SETPIPE_SZ, 1 << 20);
    n = MIN(n, 60 * 1024);
    assert_int_equal(write(p[1], buf, n), n);
    close(p[1]);
    gssize k = sx_content_write_fd(f->c, off, p[0], n);
    close(p[0]);
    return k;
}

static void
op_write(Model *m, File *f)
{
    begin(m, f);
    gint64 off = pick_off(m), n = 1 + upto(m, upto(m, 1) ? 100 : 2 * SX_BLOCK);
    if (upto(m, 3) == 0)
        n = SX_BLOCK + (SX_BLOCK - off % SX_BLOCK) % SX_BLOCK;
    n = MIN(n, MAX_SIZE - off);
    if (n <= 0)
        return;
    bool by_pipe = upto(m, 2) == 0;
    if (by_pipe)
        n = MIN(n, 60 * 1024);
    g_autofree guint8 *buf = g_malloc((gsize)n);
    memset(buf, 1 + (int)upto(m, 254), (gsize)n);
    g_autoptr(GByteArray) after = copy_of(f->local);
    if (off + n > after->len)
        resize(after, off + n);
    memcpy(after->data + off, buf, (gsize)n);
    gssize k = prepare(m, f, off, n);
    if (k == 0)
        k = by_pipe ? write_pipe(m, f, off, buf, (gsize)n) : sx_content_write(f->c, off, buf, (gsize)n);
    if (k != n) {
        if (k > 0) { /* a short count is a promise for its bytes */
            if (off + k > f->local->len)
                resize(f->local, off + k);
            memcpy(f->local->data + off, buf, (gsize)k);
        }
        adopt(m, f, after);
    } else {
        g_byte_array_set_size(f->local, 0);
        g_byte_array_append(f->local, after->data, after->len);
    }
}

static void
op_truncate(Model *m, File *f)
{
    begin(m, f);
    gint64 size = upto(m, 4) == 0 ? 0 : pick_off(m);
    g_autoptr(GByteArray) after = copy_of(f->local);
    resize(after, size);
    int rc = prepare(m, f, size, 0);
    if (rc == 0)
        rc = sx_content_truncate(f->c, size);
    if (rc != 0)
        adopt(m, f, after);
    else
        resize(f->local, size);
}

static void
op_fallocate(Model *m, File *f)
{
    static const int modes[] = {0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE,
                                FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE};
    begin(m, f);
    int mode = modes[upto(m, G_N_ELEMENTS(modes) - 1)];
    gint64 off = pick_off(m), len = 1 + upto(m, 3 * SX_BLOCK);
    len = MIN(len, MAX_SIZE - off);
    if (len <= 0)
        return;
    bool zero = (mode & ~FALLOC_FL_KEEP_SIZE) != 0;
    g_autoptr(GByteArray) after = copy_of(f->local);
    if ((mode & FALLOC_FL_KEEP_SIZE) == 0 && off + len > after->len)
        resize(after, off + len);
    for (gint64 i = off; zero && i < MIN(off + len, after->len); i++)
        after->data[i] = 0;
    int rc = zero ? prepare(m, f, off, len) : 0;
    if (rc == 0)
        rc = sx_content_fallocate(f->c, mode, off, len);
    if (rc != 0) {
        adopt(m, f, after);
    } else {
        g_byte_array_set_size(f->local, 0);
        g_byte_array_append(f->local, after->data, after->len);
    }
}

static void
op_read(Model *m, File *f)
{
    open_file(m, f);
    verify(m, f, pick_off(m), 1 + upto(m, 2 * SX_BLOCK));
}

static void
op_fill_some(Model *m, File *f)
{
    open_file(m, f);
    gint64 off = pick_off(m) / SX_BLOCK * SX_BLOCK, n = f->remote->len - off;
    if (n <= 0)
        return;
    gint64 most = 1 + upto(m, 3 * SX_BLOCK);
    n = MIN(n, most);
    sx_content_fill(f->c, sx_content_cver(f->c), off, f->remote->data + off, (gsize)n);
    sx_content_fill(f->c, sx_content_cver(f->c) - 1, off, "x", 1);
}

/* Holes are zeros, and everything that is not zero is data. */
static void
op_seek(Model *m, File *f)
{
    open_file(m, f);
    gint64 off = pick_off(m);
    gint64 data = sx_content_seek(f->c, off, SEEK_DATA), hole = sx_content_seek(f->c, off, SEEK_HOLE);
    if (off >= f->local->len) {
        if (data != -ENXIO || hole != -ENXIO)
            fail_at(m, "seek behind the end");
        return;
    }
    if (data == -EIO || hole == -EIO || data == -ENOSPC || hole == -ENOSPC || data == -EINTR || hole == -EINTR)
        return; /* the injected one */
    for (gint64 i = off; i < (data == -ENXIO ? (gint64)f->local->len : data); i++)
        if (f->local->data[i] != 0)
            fail_at(m, "byte %ld is said to be in a hole", (long)i);
    if (hole < off || hole > f->local->len)
        fail_at(m, "hole at %ld", (long)hole);
}

static void
op_hold(Model *m, File *f)
{
    open_file(m, f);
    gint64 off = pick_off(m);
    int fd;
    SxHold *hold = NULL;
    fetch_range(m, f, off, 100);
    gssize k = sx_content_hold(f->c, off, 100, &fd, &hold);
    guint8 got[100];
    if (k > 0 && (pread(fd, got, (gsize)k, off) != k || memcmp(got, f->local->data + off, (gsize)k) != 0))
        fail_at(m, "a held range differs");
    sx_content_release(hold);
}

static void
op_close(Model *m, File *f)
{
    if (f->c == NULL)
        return;
    SxAttr *a = row_of(m, f);
    if (a->writing) {
        a->size = sx_content_size(f->c);
        a->writing = false;
    }
    sx_content_unref(f->c);
    f->c = NULL;
}

static void
op_upload(Model *m, File *f)
{
    op_close(m, f);
    SxAttr *a = row_of(m, f);
    if (!a->dirty)
        return;
    open_file(m, f);
    guint64 epoch = sx_content_seal(f->c);
    verify(m, f, 0, MAX_SIZE);
    if (!sx_content_same_epoch(f->c, epoch))
        fail_at(m, "epoch");
    g_byte_array_set_size(f->remote, 0);
    g_byte_array_append(f->remote, f->local->data, f->local->len);
    a->dirty = false;
    op_close(m, f);
}

static void
op_replace(Model *m, File *f)
{
    SxAttr *a = row_of(m, f);
    if (a->dirty || a->writing)
        return;
    gint64 size = pick_off(m);
    int fd = -1;
    SxHold *hold = NULL;
    gssize held = f->c != NULL ? sx_content_hold(f->c, 0, 64, &fd, &hold) : 0;
    g_autoptr(GByteArray) before = copy_of(f->local);
    gint64 cver = fake_tree_replace(m->env->tree, f->ino, size);
    resize(f->remote, size);
    remote_bytes(f->ino, cver, 0, (gsize)size, f->remote->data);
    g_byte_array_set_size(f->local, 0);
    g_byte_array_append(f->local, f->remote->data, f->remote->len);
    if (f->c == NULL) {
        sx_cache_discard(m->env->cache, f->ino, cver - 1);
        return;
    }
    SxAttr now = *a;
    assert_int_equal(sx_content_follow(f->c, &now), 0);
    assert_int_equal(sx_content_replace(f->c, cver - 1, 5), -ESTALE);
    guint8 got[64];
    if (held > 0 && (pread(fd, got, (gsize)held, 0) != held || memcmp(got, before->data, (gsize)held) != 0))
        fail_at(m, "a reader that held the old version sees something else");
    sx_content_release(hold);
}

static void
op_evict(Model *m, File *f)
{
    SxAttr *a = row_of(m, f);
    bool may = f->c == NULL && !a->dirty && !a->writing;
    int rc = sx_cache_evict(m->env->cache, f->ino);
    if (rc == 0 && !may)
        fail_at(m, "evicted what must stay");
}

static void
op_sync(Model *m, File *f)
{
    if (f->c != NULL)
        sx_content_sync(f->c);
    __atomic_add_fetch(&m->env->now_ms, SX_CACHE_SYNC_INTERVAL_MS + 1, __ATOMIC_SEQ_CST);
    sx_cache_tick(m->env->cache);
}

static void
restart(Model *m, bool clean)
{
    for (int i = 0; i < N_FILES; i++) {
        if (clean)
            op_close(m, &m->files[i]);
        sx_content_unref(m->files[i].c);
        m->files[i].c = NULL;
    }
    int nth = m->env->nth;
    Env saved = *m->env;
    if (clean) {
        env_stop(m->env);
        nth = m->env->nth;
    } else {
        env_crash(m->env);
    }
    fake_tree_started(m->env->tree, clean, true);
    m->env->nth = -1; /* a cache that does not open is test_cache.c's */
    env_start(m->env);
    env_fault(m->env, saved.calls, nth, saved.kind, saved.fault_errno);
    /* Recovery as at the start of the transfer: size from the cache file. */
    for (int i = 0; i < N_FILES; i++)
        if (row_of(m, &m->files[i])->writing) {
            open_file(m, &m->files[i]);
            if (sx_content_size(m->files[i].c) != m->files[i].local->len)
                fail_at(m, "after a crash ino %d has size %ld, should be %u", i + 1, (long)sx_content_size(m->files[i].c),
                        m->files[i].local->len);
            op_close(m, &m->files[i]);
        }
}

static void
op_crash(Model *m, File *f)
{
    restart(m, false);
}

static void
op_restart(Model *m, File *f)
{
    restart(m, true);
}

static void
op_sweep(Model *m, File *f)
{
    sx_cache_sweep(m->env->cache, NULL);
}

static const struct {
    const char *name;
    unsigned weight;
    void (*fn)(Model *m, File *f);
} ops[] = {
    {"read", 12, op_read},   {"write", 20, op_write},     {"truncate", 6, op_truncate}, {"fallocate", 5, op_fallocate},
    {"fill", 8, op_fill_some}, {"seek", 3, op_seek},      {"hold", 3, op_hold},         {"close", 8, op_close},
    {"upload", 4, op_upload}, {"replace", 4, op_replace}, {"evict", 4, op_evict},       {"sync", 2, op_sync},
    {"crash", 2, op_crash},  {"restart", 1, op_restart},  {"sweep", 1, op_sweep},
};

static void
one_step(Model *m)
{
    unsigned total = 0;
    for (guint i = 0; i < G_N_ELEMENTS(ops); i++)
        total += ops[i].weight;
    gint64 r = upto(m, total - 1);
    guint i = 0;
    for (; r >= ops[i].weight; i++)
        r -= ops[i].weight;
    m->what = ops[i].name;
    m->step++;
    ops[i].fn(m, &m->files[upto(m, N_FILES - 1)]);
    for (int k = 0; k < N_FILES; k++)
        if (m->files[k].c != NULL && sx_content_size(m->files[k].c) != m->files[k].local->len)
            fail_at(m, "ino %d: size %ld, should be %u", k + 1, (long)sx_content_size(m->files[k].c), m->files[k].local->len);
}

static void
model_start(Model *m, guint32 seed)
{
    *m = (Model){.env = env_new(G_MAXINT32), .rand = g_rand_new_with_seed(seed), .seed = seed, .what = "start"};
    for (int i = 0; i < N_FILES; i++) {
        File *f = &m->files[i];
        gint64 size = i == 0 ? 0 : pick_off(m);
        *f = (File){.ino = i + 1, .local = g_byte_array_new(), .remote = g_byte_array_new()};
        fake_tree_add(m->env->tree, f->ino, size, i == 0 ? 2 : 0, i == 0);
        resize(f->remote, size);
        remote_bytes(f->ino, 1, 0, (gsize)size, f->remote->data);
        g_byte_array_append(f->local, f->remote->data, f->remote->len);
    }
}

/* Everything can be read back, before and after one more restart, and the budget tells the truth. */
static void
model_end(Model *m, bool exact)
{
    m->what = "end";
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < N_FILES; i++) {
            open_file(m, &m->files[i]);
            verify(m, &m->files[i], 0, MAX_SIZE);
            op_close(m, &m->files[i]);
        }
        restart(m, round == 0);
    }
    sx_cache_sweep(m->env->cache, NULL);
    if (!env_used_is_right(m->env))
        fail_at(m, "%ld bytes are said to be used, it is %ld", (long)sx_cache_used(m->env->cache), (long)env_disk_use(m->env));
    for (int i = 0; i < N_FILES; i++) {
        if (row_of(m, &m->files[i])->dirty)
            op_upload(m, &m->files[i]);
        int rc = sx_cache_evict(m->env->cache, m->files[i].ino);
        if (rc != 0)
            fail_at(m, "evict: %s", g_strerror(-rc));
    }
    if (exact && (sx_cache_used(m->env->cache) != 0 || env_disk_use(m->env) != 0))
        fail_at(m, "%ld bytes used, %ld on the disk after everything was evicted", (long)sx_cache_used(m->env->cache),
                (long)env_disk_use(m->env));
    for (int i = 0; i < N_FILES; i++) {
        g_byte_array_unref(m->files[i].local);
        g_byte_array_unref(m->files[i].remote);
    }
    g_rand_free(m->rand);
    env_free(m->env);
}

static unsigned
env_number(const char *name, unsigned otherwise)
{
    const char *text = g_getenv(name);
    return text != NULL ? (unsigned)atoi(text) : otherwise;
}

/* SX_SEED starts elsewhere, SX_SEEDS does more of them. */
static void
random_operations_match_the_model(void **state)
{
    guint32 first = env_number("SX_SEED", 1), n = env_number("SX_SEEDS", 15);
    for (guint32 seed = first; seed < first + n; seed++) {
        Model m;
        model_start(&m, seed);
        for (int i = 0; i < 250; i++)
            one_step(&m);
        model_end(&m, true);
    }
}

static void
fault_runs(Model *m, guint32 seed, unsigned calls, FaultKind kind, int err, bool *ret_hit, int nth)
{
    model_start(m, seed);
    env_fault(m->env, calls, nth, kind, err);
    for (int i = 0; i < 40; i++)
        one_step(m);
    *ret_hit = env_fault_hit(m->env);
    model_end(m, (calls & CALL_UNLINKAT) == 0);
}

/* Each call of each kind fails once, in several scenes. */
static void
any_call_may_fail(void **state)
{
    static const struct {
        unsigned calls;
        FaultKind kind;
        int err;
    } faults[] = {
        {CALL_PWRITE | CALL_OPENAT | CALL_FTRUNCATE | CALL_FALLOCATE | CALL_SPLICE | CALL_MKDIRAT, FAULT_ERRNO, ENOSPC},
        {CALL_ALL & ~CALL_CLOSE, FAULT_ERRNO, EIO},
        {CALL_PWRITE | CALL_PREAD | CALL_SPLICE | CALL_READ | CALL_FTRUNCATE | CALL_FALLOCATE, FAULT_ERRNO, EINTR},
        {CALL_PWRITE | CALL_PREAD | CALL_SPLICE | CALL_READ, FAULT_SHORT, 0},
        {CALL_SPLICE, FAULT_ERRNO, EINVAL},
        {CALL_CLOSE, FAULT_ERRNO, EIO},
    };
    guint32 first = env_number("SX_SEED", 1), n = env_number("SX_SEEDS", 1);
    for (guint32 seed = first; seed < first + n; seed++)
        for (guint i = 0; i < G_N_ELEMENTS(faults); i++) {
            bool reached = true;
            for (int nth = 1; reached && nth < 1000; nth += nth < 20 ? 1 : nth < 60 ? 3 : 7) {
                Model m;
                fault_runs(&m, seed, faults[i].calls, faults[i].kind, faults[i].err, &reached, nth);
            }
            assert_false(reached); /* the whole scene was covered */
        }
}

int
main(void)
{
    sx_log_set_level(g_getenv("SX_VERBOSE") != NULL ? SX_LOG_DEBUG : SX_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_operations_match_the_model),
        cmocka_unit_test(any_call_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
