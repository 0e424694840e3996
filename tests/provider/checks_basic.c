#include "suite.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <string.h>

#define NS_PER_S G_GINT64_CONSTANT(1000000000)

static void
caps_make_sense(SxTarget *t, const char *dir)
{
    SxCaps c;
    OK(sx_provider_probe(t->p, NULL, error));
    OK(sx_provider_probe(t->p, NULL, error)); /* safe to repeat */
    sx_provider_caps(t->p, &c);
    assert_true(c.probed);
    assert_int_equal(sx_provider_online(t->p), SX_ONLINE);
    assert_true(c.name_max > 0 && c.name_max <= 255);
    assert_non_null(c.forbidden);
    assert_true(!c.resumable_write || c.chunk_size > 0);
    assert_true(c.server_move == false || SX_CAN(t->p, move));
    assert_true(c.server_copy == false || SX_CAN(t->p, copy));
    assert_true(!c.watch || SX_CAN(t->p, watch));
    assert_true(!c.lend_fd || SX_CAN(t->p, lend_fd));
    assert_true(!c.set_mtime || SX_CAN(t->p, set_attr));
}

static bool
never(void *data, const SxRemote *entry)
{
    fail_msg("an entry in a listing that ought to fail: %s", entry->name);
    return false;
}

static bool
stop_at_once(void *data, const SxRemote *entry)
{
    return false;
}

static void
listing_and_stat(SxTarget *t, const char *dir)
{
    g_autofree char *file = IN(dir, "file"), *missing = IN(dir, "missing"), *sub = IN(dir, "sub"), *below = IN(dir, "missing/x");
    g_autoptr(GHashTable) none = sx_test_list(t, dir);
    assert_int_equal(g_hash_table_size(none), 0);
    g_autoptr(SxRemote) root = sx_test_stat(t, "");
    assert_int_equal(root->kind, SX_KIND_DIR);
    FAILS(SX_ERR_NOT_FOUND, sx_provider_list(t->p, missing, never, NULL, NULL, error));
    FAILS(SX_ERR_NOT_FOUND, sx_provider_list(t->p, below, never, NULL, NULL, error));
    sx_test_absent_now(t, missing);
    sx_test_absent_now(t, below);
    g_autoptr(SxRemote) made = sx_test_put(t, file, 1, 1000);
    g_autoptr(SxRemote) d = NULL;
    OK(sx_provider_mkdir(t->p, sub, &d, NULL, error));
    assert_int_equal(d->kind, SX_KIND_DIR);
    FAILS(SX_ERR_NOT_DIR, sx_provider_list(t->p, file, never, NULL, NULL, error));
    g_autoptr(GHashTable) two = sx_test_list(t, dir);
    assert_int_equal(g_hash_table_size(two), 2);
    const SxRemote *f = g_hash_table_lookup(two, "file"), *s = g_hash_table_lookup(two, "sub");
    assert_non_null(f);
    assert_non_null(s);
    assert_int_equal(f->kind, SX_KIND_FILE);
    assert_int_equal(f->size, 1000);
    assert_int_equal(s->kind, SX_KIND_DIR);
    assert_int_equal(s->size, 0);
    assert_string_equal(f->version, made->version); /* stat and list agree */
    assert_true(f->mtime_ns == made->mtime_ns);
    FAILS(SX_ERR_CANCELLED, sx_provider_list(t->p, dir, stop_at_once, NULL, NULL, error));
}

typedef struct Bytes {
    GByteArray *got;
    gint64 next;
    bool disorder;
    int calls, fail;
} Bytes;

static int
take_bytes(void *data, gint64 off, const void *buf, gsize n)
{
    Bytes *b = data;
    b->calls++;
    b->disorder |= b->next >= 0 && off != b->next;
    b->next = off + (gint64)n;
    g_byte_array_append(b->got, buf, (guint)n);
    return b->fail;
}

static void
read_range(SxTarget *t, const char *path, const SxCond *cond, gint64 size, gint64 off, gint64 len)
{
    g_autoptr(GByteArray) got = g_byte_array_new();
    Bytes b = {.got = got, .next = off};
    OK(sx_provider_read(t->p, path, cond, off, len, take_bytes, &b, NULL, error));
    gint64 end = len < 0 ? size : MIN(size, off + len);
    assert_false(b.disorder);
    assert_int_equal(got->len, MAX(end - off, 0));
    for (guint i = 0; i < got->len; i++)
        if (got->data[i] != sx_test_byte(7, off + i))
            fail_msg("%s: wrong byte at %" G_GINT64_FORMAT, path, off + i);
}

static void
ranges(SxTarget *t, const char *dir)
{
    const gint64 size = 300001;
    g_autofree char *path = IN(dir, "ranges"), *empty = IN(dir, "empty"), *missing = IN(dir, "missing");
    g_autoptr(SxRemote) r = sx_test_put(t, path, 7, size), e = sx_test_put(t, empty, 7, 0);
    const struct { gint64 off, len; } rows[] = {{0, -1}, {0, size}, {0, 1}, {size - 1, 1}, {size - 1, -1}, {size - 5, 100}, {1, 4096},
                                                {65536, 65536}, {131071, 3}, {100, 0}, {size, -1}, {size, 10}, {0, size + 1000}};
    SxCond any = sx_test_any(), exact = sx_test_version(r), exact_empty = sx_test_version(e);
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        read_range(t, path, &exact, size, rows[i].off, rows[i].len);
        read_range(t, path, &any, size, rows[i].off, rows[i].len);
    }
    read_range(t, empty, &exact_empty, 0, 0, -1);
    read_range(t, empty, &exact_empty, 0, 0, 4096);
    g_autoptr(GByteArray) got = g_byte_array_new();
    Bytes b = {.got = got, .next = -1};
    FAILS(SX_ERR_NOT_FOUND, sx_provider_read(t->p, missing, &any, 0, -1, take_bytes, &b, NULL, error));
    assert_int_equal(b.calls, 0);
    b.fail = -ENOSPC; /* the sink's own error comes back */
    FAILS(SX_ERR_NO_SPACE, sx_provider_read(t->p, path, &any, 0, -1, take_bytes, &b, NULL, error));
}

static void
reading_a_stale_version_fails(SxTarget *t, const char *dir)
{
    g_autofree char *path = IN(dir, "stale");
    g_autoptr(SxRemote) old = sx_test_put(t, path, 1, 5000);
    g_autoptr(SxRemote) now = sx_test_put(t, path, 2, 6000); /* another size: also servers without etags notice */
    assert_string_not_equal(old->version, now->version);
    g_autoptr(GByteArray) got = g_byte_array_new();
    Bytes b = {.got = got, .next = -1};
    SxCond stale = sx_test_version(old);
    FAILS(SX_ERR_CHANGED, sx_provider_read(t->p, path, &stale, 0, -1, take_bytes, &b, NULL, error));
    FAILS(SX_ERR_CHANGED, sx_provider_read(t->p, path, &stale, 1000, 10, take_bytes, &b, NULL, error));
    assert_int_equal(b.calls, 0);
}

static void
removing(SxTarget *t, const char *dir)
{
    g_autofree char *file = IN(dir, "f"), *sub = IN(dir, "sub"), *inner = IN(dir, "sub/inner"), *missing = IN(dir, "missing");
    g_autoptr(SxRemote) d = NULL;
    SxCond any = sx_test_any();
    OK(sx_provider_mkdir(t->p, sub, &d, NULL, error));
    g_autoptr(SxRemote) i = sx_test_put(t, inner, 1, 10);
    FAILS(SX_ERR_NOT_EMPTY, sx_provider_remove(t->p, sub, SX_KIND_DIR, &any, NULL, error));
    sx_test_same(t, inner, 1, 10);
    g_autoptr(GError) kind = NULL;
    assert_false(sx_provider_remove(t->p, sub, SX_KIND_FILE, &any, NULL, &kind)); /* never a directory with all that is in it */
    sx_test_same(t, inner, 1, 10);
    g_autoptr(SxRemote) old = sx_test_put(t, file, 1, 100), now = sx_test_put(t, file, 2, 200);
    SxCond stale = sx_test_version(old), exact = sx_test_version(now);
    FAILS(SX_ERR_CHANGED, sx_provider_remove(t->p, file, SX_KIND_FILE, &stale, NULL, error));
    sx_test_same(t, file, 2, 200);
    FAILS(SX_ERR_NOT_DIR, sx_provider_remove(t->p, file, SX_KIND_DIR, &any, NULL, error));
    OK(sx_provider_remove(t->p, file, SX_KIND_FILE, &exact, NULL, error));
    sx_test_absent_now(t, file);
    FAILS(SX_ERR_NOT_FOUND, sx_provider_remove(t->p, missing, SX_KIND_FILE, &any, NULL, error));
    FAILS(SX_ERR_NOT_FOUND, sx_provider_remove(t->p, missing, SX_KIND_DIR, &any, NULL, error));
    OK(sx_provider_remove(t->p, inner, SX_KIND_FILE, &any, NULL, error));
    OK(sx_provider_remove(t->p, sub, SX_KIND_DIR, &any, NULL, error));
    sx_test_absent_now(t, sub);
}

static void
making_directories(SxTarget *t, const char *dir)
{
    g_autofree char *sub = IN(dir, "sub"), *deep = IN(dir, "sub/deep"), *orphan = IN(dir, "no/where"), *file = IN(dir, "file");
    g_autoptr(SxRemote) a = NULL, b = NULL, c = NULL, f = sx_test_put(t, file, 1, 1);
    FAILS(SX_ERR_NOT_FOUND, sx_provider_mkdir(t->p, orphan, &c, NULL, error));
    OK(sx_provider_mkdir(t->p, sub, &a, NULL, error));
    OK(sx_provider_mkdir(t->p, deep, &b, NULL, error));
    FAILS(SX_ERR_EXISTS, sx_provider_mkdir(t->p, sub, &c, NULL, error));
    FAILS(SX_ERR_EXISTS, sx_provider_mkdir(t->p, file, &c, NULL, error));
    g_autoptr(GHashTable) l = sx_test_list(t, sub);
    assert_int_equal(g_hash_table_size(l), 1); /* making it again has not emptied it */
    sx_test_same(t, file, 1, 1);
}

static void
moving(SxTarget *t, const char *dir)
{
    SxCaps caps;
    sx_provider_caps(t->p, &caps);
    if (!caps.server_move)
        return;
    g_autofree char *a = IN(dir, "a"), *b = IN(dir, "b"), *sub = IN(dir, "sub"), *inner = IN(dir, "sub/inner"),
                    *to = IN(dir, "moved"), *moved = IN(dir, "moved/inner"), *orphan = IN(dir, "no/where"), *up = IN(dir, "moved/a");
    g_autoptr(SxRemote) ra = sx_test_put(t, a, 1, 100), rb = sx_test_put(t, b, 2, 200), d = NULL;
    OK(sx_provider_mkdir(t->p, sub, &d, NULL, error));
    g_autoptr(SxRemote) ri = sx_test_put(t, inner, 3, 300);
    FAILS(SX_ERR_EXISTS, sx_provider_move(t->p, a, b, SX_KIND_FILE, NULL, error));
    FAILS(SX_ERR_EXISTS, sx_provider_move(t->p, a, sub, SX_KIND_FILE, NULL, error));
    sx_test_same(t, a, 1, 100);
    sx_test_same(t, b, 2, 200);
    sx_test_same(t, inner, 3, 300);
    FAILS(SX_ERR_NOT_FOUND, sx_provider_move(t->p, orphan, to, SX_KIND_FILE, NULL, error));
    FAILS(SX_ERR_NOT_FOUND, sx_provider_move(t->p, a, orphan, SX_KIND_FILE, NULL, error));
    OK(sx_provider_move(t->p, sub, to, SX_KIND_DIR, NULL, error));
    sx_test_same(t, moved, 3, 300);
    sx_test_absent_now(t, sub);
    OK(sx_provider_move(t->p, a, up, SX_KIND_FILE, NULL, error));
    sx_test_same(t, up, 1, 100);
    sx_test_absent_now(t, a);
    g_autoptr(SxRemote) after = sx_test_stat(t, up);
    if (caps.stable_ids) {
        assert_non_null(ra->id);
        assert_string_equal(after->id, ra->id);
    }
    assert_string_equal(after->version, ra->version); /* sx_tree_done_move keeps it */
}

static void
copying(SxTarget *t, const char *dir)
{
    SxCaps caps;
    sx_provider_caps(t->p, &caps);
    if (!caps.server_copy)
        return;
    g_autofree char *a = IN(dir, "a"), *b = IN(dir, "b"), *c = IN(dir, "c"), *missing = IN(dir, "missing");
    g_autoptr(SxRemote) ra = sx_test_put(t, a, 1, 100), rb = sx_test_put(t, b, 2, 200);
    FAILS(SX_ERR_EXISTS, sx_provider_copy(t->p, a, b, NULL, error));
    FAILS(SX_ERR_NOT_FOUND, sx_provider_copy(t->p, missing, c, NULL, error));
    OK(sx_provider_copy(t->p, a, c, NULL, error));
    sx_test_same(t, a, 1, 100);
    sx_test_same(t, b, 2, 200);
    sx_test_same(t, c, 1, 100);
}

static void
symbolic_links(SxTarget *t, const char *dir)
{
    SxCaps caps;
    sx_provider_caps(t->p, &caps);
    if (!caps.symlinks)
        return;
    g_autofree char *link = IN(dir, "link");
    g_autoptr(SxRemote) r = NULL;
    OK(sx_provider_symlink(t->p, link, "../to \xff where", &r, NULL, error));
    g_autoptr(GHashTable) l = sx_test_list(t, dir);
    const SxRemote *e = g_hash_table_lookup(l, "link");
    assert_non_null(e);
    assert_int_equal(e->kind, SX_KIND_SYMLINK);
    assert_string_equal(e->target, "../to \xff where");
    FAILS(SX_ERR_EXISTS, sx_provider_symlink(t->p, link, "x", &r, NULL, error));
    SxCond any = sx_test_any();
    OK(sx_provider_remove(t->p, link, SX_KIND_SYMLINK, &any, NULL, error));
}

static void
times(SxTarget *t, const char *dir)
{
    SxCaps caps;
    sx_provider_caps(t->p, &caps);
    g_autofree char *path = IN(dir, "old");
    const gint64 when = G_GINT64_CONSTANT(1234567890) * NS_PER_S, other = when + 77 * NS_PER_S;
    SxTestSource s = {.seed = 1, .size = 10};
    SxUpload u = sx_test_upload(&s, sx_test_any());
    u.mtime_ns = when;
    g_autoptr(SxRemote) r = NULL, set = NULL;
    OK(sx_provider_write(t->p, path, &u, &r, NULL, error));
    g_autoptr(SxRemote) now = sx_test_stat(t, path);
    if (!caps.set_mtime) {
        if (SX_CAN(t->p, set_attr) && !caps.set_mode)
            FAILS(SX_ERR_UNSUPPORTED, sx_provider_set_attr(t->p, path, other, -1, &set, NULL, error));
        return;
    }
    assert_int_equal(now->mtime_ns, when);
    OK(sx_provider_set_attr(t->p, path, other, -1, &set, NULL, error));
    g_autoptr(SxRemote) after = sx_test_stat(t, path);
    assert_int_equal(after->mtime_ns, other);
    if (set != NULL && *set->version != 0)
        assert_string_equal(set->version, after->version);
    sx_test_same(t, path, 1, 10);
}

static void
quota(SxTarget *t, const char *dir)
{
    if (!SX_CAN(t->p, quota))
        return;
    SxQuota q = {0};
    OK(sx_provider_quota(t->p, &q, NULL, error));
    assert_true(q.total >= -1 && q.used >= -1 && q.free >= -1);
    assert_true(q.total < 0 || q.free < 0 || q.free <= q.total);
}

static void
two_thousand_entries(SxTarget *t, const char *dir)
{
    const int n = 2000;
    for (int i = 0; i < n; i++) {
        g_autofree char *name = g_strdup_printf("entry %04d #%%.txt", i);
        g_autofree char *path = IN(dir, name);
        if (t->root != NULL) {
            g_autofree char *real = g_build_filename(t->root, path, NULL);
            assert_true(g_file_set_contents_full(real, "x", 1, G_FILE_SET_CONTENTS_NONE, 0644, NULL));
        } else {
            SxTestSource s = {.seed = 1, .size = 1};
            SxUpload u = sx_test_upload(&s, sx_test_any());
            g_autoptr(SxRemote) r = NULL;
            OK(sx_provider_write(t->p, path, &u, &r, NULL, error));
        }
    }
    g_autoptr(GHashTable) l = sx_test_list(t, dir);
    assert_int_equal(g_hash_table_size(l), n);
    for (int i = 0; i < n; i++) {
        g_autofree char *name = g_strdup_printf("entry %04d #%%.txt", i);
        const SxRemote *r = g_hash_table_lookup(l, name);
        assert_non_null(r);
        assert_int_equal(r->size, 1);
        assert_string_not_equal(r->version, "");
    }
}

static void
cancelled_before(SxTarget *t, const char *dir)
{
    g_autofree char *path = IN(dir, "x");
    g_autoptr(GCancellable) cancel = g_cancellable_new();
    g_autoptr(SxRemote) r = NULL;
    g_cancellable_cancel(cancel);
    FAILS(SX_ERR_CANCELLED, sx_provider_list(t->p, dir, never, NULL, cancel, error));
    FAILS(SX_ERR_CANCELLED, sx_provider_stat(t->p, dir, &r, cancel, error));
    FAILS(SX_ERR_CANCELLED, sx_provider_mkdir(t->p, path, &r, cancel, error));
    sx_test_absent_now(t, path);
}

static int
cancel_at_first_byte(void *data, gint64 off, const void *buf, gsize n)
{
    g_cancellable_cancel(data);
    return 0;
}

static void
cancelled_while_reading(SxTarget *t, const char *dir)
{
    g_autofree char *path = IN(dir, "long");
    g_autoptr(SxRemote) r = sx_test_put(t, path, 1, 8 << 20);
    g_autoptr(GCancellable) cancel = g_cancellable_new();
    SxCond any = sx_test_any();
    FAILS(SX_ERR_CANCELLED, sx_provider_read(t->p, path, &any, 0, -1, cancel_at_first_byte, cancel, cancel, error));
    sx_test_same(t, path, 1, 8 << 20); /* and the connection is fit for the next */
}

const SxCheck sx_checks_basic[] = {
    {"caps_make_sense", caps_make_sense},
    {"listing_and_stat", listing_and_stat},
    {"ranges", ranges},
    {"reading_a_stale_version_fails", reading_a_stale_version_fails},
    {"removing", removing},
    {"making_directories", making_directories},
    {"moving", moving},
    {"copying", copying},
    {"symbolic_links", symbolic_links},
    {"times", times},
    {"quota", quota},
    {"two_thousand_entries", two_thousand_entries},
    {"cancelled_before", cancelled_before},
    {"cancelled_while_reading", cancelled_while_reading},
    {0},
};
