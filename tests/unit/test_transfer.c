/* Transfer with its own threads, over the `mem` provider: what arrives, in how many requests, and what a program sees while
 * the other side is slow, gone, or changed by somebody else. */
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
    int id;
    GMutex lock;
    GCond cond;
    guint n_new, n_gone, n_content; /* lock: what the kernel was told */
} World;

static void
told(World *w, guint *counter)
{
    g_mutex_lock(&w->lock);
    (*counter)++;
    g_cond_broadcast(&w->cond);
    g_mutex_unlock(&w->lock);
}

static void
inval_entry(void *data, gint64 parent, const char *name)
{
    told(data, &((World *)data)->n_new);
}

static void
gone_entry(void *data, gint64 parent, gint64 ino, const char *name)
{
    told(data, &((World *)data)->n_gone);
}

static void
inval_inode(void *data, gint64 ino, bool content)
{
    if (content)
        told(data, &((World *)data)->n_content);
}

static void
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

static bool
take(gint *counter)
{
    return g_atomic_int_get(counter) != 0 && (g_atomic_int_get(counter) < 0 || g_atomic_int_add(counter, -1) > 0);
}

static bool
bad_write(void *self, const char *path, const SxUpload *upload, SxRemote **ret, GCancellable *cancel, GError **error)
{
    gint n = g_atomic_int_add(&script.writes, 1);
    if (n == 0)
        script.first_ms = sx_clock_mono_ms(sx_clock_default());
    if (n == 1)
        script.second_ms = sx_clock_mono_ms(sx_clock_default());
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

static int
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

static bool
bad_read(void *self, const char *path, const SxCond *cond, gint64 off, gint64 len, SxSinkFn sink, void *data, GCancellable *cancel,
         GError **error)
{
    g_atomic_int_inc(&script.reads);
    BadSink b = {.sink = sink, .data = data, .spoil = take(&script.wrong_bytes)};
    return sx_provider_mem.read(self, path, cond, off, len, bad_sink, &b, cancel, error);
}

static const SxProviderType *
bad_type(void)
{
    static SxProviderType type;
    type = sx_provider_mem;
    type.write = bad_write;
    type.read = bad_read;
    return &type;
}

static void
world_open(World *w)
{
    g_autoptr(GError) error = NULL;
    w->contents = g_ptr_array_new_with_free_func((GDestroyNotify)sx_content_unref);
    g_autofree char *db = g_build_filename(w->dir, "tree.db", NULL), *cache = g_build_filename(w->dir, "cache", NULL);
    g_autofree char *options = g_strdup_printf("store = %s\npoll = 0\n%s", w->store_name, w->options);
    SxTreeOptions to = {.path = db, .sys = sx_sys_default(), .clock = sx_clock_default(), .file_mode = 0644, .dir_mode = 0755};
    w->tree = sx_tree_open(&to, &error);
    assert_non_null(w->tree);
    SxCacheOptions co = {.dir = cache, .size = G_GINT64_CONSTANT(1) << 30, .sys = sx_sys_default(), .clock = sx_clock_default(),
                         .tree = w->tree};
    w->cache = sx_cache_open(&co, &error);
    assert_non_null(w->cache);
    g_autoptr(SxProvider) mem = sx_provider_open_text(bad_type(), "mem", options, sx_sys_default(), sx_clock_default(), &error);
    if (mem == NULL)
        fail_msg("%s", error->message);
    w->provider = sx_fault_wrap(mem, &w->faults);
    w->events = sx_events_new(NULL, NULL);
    SxNotify notify = {.inval_inode = inval_inode, .inval_entry = inval_entry, .gone_entry = gone_entry, .data = w};
    SxTransferOptions xo = {.tree = w->tree, .cache = w->cache, .events = w->events, .clock = sx_clock_default(), .notify = &notify,
                            .upload_threads = 4, .download_threads = 4, .write_back_delay_ms = w->delay_ms,
                            .memory_budget = 64 * MIB, .who = "me@here"};
    w->transfer = sx_transfer_new(&xo, &error);
    assert_non_null(w->transfer);
    assert_true(sx_transfer_add_provider(w->transfer, w->provider, &w->id, &w->root, &error));
    assert_true(sx_transfer_start(w->transfer, &error));
}

static void
world_close(World *w)
{
    sx_transfer_free(w->transfer);
    g_clear_pointer(&w->contents, g_ptr_array_unref);
    sx_cache_close(w->cache);
    sx_tree_close(w->tree);
    sx_provider_unref(w->provider);
    sx_events_free(w->events);
}

static World *
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
    w->faults.seed = 1;
    g_mutex_init(&w->lock);
    g_cond_init(&w->cond);
    world_open(w);
    return w;
}

static void
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

static void
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

static gint64
now_ms(void)
{
    return sx_clock_real_ms(sx_clock_default());
}

/* Lives as long as the world is open. */
static SxContent *
open_content(World *w, gint64 ino)
{
    SxAttr attr;
    assert_int_equal(sx_tree_getattr(w->tree, ino, &attr), 0);
    SxContent *c = sx_content_open(w->cache, &attr, NULL);
    assert_non_null(c);
    g_ptr_array_add(w->contents, c);
    return c;
}

static void
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

static void
end_write(World *w, SxContent *c, bool done)
{
    SxAttr attr;
    sx_tree_write_end(w->tree, sx_content_ino(c), sx_content_size(c), sx_clock_real_ns(sx_clock_default()), done, now_ms(), &attr);
    sx_transfer_kick(w->transfer);
}

static gint64
make(World *w, gint64 parent, const char *name, SxKind kind)
{
    SxNew new_ = {.kind = kind, .mode = 0644, .due_real_ms = now_ms() + 60000}; /* flush() hurries */
    SxAttr attr;
    assert_int_equal(sx_tree_create(w->tree, parent, name, &new_, &attr), 0);
    sx_transfer_kick(w->transfer);
    return attr.ino;
}

static gint64
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

static gint64
lookup(World *w, gint64 parent, const char *name)
{
    SxAttr attr;
    assert_int_equal(sx_tree_lookup(w->tree, parent, name, &attr), 0);
    return attr.ino;
}

static bool
is_there(World *w, gint64 parent, const char *name)
{
    SxAttr attr;
    return sx_tree_lookup(w->tree, parent, name, &attr) == 0;
}

static void
put(World *w, const char *path, const void *data, gsize n)
{
    assert_int_equal(sx_mem_put(w->store, path, data, n, sx_clock_real_ns(sx_clock_default())), 0);
}

static void
flush(World *w)
{
    assert_int_equal(sx_transfer_flush(w->transfer, SX_ROOT_INO, WAIT_MS, NULL), 0);
}

static void
list_fresh(World *w, gint64 dir)
{
    assert_int_equal(sx_transfer_list(w->transfer, dir, true, NULL, NULL), 0);
}

static char *
stored(World *w, const char *path)
{
    g_autoptr(GBytes) bytes = sx_mem_get(w->store, path);
    return bytes != NULL ? g_strndup(g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes)) : NULL;
}

static void
assert_stored(World *w, const char *path, const char *text)
{
    g_autofree char *is = stored(w, path);
    assert_non_null(is);
    assert_string_equal(is, text);
}

static guint8 *
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

static void
count_one(const SxEvent *e, void *data)
{
    Count *c = data;
    c->n += strcmp(e->kind, c->kind) == 0;
}

static guint
count_events(World *w, const char *kind)
{
    Count c = {.kind = kind};
    sx_events_since(w->events, 0, count_one, &c);
    return c.n;
}

static void
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

/* ---- uploads ---- */

static void
what_is_written_arrives_in_one_request_each(void **state)
{
    World *w = world_new("");
    list_fresh(w, w->root);
    gint64 dir = make(w, w->root, "dir", SX_KIND_DIR);
    for (int i = 0; i < 50; i++) {
        g_autofree char *name = g_strdup_printf("f%d", i);
        make_file(w, dir, name, name);
    }
    flush(w);
    for (int i = 0; i < 50; i++) {
        g_autofree char *name = g_strdup_printf("f%d", i), *path = g_strdup_printf("dir/f%d", i);
        assert_stored(w, path, name);
    }
    assert_int_equal(sx_mem_calls(w->store, SX_CALL_WRITE), 50);
    assert_int_equal(sx_mem_calls(w->store, SX_CALL_MKDIR), 1);
    assert_int_equal(sx_mem_calls(w->store, SX_CALL_STAT), 0);
    SxCounts counts;
    sx_tree_counts(w->tree, 0, &counts);
    assert_int_equal(counts.pending + counts.parked + counts.conflicts, 0);
    world_free(w);
}

static void
one_listing_verifies_many_uploads(void **state)
{
    World *w = world_new("version-after-write = no\n");
    list_fresh(w, w->root);
    for (int i = 0; i < 40; i++) {
        g_autofree char *name = g_strdup_printf("f%d", i);
        make_file(w, w->root, name, name);
    }
    flush(w);
    assert_in_range(sx_mem_calls(w->store, SX_CALL_LIST), 2, 6);
    assert_int_equal(sx_mem_calls(w->store, SX_CALL_STAT), 0);
    world_free(w);
}

static void
lost_replies_make_no_conflicts(void **state)
{
    World *w = world_new("");
    list_fresh(w, w->root);
    __atomic_store_n(&w->faults.per_mille_lost, 400, __ATOMIC_RELAXED);
    gint64 dir = make(w, w->root, "d", SX_KIND_DIR);
    for (int i = 0; i < 12; i++) {
        g_autofree char *name = g_strdup_printf("f%d", i);
        make_file(w, dir, name, name);
    }
    flush(w);
    SxRenamed renamed;
    assert_int_equal(sx_tree_rename(w->tree, w->root, "d", w->root, "e", 0, false, now_ms(), &renamed), 0);
    SxAttr after;
    assert_int_equal(sx_tree_unlink(w->tree, dir, "f0", false, now_ms(), &after), 0);
    flush(w);
    assert_false(sx_mem_exists(w->store, "d"));
    assert_false(sx_mem_exists(w->store, "e/f0"));
    assert_stored(w, "e/f11", "f11");
    g_autoptr(GPtrArray) conflicts = sx_tree_conflicts(w->tree);
    assert_int_equal(conflicts->len, 0);
    world_free(w);
}

static void
a_change_elsewhere_is_not_overwritten(void **state)
{
    World *w = world_new("");
    list_fresh(w, w->root);
    gint64 ino = make_file(w, w->root, "note.txt", "first");
    flush(w);
    put(w, "note.txt", "theirs", 6);
    SxContent *c = open_content(w, ino);
    write_at(w, c, 0, "mine!", 5);
    end_write(w, c, true);
    flush(w);
    assert_stored(w, "note.txt", "theirs");
    g_autoptr(GPtrArray) conflicts = sx_tree_conflicts(w->tree);
    assert_int_equal(conflicts->len, 1);
    const SxConflict *conflict = conflicts->pdata[0];
    assert_stored(w, conflict->path + strlen("mem/"), "mine!");
    assert_int_equal(count_events(w, "conflict"), 1);
    world_free(w);
}

static void
equal_content_is_no_conflict(void **state)
{
    World *w = world_new("hash = none\n");
    list_fresh(w, w->root);
    put(w, "same", "equal bytes", 11);
    make_file(w, w->root, "same", "equal bytes");
    flush(w);
    g_autoptr(GPtrArray) conflicts = sx_tree_conflicts(w->tree);
    assert_int_equal(conflicts->len, 0);
    assert_stored(w, "same", "equal bytes");
    world_free(w);
}

/* Half of a file changes that is not wholly here: the rest comes from the version it is based on. */
static void
a_partly_cached_file_goes_out_whole(void **state)
{
    World *w = world_new("");
    g_autofree guint8 *bytes = pattern(2 * MIB);
    put(w, "big", bytes, 2 * MIB);
    list_fresh(w, w->root);
    SxContent *c = open_content(w, lookup(w, w->root, "big"));
    write_at(w, c, 700000, "changed", 7);
    memcpy(bytes + 700000, "changed", 7);
    assert_false(sx_content_complete(c));
    end_write(w, c, true);
    flush(w);
    g_autoptr(GBytes) there = sx_mem_get(w->store, "big");
    assert_int_equal(g_bytes_get_size(there), 2 * MIB);
    assert_memory_equal(g_bytes_get_data(there, NULL), bytes, 2 * MIB);
    world_free(w);
}

static void
parts_of_a_version_that_is_gone_are_kept_apart(void **state)
{
    World *w = world_new("");
    g_autofree guint8 *bytes = pattern(MIB);
    put(w, "big", bytes, MIB);
    list_fresh(w, w->root);
    SxContent *c = open_content(w, lookup(w, w->root, "big"));
    write_at(w, c, 0, "mine", 4);
    put(w, "big", "theirs", 6);
    end_write(w, c, true);
    flush(w);
    assert_stored(w, "big", "theirs");
    g_autoptr(GPtrArray) conflicts = sx_tree_conflicts(w->tree);
    assert_int_equal(conflicts->len, 1);
    g_autoptr(GBytes) copy = sx_mem_get(w->store, ((SxConflict *)conflicts->pdata[0])->path + strlen("mem/"));
    assert_int_equal(g_bytes_get_size(copy), MIB);
    const guint8 *p = g_bytes_get_data(copy, NULL);
    assert_memory_equal(p, "mine", 4);
    assert_memory_equal(p + 4, bytes + 4, SX_BLOCK - 4); /* the rest of the block had been fetched to be written into */
    assert_int_equal(p[MIB - 1], 0);
    assert_int_equal(count_events(w, "error"), 1);
    world_free(w);
}

/* A log that a program never closes still goes out when it is quiet, again and again. */
static void
a_file_that_stays_open_is_uploaded(void **state)
{
    World *w = world_new("");
    list_fresh(w, w->root);
    gint64 ino = make(w, w->root, "log", SX_KIND_FILE);
    SxContent *c = open_content(w, ino);
    sx_content_writers(c, 1);
    write_at(w, c, 0, "one ", 4);
    end_write(w, c, false);
    flush(w);
    assert_stored(w, "log", "one ");
    write_at(w, c, 4, "two", 3);
    end_write(w, c, false);
    flush(w);
    assert_stored(w, "log", "one two");
    sx_content_writers(c, -1);
    world_free(w);
}

static void
a_refused_name_is_parked_and_said(void **state)
{
    World *w = world_new("longest-name = 8\n");
    list_fresh(w, w->root);
    make_file(w, w->root, "much-too-long-a-name", "x");
    make_file(w, w->root, "short", "y");
    assert_int_equal(sx_transfer_flush(w->transfer, SX_ROOT_INO, WAIT_MS, NULL), -EIO);
    assert_stored(w, "short", "y");
    assert_int_equal(count_events(w, "error"), 1);
    SxRenamed renamed;
    assert_int_equal(sx_tree_rename(w->tree, w->root, "much-too-long-a-name", w->root, "ok", 0, false, now_ms(), &renamed), 0);
    flush(w);
    assert_stored(w, "ok", "x");
    world_free(w);
}

static void
what_was_not_finished_goes_out_after_a_restart(void **state)
{
    World *w = world_new("");
    list_fresh(w, w->root);
    gint64 ino = make(w, w->root, "f", SX_KIND_FILE);
    flush(w);
    SxContent *c = open_content(w, ino);
    write_at(w, c, 0, "not closed", 10);
    sx_tree_kill(w->tree);
    world_close(w);
    world_open(w);
    flush(w);
    assert_stored(w, "f", "not closed");
    world_free(w);
}

static void
swaps_and_moves_of_directories_arrive(void **state)
{
    World *w = world_new("");
    list_fresh(w, w->root);
    gint64 x = make(w, w->root, "x", SX_KIND_DIR), y = make(w, w->root, "y", SX_KIND_DIR);
    make_file(w, x, "fx", "x");
    make_file(w, y, "fy", "y");
    flush(w);
    SxRenamed renamed;
    assert_int_equal(sx_tree_rename(w->tree, w->root, "x", y, "x2", 0, false, now_ms(), &renamed), 0);
    assert_int_equal(sx_tree_rename(w->tree, w->root, "y", w->root, "x", 0, false, now_ms(), &renamed), 0);
    make_file(w, x, "more", "m");
    flush(w);
    g_autofree char *dump = sx_mem_dump(w->store);
    assert_stored(w, "x/x2/fx", "x");
    assert_stored(w, "x/x2/more", "m");
    assert_stored(w, "x/fy", "y");
    assert_null(strstr(dump, ".syncox"));
    world_free(w);
}

static void
without_moves_files_and_directories_are_copied(void **state)
{
    World *w = world_new("server-move = no\nserver-copy = no\n");
    list_fresh(w, w->root);
    gint64 d = make(w, w->root, "d", SX_KIND_DIR), sub = make(w, d, "sub", SX_KIND_DIR);
    make_file(w, d, "f", "content");
    gint64 g = make_file(w, sub, "g", "deep");
    flush(w);
    SxRenamed renamed;
    assert_int_equal(sx_tree_rename(w->tree, d, "f", w->root, "f2", 0, false, now_ms(), &renamed), 0);
    flush(w);
    assert_stored(w, "f2", "content");
    assert_false(sx_mem_exists(w->store, "d/f"));
    put(w, "d/theirs", "unseen", 6);
    assert_int_equal(sx_tree_rename(w->tree, w->root, "d", w->root, "e", 0, false, now_ms(), &renamed), 0);
    flush(w);
    assert_stored(w, "e/sub/g", "deep");
    assert_stored(w, "e/theirs", "unseen");
    assert_false(sx_mem_exists(w->store, "d"));
    list_fresh(w, d);
    list_fresh(w, sub);
    assert_int_equal(lookup(w, sub, "g"), g); /* the same file, whatever the other side did to it */
    assert_int_equal(sx_transfer_fetch_all(w->transfer, g, NULL), 0);
    assert_true(is_there(w, d, "theirs"));
    world_free(w);
}

/* ---- downloads ---- */

static void
a_long_file_comes_in_few_requests(void **state)
{
    World *w = world_new("");
    gsize size = 24 * MIB;
    g_autofree guint8 *bytes = pattern(size), *buf = g_malloc(128 * 1024);
    put(w, "big", bytes, size);
    list_fresh(w, w->root);
    SxContent *c = open_content(w, lookup(w, w->root, "big"));
    SxReader *r = sx_reader_new();
    for (gsize off = 0; off < size; off += 128 * 1024) {
        assert_int_equal(sx_transfer_fetch(w->transfer, c, r, (gint64)off, 128 * 1024, NULL), 0);
        assert_int_equal(sx_content_read(c, (gint64)off, buf, 128 * 1024), 128 * 1024);
        assert_memory_equal(buf, bytes + off, 128 * 1024);
    }
    sx_reader_free(r);
    assert_in_range(sx_mem_calls(w->store, SX_CALL_READ), 2, 9);
    world_free(w);
}

static void
a_far_seek_costs_one_block(void **state)
{
    World *w = world_new("");
    gsize size = 16 * MIB;
    g_autofree guint8 *bytes = pattern(size);
    put(w, "big", bytes, size);
    list_fresh(w, w->root);
    SxContent *c = open_content(w, lookup(w, w->root, "big"));
    SxReader *r = sx_reader_new();
    for (int i = 5; i > 0; i--) {
        gint64 off = i * 3 * MIB + 4096;
        assert_int_equal(sx_transfer_fetch(w->transfer, c, r, off, 4096, NULL), 0);
    }
    sx_reader_free(r);
    assert_int_equal(sx_content_present_bytes(c), 5 * SX_BLOCK);
    world_free(w);
}

typedef struct Reading {
    World *w;
    SxContent *c;
    const guint8 *bytes;
    gsize size;
    gint failed;
} Reading;

static gpointer
read_all(gpointer data)
{
    Reading *reading = data;
    g_autofree guint8 *buf = g_malloc(65536);
    SxReader *r = sx_reader_new();
    for (gsize off = 0; off < reading->size; off += 65536)
        if (sx_transfer_fetch(reading->w->transfer, reading->c, r, (gint64)off, 65536, NULL) != 0 ||
            sx_content_read(reading->c, (gint64)off, buf, 65536) != 65536 || memcmp(buf, reading->bytes + off, 65536) != 0)
            g_atomic_int_inc(&reading->failed);
    sx_reader_free(r);
    return NULL;
}

static void
readers_share_what_comes(void **state)
{
    World *w = world_new("");
    gsize size = 8 * MIB;
    g_autofree guint8 *bytes = pattern(size);
    put(w, "big", bytes, size);
    list_fresh(w, w->root);
    SxContent *c = open_content(w, lookup(w, w->root, "big"));
    Reading reading = {.w = w, .c = c, .bytes = bytes, .size = size};
    GThread *threads[6];
    for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
        threads[i] = g_thread_new("reader", read_all, &reading);
    for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
        g_thread_join(threads[i]);
    assert_int_equal(reading.failed, 0);
    SxRates rates;
    sx_transfer_rates(w->transfer, &rates);
    assert_in_range(rates.down_total, size, size + 2 * MIB);
    SxAttr attr;
    assert_int_equal(sx_tree_getattr(w->tree, sx_content_ino(c), &attr), 0);
    assert_int_equal(attr.cached, 2);
    world_free(w);
}

static void
a_read_follows_a_new_version(void **state)
{
    World *w = world_new("");
    g_autofree guint8 *bytes = pattern(MIB);
    put(w, "f", bytes, MIB);
    list_fresh(w, w->root);
    put(w, "f", "short and new", 13);
    SxContent *c = open_content(w, lookup(w, w->root, "f"));
    char buf[64];
    assert_int_equal(sx_transfer_fetch(w->transfer, c, NULL, 0, 13, NULL), 0);
    assert_int_equal(sx_content_read(c, 0, buf, sizeof buf), 13);
    assert_memory_equal(buf, "short and new", 13);
    assert_int_equal(w->n_content, 1);
    world_free(w);
}

static void
a_pinned_file_comes_by_itself(void **state)
{
    World *w = world_new("");
    g_autofree guint8 *bytes = pattern(3 * MIB);
    put(w, "f", bytes, 3 * MIB);
    list_fresh(w, w->root);
    gint64 ino = lookup(w, w->root, "f");
    assert_int_equal(sx_tree_pin(w->tree, ino, 1), 0);
    sx_transfer_kick(w->transfer);
    SxContent *c = open_content(w, ino);
    assert_int_equal(sx_content_wait(c, 0, 3 * MIB, sx_clock_mono_ms(sx_clock_default()) + WAIT_MS, NULL), 0);
    assert_true(sx_content_complete(c));
    world_free(w);
}

static void
bytes_that_came_wrong_are_fetched_again(void **state)
{
    for (gsize size = 100000; size <= 5 * MIB; size += 4 * MIB) { /* checked before they are shown, and when complete */
        World *w = world_new("");
        g_autofree guint8 *bytes = pattern(size), *buf = g_malloc(size);
        put(w, "f", bytes, size);
        list_fresh(w, w->root);
        gint64 ino = lookup(w, w->root, "f");
        g_atomic_int_set(&script.wrong_bytes, 1);
        int rc = sx_transfer_fetch_all(w->transfer, ino, NULL);
        assert_true(rc == 0 || rc == -EIO);
        if (size > MIB) /* found when all of it was here, perhaps while it was being read */
            wait_event(w, "error");
        SxContent *c = open_content(w, ino);
        assert_int_equal(sx_transfer_fetch_all(w->transfer, ino, NULL), 0);
        assert_int_equal(sx_content_read(c, 0, buf, size), size);
        assert_memory_equal(buf, bytes, size);
        world_free(w);
    }
}

static void
bytes_that_never_come_right_are_an_error(void **state)
{
    World *w = world_new("");
    put(w, "f", "text", 4);
    list_fresh(w, w->root);
    g_atomic_int_set(&script.wrong_bytes, -1);
    assert_int_equal(sx_transfer_fetch_all(w->transfer, lookup(w, w->root, "f"), NULL), -EIO);
    assert_int_equal(g_atomic_int_get(&script.reads), 2);
    world_free(w);
}

/* ---- listings ---- */

static void
few_deletions_are_believed_after_a_look(void **state)
{
    World *w = world_new("");
    for (int i = 0; i < 12; i++) {
        g_autofree char *name = g_strdup_printf("f%d", i);
        put(w, name, name, strlen(name));
    }
    list_fresh(w, w->root);
    assert_int_equal(sx_mem_remove(w->store, "f3"), 0);
    list_fresh(w, w->root);
    assert_false(is_there(w, w->root, "f3"));
    assert_true(is_there(w, w->root, "f4"));
    assert_int_equal(sx_mem_calls(w->store, SX_CALL_STAT), 1);
    assert_int_equal(w->n_gone, 1);
    world_free(w);
}

static void
a_mass_delete_waits_for_the_user(void **state)
{
    World *w = world_new("");
    put(w, "stays", "x", 1);
    for (int i = 0; i < 40; i++) {
        g_autofree char *name = g_strdup_printf("f%d", i);
        put(w, name, name, strlen(name));
    }
    list_fresh(w, w->root);
    for (int i = 0; i < 40; i++) {
        g_autofree char *name = g_strdup_printf("f%d", i);
        sx_mem_remove(w->store, name);
    }
    list_fresh(w, w->root);
    list_fresh(w, w->root);
    assert_true(is_there(w, w->root, "f39"));
    assert_int_equal(count_events(w, "held"), 1);
    g_autofree char *text = NULL;
    assert_true(sx_transfer_held(w->transfer, w->id, &text));
    assert_int_equal(sx_transfer_refresh(w->transfer, w->root, true, NULL, NULL), 0);
    assert_false(is_there(w, w->root, "f39"));
    assert_true(is_there(w, w->root, "stays"));
    assert_false(sx_transfer_held(w->transfer, w->id, NULL));
    world_free(w);
}

static void
siblings_are_listed_ahead(void **state)
{
    World *w = world_new("");
    for (int i = 0; i < 40; i++) {
        g_autofree char *dir = g_strdup_printf("d%02d", i), *file = g_strdup_printf("d%02d/f", i);
        sx_mem_mkdir(w->store, dir);
        put(w, file, "x", 1);
    }
    list_fresh(w, w->root);
    guint before = w->n_new;
    assert_int_equal(sx_transfer_list(w->transfer, lookup(w, w->root, "d00"), false, NULL, NULL), 0);
    assert_int_equal(sx_transfer_list(w->transfer, lookup(w, w->root, "d01"), false, NULL, NULL), 0);
    wait_for(w, &w->n_new, before + 18); /* these two and sixteen ahead */
    for (int i = 2; i < 40; i++) {
        g_autofree char *dir = g_strdup_printf("d%02d", i);
        assert_int_equal(sx_transfer_list(w->transfer, lookup(w, w->root, dir), false, NULL, NULL), 0);
    }
    assert_int_equal(sx_mem_calls(w->store, SX_CALL_LIST), 41);
    world_free(w);
}

static void
a_watched_change_appears(void **state)
{
    World *w = world_new("push = yes\n");
    list_fresh(w, w->root);
    guint before = w->n_new;
    /* The watcher may begin only now: it is told again until it has heard. */
    for (int i = 0; !is_there(w, w->root, "late"); i++) {
        g_autofree char *name = g_strdup_printf("try%d", i);
        put(w, name, "x", 1);
        put(w, "late", name, strlen(name));
        g_mutex_lock(&w->lock);
        if (w->n_new == before)
            g_cond_wait_until(&w->cond, &w->lock, g_get_monotonic_time() + 300000);
        g_mutex_unlock(&w->lock);
        assert_true(i < 200);
    }
    world_free(w);
}

/* ---- when the other side is gone ---- */

static void
offline_answers_at_once_and_comes_back(void **state)
{
    World *w = world_new("");
    sx_mem_mkdir(w->store, "d");
    put(w, "d/f", "x", 1);
    list_fresh(w, w->root);
    sx_fault_set_offline(&w->faults, true);
    make_file(w, w->root, "new", "text");
    wait_event(w, "offline");
    g_autofree char *why = NULL;
    assert_int_equal(sx_transfer_list(w->transfer, lookup(w, w->root, "d"), false, NULL, &why), -EHOSTUNREACH);
    assert_non_null(why);
    assert_int_equal(sx_transfer_list(w->transfer, w->root, false, NULL, NULL), 0); /* known: shown */
    assert_false(sx_mem_exists(w->store, "new"));
    sx_fault_set_offline(&w->faults, false);
    flush(w);
    assert_stored(w, "new", "text");
    assert_int_equal(sx_transfer_list(w->transfer, lookup(w, w->root, "d"), false, NULL, NULL), 0);
    assert_int_equal(count_events(w, "online"), 1);
    world_free(w);
}

static void
a_server_that_says_wait_is_left_alone(void **state)
{
    World *w = world_new("");
    list_fresh(w, w->root);
    script.code = SX_ERR_RATE;
    script.retry_after_ms = 400;
    g_atomic_int_set(&script.fail_writes, 1);
    make_file(w, w->root, "f", "text");
    flush(w);
    assert_stored(w, "f", "text");
    assert_int_equal(g_atomic_int_get(&script.writes), 2);
    assert_in_range(script.second_ms - script.first_ms, 400, WAIT_MS);
    world_free(w);
}

static void
a_refused_login_waits_for_the_user(void **state)
{
    World *w = world_new("");
    list_fresh(w, w->root);
    script.code = SX_ERR_AUTH;
    g_atomic_int_set(&script.fail_writes, 1);
    make_file(w, w->root, "f", "text");
    assert_int_equal(sx_transfer_flush(w->transfer, SX_ROOT_INO, 0, NULL), -ETIMEDOUT);
    wait_event(w, "error");
    assert_int_equal(g_atomic_int_get(&script.writes), 1);
    assert_true(sx_transfer_probe(w->transfer, w->id, NULL, NULL));
    flush(w);
    assert_stored(w, "f", "text");
    world_free(w);
}

static void
a_damaged_upload_is_sent_again(void **state)
{
    World *w = world_new("");
    list_fresh(w, w->root);
    g_atomic_int_set(&script.wrong_sizes, 1);
    make_file(w, w->root, "f", "text");
    flush(w);
    assert_stored(w, "f", "text");
    assert_int_equal(g_atomic_int_get(&script.writes), 2);
    g_autoptr(GPtrArray) conflicts = sx_tree_conflicts(w->tree);
    assert_int_equal(conflicts->len, 0);
    world_free(w);
}

static void
a_full_server_is_said_and_tried_again(void **state)
{
    World *w = world_new("");
    list_fresh(w, w->root);
    sx_mem_set_space(w->store, 2);
    make_file(w, w->root, "f", "text");
    assert_int_equal(sx_transfer_flush(w->transfer, SX_ROOT_INO, 0, NULL), -ETIMEDOUT);
    wait_event(w, "error");
    sx_mem_set_space(w->store, -1);
    flush(w);
    assert_stored(w, "f", "text");
    world_free(w);
}

typedef struct Waiting {
    World *w;
    GCancellable *cancel;
    int rc;
} Waiting;

static gpointer
list_thread(gpointer data)
{
    Waiting *waiting = data;
    waiting->rc = sx_transfer_list(waiting->w->transfer, waiting->w->root, true, waiting->cancel, NULL);
    return NULL;
}

static bool
note_call(void *data, const char *call, bool after)
{
    World *w = data;
    if (!after)
        told(w, &w->n_content);
    return false;
}

/* Nobody answers; the one who waits gives up, and so does the end of the program. */
static void
a_wait_can_be_interrupted(void **state)
{
    World *w = world_new("");
    world_close(w);
    w->faults.max_delay_ms = 1000000;
    w->faults.crash = note_call;
    w->faults.data = w;
    world_open(w);
    Waiting waiting = {.w = w, .cancel = g_cancellable_new()};
    GThread *thread = g_thread_new("waiting", list_thread, &waiting);
    wait_for(w, &w->n_content, 1); /* the call is under way */
    g_cancellable_cancel(waiting.cancel);
    g_thread_join(thread);
    assert_int_equal(waiting.rc, -EINTR);
    g_object_unref(waiting.cancel);
    world_free(w);
}

int
main(void)
{
    if (g_getenv("SX_TEST_DEBUG") != NULL)
        sx_log_set_level(SX_LOG_DEBUG);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_arrives_in_one_request_each),
        cmocka_unit_test(one_listing_verifies_many_uploads),
        cmocka_unit_test(lost_replies_make_no_conflicts),
        cmocka_unit_test(a_change_elsewhere_is_not_overwritten),
        cmocka_unit_test(equal_content_is_no_conflict),
        cmocka_unit_test(a_partly_cached_file_goes_out_whole),
        cmocka_unit_test(parts_of_a_version_that_is_gone_are_kept_apart),
        cmocka_unit_test(a_file_that_stays_open_is_uploaded),
        cmocka_unit_test(a_refused_name_is_parked_and_said),
        cmocka_unit_test(what_was_not_finished_goes_out_after_a_restart),
        cmocka_unit_test(swaps_and_moves_of_directories_arrive),
        cmocka_unit_test(without_moves_files_and_directories_are_copied),
        cmocka_unit_test(a_long_file_comes_in_few_requests),
        cmocka_unit_test(a_far_seek_costs_one_block),
        cmocka_unit_test(readers_share_what_comes),
        cmocka_unit_test(a_read_follows_a_new_version),
        cmocka_unit_test(a_pinned_file_comes_by_itself),
        cmocka_unit_test(bytes_that_came_wrong_are_fetched_again),
        cmocka_unit_test(bytes_that_never_come_right_are_an_error),
        cmocka_unit_test(a_server_that_says_wait_is_left_alone),
        cmocka_unit_test(a_refused_login_waits_for_the_user),
        cmocka_unit_test(a_damaged_upload_is_sent_again),
        cmocka_unit_test(a_full_server_is_said_and_tried_again),
        cmocka_unit_test(few_deletions_are_believed_after_a_look),
        cmocka_unit_test(a_mass_delete_waits_for_the_user),
        cmocka_unit_test(siblings_are_listed_ahead),
        cmocka_unit_test(a_watched_change_appears),
        cmocka_unit_test(offline_answers_at_once_and_comes_back),
        cmocka_unit_test(a_wait_can_be_interrupted),
    };
    if (g_getenv("SX_TEST_ONLY") != NULL)
        cmocka_set_test_filter(g_getenv("SX_TEST_ONLY"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
