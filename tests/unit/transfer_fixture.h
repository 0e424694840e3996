/* For the tests of transfer with its own threads: a tree, a cache and the `mem` provider, which can be told to misbehave. */
#pragma once

#include "base/log.h"
#include "providers/mem/mem.h"
#include "transfer/transfer.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

/* The wall clock, which a test may make jump; the other one goes on as it is. */
static gint64 clock_ahead_ns; /* atomic */

static inline gint64
jumping_real_ns(const SxClock *c)
{
    return sx_clock_real_ns(sx_clock_default()) + __atomic_load_n(&clock_ahead_ns, __ATOMIC_RELAXED);
}

static inline gint64
steady_mono_ms(const SxClock *c)
{
    return sx_clock_mono_ms(sx_clock_default());
}

static inline guint64
real_random(const SxClock *c)
{
    return sx_clock_random(sx_clock_default());
}

static const SxClock test_clock = {.real_ns = jumping_real_ns, .mono_ms = steady_mono_ms, .random = real_random};

#define WAIT_MS 60000 /* only a test that fails waits so long */
#define MIB (1024 * 1024)

typedef struct World {
    char *dir, *store_name, *options;
    SxMemStore *store;
    SxFaultPlan faults;
    SxProvider *provider;
    SxTree *tree;
    SxCache *cache;
    SxEvents *events;
    SxTransfer *transfer;
    GPtrArray *contents;
    gint64 root, delay_ms;
    int threads;
    int id;
    GMutex lock;
    GCond cond;
    guint n_new, n_gone, n_content; /* lock: what the kernel was told */
} World;

static inline void
told(World *w, guint *counter)
{
    g_mutex_lock(&w->lock);
    (*counter)++;
    g_cond_broadcast(&w->cond);
    g_mutex_unlock(&w->lock);
}

static inline void
inval_entry(void *data, gint64 parent, const char *name)
{
    told(data, &((World *)data)->n_new);
}

static inline void
gone_entry(void *data, gint64 parent, gint64 ino, const char *name)
{
    told(data, &((World *)data)->n_gone);
}

static inline void
inval_inode(void *data, gint64 ino, bool content)
{
    if (content)
        told(data, &((World *)data)->n_content);
}

static inline void
wait_for(World *w, guint *counter, guint n)
{
    gint64 until = g_get_monotonic_time() + WAIT_MS * 1000;
    g_mutex_lock(&w->lock);
    while (*counter < n)
        if (!g_cond_wait_until(&w->cond, &w->lock, until))
            fail_msg("only %u of %u notices came", *counter, n);
    g_mutex_unlock(&w->lock);
}

/* ---- a storage that answers wrongly when it is told to ---- */

typedef struct Script {
    gint fail_writes, code;      /* atomic: so many writes fail with that code and nothing done */
    gint64 retry_after_ms;       /* const */
    gint wrong_sizes;            /* atomic: so many writes tell a size that is not that of the file */
    gint wrong_bytes;            /* atomic: so many reads have a wrong first byte; -1 all */
    gint writes, reads;          /* atomic: calls */
    gint64 first_ms, second_ms;  /* of the first two writes; read when both are over */
} Script;

static Script script; /* one test at a time */

static inline bool
take(gint *counter)
{
    return g_atomic_int_get(counter) != 0 && (g_atomic_int_get(counter) < 0 || g_atomic_int_add(counter, -1) > 0);
}

static inline bool
bad_write(void *self, const char *path, const SxUpload *upload, SxRemote **ret, GCancellable *cancel, GError **error)
{
    gint n = g_atomic_int_add(&script.writes, 1);
    if (n == 0)
        script.first_ms = sx_clock_mono_ms(&test_clock);
    if (n == 1)
        script.second_ms = sx_clock_mono_ms(&test_clock);
    if (take(&script.fail_writes)) {
        GError *why = sx_error_new((SxErrorCode)script.code, "told to fail");
        sx_error_set_retry_after_ms(why, script.retry_after_ms);
        g_propagate_error(error, why);
        return false;
    }
    bool ok = sx_provider_mem.write(self, path, upload, ret, cancel, error);
    if (ok && take(&script.wrong_sizes))
        (*ret)->size++;
    return ok;
}

typedef struct BadSink {
    SxSinkFn sink;
    void *data;
    bool spoil;
} BadSink;

static inline int
bad_sink(void *data, gint64 off, const void *buf, gsize n)
{
    BadSink *b = data;
    if (!b->spoil || n == 0)
        return b->sink(b->data, off, buf, n);
    b->spoil = false;
    g_autofree guint8 *copy = g_memdup2(buf, n);
    copy[0] ^= 1;
    return b->sink(b->data, off, copy, n);
}

static inline bool
bad_read(void *self, const char *path, const SxCond *cond, gint64 off, gint64 len, SxSinkFn sink, void *data, GCancellable *cancel,
         GError **error)
{
    g_atomic_int_inc(&script.reads);
    BadSink b = {.sink = sink, .data = data, .spoil = take(&script.wrong_bytes)};
    return sx_provider_mem.read(self, path, cond, off, len, bad_sink, &b, cancel, error);
}

static inline const SxProviderType *
bad_type(void)
{
    static SxProviderType type;
    type = sx_provider_mem;
    type.write = bad_write;
    type.read = bad_read;
    return &type;
}

static inline void
world_open(World *w)
{
    g_autoptr(GError) error = NULL;
    w->contents = g_ptr_array_new_with_free_func((GDestroyNotify)sx_content_unref);
    g_autofree char *db = g_build_filename(w->dir, "tree.db", NULL), *cache = g_build_filename(w->dir, "cache", NULL);
    g_autofree char *options = g_strdup_printf("store = %s\npoll = 0\n%s", w->store_name, w->options);
    SxTreeOptions to = {.path = db, .sys = sx_sys_default(), .clock = &test_clock, .file_mode = 0644, .dir_mode = 0755};
    w->tree = sx_tree_open(&to, &error);
    assert_non_null(w->tree);
    SxCacheOptions co = {.dir = cache, .size = G_GINT64_CONSTANT(1) << 30, .sys = sx_sys_default(), .clock = &test_clock,
                         .tree = w->tree};
    w->cache = sx_cache_open(&co, &error);
    assert_non_null(w->cache);
    g_autoptr(SxProvider) mem = sx_provider_open_text(bad_type(), "mem", options, sx_sys_default(), &test_clock, &error);
    if (mem == NULL)
        fail_msg("%s", error->message);
    w->provider = sx_fault_wrap(mem, &w->faults);
    w->events = sx_events_new(NULL, NULL);
    SxNotify notify = {.inval_inode = inval_inode, .inval_entry = inval_entry, .gone_entry = gone_entry, .data = w};
    SxTransferOptions xo = {.tree = w->tree, .cache = w->cache, .events = w->events, .clock = &test_clock, .notify = &notify,
                            .upload_threads = w->threads, .download_threads = 4, .write_back_delay_ms = w->delay_ms,
                            .memory_budget = 64 * MIB, .who = "me@here"};
    w->transfer = sx_transfer_new(&xo, &error);
    assert_non_null(w->transfer);
    assert_true(sx_transfer_add_provider(w->transfer, w->provider, &w->id, &w->root, &error));
    assert_true(sx_transfer_start(w->transfer, &error));
}

static inline void
world_close(World *w)
{
    sx_transfer_free(w->transfer);
    g_clear_pointer(&w->contents, g_ptr_array_unref);
    sx_cache_close(w->cache);
    sx_tree_close(w->tree);
    sx_provider_unref(w->provider);
    sx_events_free(w->events);
}

static inline World *
world_new(const char *options)
{
    static gint count;
    World *w = g_new0(World, 1);
    script = (Script){0};
    w->dir = g_dir_make_tmp("syncox-transfer-XXXXXX", NULL);
    w->store_name = g_strdup_printf("transfer-%d", g_atomic_int_add(&count, 1));
    w->store = sx_mem_store(w->store_name);
    w->options = g_strdup(options);
    w->delay_ms = 10;
    w->threads = 4;
    w->faults.seed = 1;
    g_mutex_init(&w->lock);
    g_cond_init(&w->cond);
    world_open(w);
    return w;
}

static inline void
remove_dir(const char *path)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    for (const char *name; dir != NULL && (name = g_dir_read_name(dir)) != NULL;) {
        g_autofree char *child = g_build_filename(path, name, NULL);
        if (g_file_test(child, G_FILE_TEST_IS_DIR))
            remove_dir(child);
        else
            g_unlink(child);
    }
    g_rmdir(path);
}

static inline void
world_free(World *w)
{
    world_close(w);
    sx_mem_store_unref(w->store);
    sx_mem_drop(w->store_name);
    remove_dir(w->dir);
    g_free(w->dir);
    g_free(w->store_name);
    g_free(w->options);
    g_mutex_clear(&w->lock);
    g_cond_clear(&w->cond);
    g_free(w);
}

/* ---- what a program does ---- */

static inline gint64
now_ms(void)
{
    return sx_clock_real_ms(&test_clock);
}

/* Lives as long as the world is open. */
static inline SxContent *
open_content(World *w, gint64 ino)
{
    SxAttr attr;
    assert_int_equal(sx_tree_getattr(w->tree, ino, &attr), 0);
    SxContent *c = sx_content_open(w->cache, &attr, NULL);
    assert_non_null(c);
    g_ptr_array_add(w->contents, c);
    return c;
}

static inline void
write_at(World *w, SxContent *c, gint64 off, const void *data, gsize n)
{
    SxAttr attr;
    if (!sx_content_announced(c)) {
        assert_int_equal(sx_tree_write_begin(w->tree, sx_content_ino(c), &attr), 0);
        assert_int_equal(sx_content_follow(c, &attr), 0);
        sx_content_set_announced(c);
    }
    gint64 miss, len;
    int rc;
    while ((rc = sx_content_prepare(c, off, (gint64)n, &miss, &len)) == 1)
        assert_int_equal(sx_transfer_fetch(w->transfer, c, NULL, miss, len, NULL), 0);
    assert_int_equal(rc, 0);
    assert_int_equal(sx_content_write(c, off, data, n), n);
}

static inline void
end_write(World *w, SxContent *c, bool done)
{
    SxAttr attr;
    sx_tree_write_end(w->tree, sx_content_ino(c), sx_content_size(c), sx_clock_real_ns(&test_clock), done, now_ms(), &attr);
    sx_transfer_kick(w->transfer);
}

static inline gint64
make(World *w, gint64 parent, const char *name, SxKind kind)
{
    SxNew new_ = {.kind = kind, .mode = 0644, .due_real_ms = now_ms() + 60000}; /* flush() hurries */
    SxAttr attr;
    assert_int_equal(sx_tree_create(w->tree, parent, name, &new_, &attr), 0);
    sx_transfer_kick(w->transfer);
    return attr.ino;
}

static inline gint64
make_file(World *w, gint64 parent, const char *name, const char *text)
{
    gint64 ino = make(w, parent, name, SX_KIND_FILE);
    SxContent *c = open_content(w, ino);
    sx_content_writers(c, 1);
    write_at(w, c, 0, text, strlen(text));
    sx_content_writers(c, -1);
    end_write(w, c, true);
    return ino;
}

static inline gint64
lookup(World *w, gint64 parent, const char *name)
{
    SxAttr attr;
    assert_int_equal(sx_tree_lookup(w->tree, parent, name, &attr), 0);
    return attr.ino;
}

static inline bool
is_there(World *w, gint64 parent, const char *name)
{
    SxAttr attr;
    return sx_tree_lookup(w->tree, parent, name, &attr) == 0;
}

static inline void
put(World *w, const char *path, const void *data, gsize n)
{
    assert_int_equal(sx_mem_put(w->store, path, data, n, sx_clock_real_ns(&test_clock)), 0);
}

static inline void
flush(World *w)
{
    assert_int_equal(sx_transfer_flush(w->transfer, SX_ROOT_INO, WAIT_MS, NULL), 0);
}

static inline void
list_fresh(World *w, gint64 dir)
{
    assert_int_equal(sx_transfer_list(w->transfer, dir, true, NULL, NULL), 0);
}

static inline char *
stored(World *w, const char *path)
{
    g_autoptr(GBytes) bytes = sx_mem_get(w->store, path);
    return bytes != NULL ? g_strndup(g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes)) : NULL;
}

static inline void
assert_stored(World *w, const char *path, const char *text)
{
    g_autofree char *is = stored(w, path);
    assert_non_null(is);
    assert_string_equal(is, text);
}

static inline guint8 *
pattern(gsize n)
{
    guint8 *p = g_malloc(n);
    guint32 x = 1;
    for (gsize i = 0; i < n; i++) {
        x = x * 1664525 + 1013904223;
        p[i] = (guint8)(x >> 24);
    }
    return p;
}

typedef struct Count {
    const char *kind;
    guint n;
} Count;

static inline void
count_one(const SxEvent *e, void *data)
{
    Count *c = data;
    c->n += strcmp(e->kind, c->kind) == 0;
}

static inline guint
count_events(World *w, const char *kind)
{
    Count c = {.kind = kind};
    sx_events_since(w->events, 0, count_one, &c);
    return c.n;
}

static inline void
wait_event(World *w, const char *kind)
{
    guint64 seen = 0;
    for (;;) {
        Count c = {.kind = kind};
        seen = sx_events_since(w->events, 0, count_one, &c);
        if (c.n > 0)
            return;
        if (!sx_events_wait(w->events, seen, WAIT_MS))
            fail_msg("the event %s did not come", kind);
    }
}

