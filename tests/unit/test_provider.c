/* provider/ (call, fault, limit) over the provider in memory. */
#include "provider/provider.h"
#include "providers/mem/mem.h"

#include "base/log.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

/* ---- helpers ---- */

static gint fake_ms = 1000; /* atomic; each look at the clock moves it by fake_step */
static gint fake_step;

static gint64
fake_mono(const SxClock *c)
{
    return g_atomic_int_add(&fake_ms, g_atomic_int_get(&fake_step));
}
static gint64
fake_real(const SxClock *c)
{
    return 1700000000LL * 1000000000 + (gint64)g_atomic_int_get(&fake_ms) * 1000000;
}
static guint64
fake_random(const SxClock *c)
{
    return 4; /* not used by what is tested here */
}
static const SxClock fake_clock = {.real_ns = fake_real, .mono_ms = fake_mono, .random = fake_random};

static SxProvider *
open_mem(const char *options)
{
    g_autoptr(GError) e = NULL;
    SxProvider *p = sx_provider_open_text(&sx_provider_mem, "m", options, sx_sys_default(), &fake_clock, &e);
    if (p == NULL)
        fail_msg("%s", e->message);
    return p;
}

typedef struct Text {
    const char *bytes;
    gsize n;
    gint64 fail_at; /* read() of a piece beyond fails with fail_with; -1 never */
    int fail_with;
    gint64 progress;
    char *resume;
} Text;

static gssize
text_read(void *data, gint64 off, void *buf, gsize n)
{
    Text *t = data;
    if (t->fail_at >= 0 && off + (gint64)n > t->fail_at)
        return t->fail_with;
    gsize k = (gsize)off < t->n ? MIN(n, t->n - (gsize)off) : 0;
    memcpy(buf, t->bytes + off, k);
    return (gssize)k;
}

static void
text_save(void *data, const char *resume)
{
    Text *t = data;
    g_free(t->resume);
    t->resume = g_strdup(resume);
}

static void
text_progress(void *data, gint64 done)
{
    ((Text *)data)->progress = done;
}

static SxUpload
upload_of(Text *t, SxIf kind, const char *version)
{
    return (SxUpload){
        .source = {.size = (gint64)t->n, .read = text_read, .fd = -1, .data = t},
        .cond = {.kind = kind, .version = version, .size = -1, .mtime_ns = SX_TIME_UNKNOWN},
        .mtime_ns = SX_TIME_UNKNOWN, .mode = -1, .save_resume = text_save, .progress = text_progress, .data = t,
    };
}

static bool
put(SxProvider *p, const char *path, const char *bytes, SxIf kind, const char *version, SxRemote **ret, GError **error)
{
    Text t = {.bytes = bytes, .n = strlen(bytes), .fail_at = -1};
    SxUpload up = upload_of(&t, kind, version);
    return sx_provider_write(p, path, &up, ret, NULL, error);
}

static bool
add_name(void *data, const SxRemote *r)
{
    g_string_append_printf(data, "%s ", r->name);
    return true;
}

static char *
names(SxProvider *p, const char *path, GError **error)
{
    g_autoptr(GString) s = g_string_new(NULL);
    return sx_provider_list(p, path, add_name, s, NULL, error) ? g_strdup(s->str) : NULL;
}

static int
add_bytes(void *data, gint64 off, const void *buf, gsize n)
{
    GString *s = data;
    assert_int_equal(off, s->len);
    g_string_append_len(s, buf, (gssize)n);
    return 0;
}

static void
assert_error(GError **e, SxErrorCode code)
{
    if (!sx_error_is(*e, code))
        fail_msg("%s instead of %s", *e != NULL ? (*e)->message : "no error", sx_error_code_name(code));
    g_clear_error(e);
}

/* ---- mem and call ---- */

static void
an_object_lives_its_life(void **state)
{
    g_autoptr(SxProvider) p = open_mem("store = life");
    g_autoptr(SxMemStore) s = sx_mem_store("life");
    g_autoptr(GError) e = NULL;
    g_autoptr(SxRemote) r = NULL, again = NULL, now = NULL;
    assert_true(sx_provider_mkdir(p, "d", NULL, NULL, &e));
    assert_false(sx_provider_mkdir(p, "d", NULL, NULL, &e));
    assert_error(&e, SX_ERR_EXISTS);
    assert_false(sx_provider_mkdir(p, "no/d", NULL, NULL, &e));
    assert_error(&e, SX_ERR_NOT_FOUND);
    assert_true(put(p, "d/f", "hello", SX_IF_ABSENT, NULL, &r, &e));
    assert_int_equal(r->size, 5);
    assert_string_equal(r->hash, "sha1:aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d");
    assert_false(put(p, "d/f", "x", SX_IF_ABSENT, NULL, NULL, &e));
    assert_error(&e, SX_ERR_EXISTS);
    assert_true(put(p, "d/f", "hello, world", SX_IF_VERSION, r->version, &again, &e));
    assert_string_not_equal(again->version, r->version);
    assert_string_equal(again->id, r->id);
    assert_false(put(p, "d/f", "x", SX_IF_VERSION, r->version, NULL, &e));
    assert_true(g_str_has_prefix(e->message, "m: d/f: has version "));
    assert_error(&e, SX_ERR_CHANGED);
    assert_true(sx_provider_move(p, "d/f", "g", SX_KIND_FILE, NULL, &e));
    assert_true(sx_provider_stat(p, "g", &now, NULL, &e));
    assert_string_equal(now->id, r->id);
    assert_string_equal(now->version, again->version);
    assert_true(sx_provider_copy(p, "g", "d/copy", NULL, &e));
    assert_false(sx_provider_move(p, "g", "d/copy", SX_KIND_FILE, NULL, &e));
    assert_error(&e, SX_ERR_EXISTS);
    assert_false(sx_provider_remove(p, "d", SX_KIND_DIR, NULL, NULL, &e));
    assert_error(&e, SX_ERR_NOT_EMPTY);
    SxCond old = {.kind = SX_IF_VERSION, .version = r->version, .size = -1};
    assert_false(sx_provider_remove(p, "g", SX_KIND_FILE, &old, NULL, &e));
    assert_error(&e, SX_ERR_CHANGED);
    assert_true(sx_provider_symlink(p, "l", "d/copy", NULL, NULL, &e));
    g_autofree char *dump = sx_mem_dump(s);
    assert_string_equal(dump, "d d/\nf d/copy 12 09ca7e4eaa6e\nf g 12 09ca7e4eaa6e\nl l -> d/copy\n");
    assert_true(sx_provider_remove(p, "g", SX_KIND_FILE, NULL, NULL, &e));
    assert_false(sx_provider_stat(p, "g", &again, NULL, &e));
    assert_error(&e, SX_ERR_NOT_FOUND);
    sx_mem_check(s);
    sx_mem_drop("life");
}

static void
a_store_outlives_its_provider(void **state)
{
    g_autoptr(SxProvider) p = open_mem("store = again");
    assert_true(put(p, "f", "1", SX_IF_ABSENT, NULL, NULL, NULL));
    g_clear_pointer(&p, sx_provider_unref);
    p = open_mem("store = again");
    g_autofree char *first = names(p, "", NULL);
    assert_string_equal(first, "f ");
    sx_mem_drop("again");
    g_clear_pointer(&p, sx_provider_unref);
    p = open_mem("store = again");
    g_autofree char *second = names(p, "", NULL);
    assert_string_equal(second, "");
    sx_mem_drop("again");
}

static void
bytes_come_in_ranges_of_one_version(void **state)
{
    g_autoptr(SxProvider) p = open_mem("");
    g_autoptr(SxRemote) r = NULL;
    g_autoptr(GError) e = NULL;
    g_autoptr(GString) got = g_string_new("xx");
    assert_true(put(p, "f", "0123456789", SX_IF_ABSENT, NULL, &r, NULL));
    SxCond is = {.kind = SX_IF_VERSION, .version = r->version, .size = 10};
    assert_true(sx_provider_read(p, "f", &is, 2, 5, add_bytes, got, NULL, NULL));
    assert_string_equal(got->str, "xx23456");
    is.size = 11; /* the caller was promised more than there is */
    assert_false(sx_provider_read(p, "f", &is, 7, -1, add_bytes, got, NULL, &e));
    assert_error(&e, SX_ERR_LOST);
    is.version = "v0";
    assert_false(sx_provider_read(p, "f", &is, (gint64)got->len, -1, add_bytes, got, NULL, &e));
    assert_error(&e, SX_ERR_CHANGED);
    assert_false(sx_provider_read(p, "f", NULL, -1, -1, add_bytes, got, NULL, &e));
    assert_error(&e, SX_ERR_INVALID);
    assert_false(sx_provider_read(p, "f", NULL, 5, G_MAXINT64, add_bytes, got, NULL, &e));
    assert_error(&e, SX_ERR_INVALID);
}

static void
a_broken_source_publishes_nothing(void **state)
{
    g_autoptr(SxProvider) p = open_mem("store = broken");
    g_autoptr(SxMemStore) s = sx_mem_store("broken");
    g_autoptr(GError) e = NULL;
    assert_true(put(p, "f", "old", SX_IF_ABSENT, NULL, NULL, NULL));
    g_autofree char *before = sx_mem_dump(s);
    g_autofree char *big = g_strnfill(200000, 'n');
    Text t = {.bytes = big, .n = 200000, .fail_at = 100000, .fail_with = -ECANCELED};
    SxUpload up = upload_of(&t, SX_IF_ANY, NULL);
    assert_false(sx_provider_write(p, "f", &up, NULL, NULL, &e));
    assert_error(&e, SX_ERR_CANCELLED);
    t.fail_with = -EIO;
    assert_false(sx_provider_write(p, "f", &up, NULL, NULL, &e));
    assert_error(&e, SX_ERR_FAILED);
    sx_mem_set_space(s, 100);
    t.fail_at = -1;
    assert_false(sx_provider_write(p, "g", &up, NULL, NULL, &e));
    assert_error(&e, SX_ERR_NO_SPACE);
    g_autofree char *after = sx_mem_dump(s);
    assert_string_equal(after, before);
    sx_mem_check(s);
    sx_mem_drop("broken");
}

static void
change_it(void *store, const char *path)
{
    sx_mem_put(store, path, "theirs", 6, 0);
}

static void
a_race_is_seen_only_by_servers_with_conditions(void **state)
{
    static const char *const options[] = {"store = race", "store = race\nconditional = no"};
    for (int poor = 0; poor < 2; poor++) {
        g_autoptr(SxProvider) p = open_mem(options[poor]);
        g_autoptr(SxMemStore) s = sx_mem_store("race");
        g_autoptr(SxRemote) r = NULL;
        g_autoptr(GError) e = NULL;
        assert_true(put(p, "f", "old", SX_IF_ABSENT, NULL, &r, NULL));
        sx_mem_set_before_publish(s, change_it, s);
        assert_int_equal(put(p, "f", "mine", SX_IF_VERSION, r->version, NULL, &e), poor);
        if (!poor)
            assert_error(&e, SX_ERR_CHANGED);
        g_autoptr(GBytes) now = sx_mem_get(s, "f");
        assert_memory_equal(g_bytes_get_data(now, NULL), poor ? "mine" : "theirs", poor ? 4 : 6);
        sx_mem_drop("race");
    }
}

static void
an_upload_is_continued(void **state)
{
    g_autoptr(SxProvider) p = open_mem("resumable = yes\nchunk-size = 1K\nstore = resume");
    g_autoptr(SxMemStore) s = sx_mem_store("resume");
    g_autofree char *big = g_strnfill(5000, 'r');
    g_autoptr(GError) e = NULL;
    Text t = {.bytes = big, .n = 5000, .fail_at = 3500, .fail_with = -EIO};
    SxUpload up = upload_of(&t, SX_IF_ABSENT, NULL);
    assert_false(sx_provider_write(p, "f", &up, NULL, NULL, &e));
    assert_non_null(t.resume);
    assert_int_equal(t.progress, 3072);
    assert_false(sx_mem_exists(s, "f"));
    g_autofree char *resume = g_steal_pointer(&t.resume);
    up.resume = resume;
    t.fail_at = -1;
    up.source.data = &t;
    assert_true(sx_provider_write(p, "f", &up, NULL, NULL, NULL));
    assert_string_equal(t.resume, resume);
    g_autoptr(GBytes) got = sx_mem_get(s, "f");
    assert_int_equal(g_bytes_get_size(got), 5000);
    g_free(t.resume);
    sx_mem_drop("resume");
}

static void
poor_servers_say_so(void **state)
{
    g_autoptr(SxProvider) p = open_mem("versions = no\nversion-after-write = no\nstable-ids = no\nserver-move = no\n"
                                       "symlinks = no\nhash = none\ncoarse-times = yes\natomic = no");
    g_autoptr(SxRemote) r = NULL, st = NULL;
    g_autoptr(GError) e = NULL;
    assert_true(put(p, "f", "abc", SX_IF_ANY, NULL, &r, NULL));
    assert_string_equal(r->version, "");
    assert_null(r->id);
    assert_null(r->hash);
    assert_true(sx_provider_stat(p, "f", &st, NULL, NULL));
    assert_true(g_str_has_prefix(st->version, "3-17000000"));
    assert_int_equal(st->mtime_ns % 1000000000, 0);
    assert_false(sx_provider_move(p, "f", "g", SX_KIND_FILE, NULL, &e));
    assert_error(&e, SX_ERR_UNSUPPORTED);
    assert_false(SX_CAN(p, move));
    assert_false(SX_CAN(p, symlink));
    assert_true(SX_CAN(p, write));
    /* Not atomic: a broken upload is seen. */
    g_autofree char *big = g_strnfill(200000, 'n');
    Text t = {.bytes = big, .n = 200000, .fail_at = 100000, .fail_with = -EIO};
    SxUpload up = upload_of(&t, SX_IF_ANY, NULL);
    assert_false(sx_provider_write(p, "f", &up, NULL, NULL, &e));
    g_clear_error(&e);
    g_clear_pointer(&st, sx_remote_free);
    assert_true(sx_provider_stat(p, "f", &st, NULL, NULL));
    assert_int_equal(st->size, 65536);
}

static void
what_must_not_pass_does_not(void **state)
{
    g_autoptr(SxProvider) p = open_mem("forbidden = :\nlongest-name = 10\nmax-file-size = 3\nstore = guard");
    g_autoptr(SxMemStore) s = sx_mem_store("guard");
    g_autoptr(GError) e = NULL;
    static const char *const bad[] = {"/a", "a/", "a//b", "..", "a/../b", "./a"};
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        assert_false(sx_provider_mkdir(p, bad[i], NULL, NULL, &e));
        assert_error(&e, SX_ERR_NAME);
    }
    assert_false(sx_provider_mkdir(p, "", NULL, NULL, &e));
    assert_error(&e, SX_ERR_INVALID);
    assert_false(sx_provider_mkdir(p, "a:b", NULL, NULL, &e));
    assert_error(&e, SX_ERR_NAME);
    assert_false(sx_provider_mkdir(p, "12345678901", NULL, NULL, &e));
    assert_error(&e, SX_ERR_NAME_TOO_LONG);
    assert_false(put(p, "f", "1234", SX_IF_ANY, NULL, NULL, &e));
    assert_error(&e, SX_ERR_TOO_LARGE);
    assert_true(sx_provider_mkdir(p, "d", NULL, NULL, NULL));
    assert_false(sx_provider_move(p, "d", "d/e", SX_KIND_DIR, NULL, &e));
    assert_error(&e, SX_ERR_LOOP);
    assert_false(sx_provider_check_name(p, SX_TMP_PREFIX "1", &e));
    assert_error(&e, SX_ERR_NAME);
    assert_int_equal(sx_mem_mkdir(s, SX_TMP_PREFIX "1"), 0);
    g_autofree char *shown = names(p, "", NULL);
    assert_string_equal(shown, "d ");
    g_autoptr(SxRemote) r = NULL;
    assert_true(sx_provider_stat(p, SX_TMP_PREFIX "1", &r, NULL, NULL));
    sx_mem_drop("guard");
}

static void
read_only_never_reaches_the_other_side(void **state)
{
    g_autoptr(SxProvider) p = open_mem("read-only = yes\nstore = ro");
    g_autoptr(SxMemStore) s = sx_mem_store("ro");
    g_autoptr(GError) e = NULL;
    assert_false(put(p, "f", "x", SX_IF_ANY, NULL, NULL, &e));
    assert_true(g_str_has_prefix(e->message, "m: f: "));
    assert_error(&e, SX_ERR_READ_ONLY);
    assert_false(sx_provider_mkdir(p, "d", NULL, NULL, &e));
    assert_error(&e, SX_ERR_READ_ONLY);
    assert_false(sx_provider_remove(p, "d", SX_KIND_DIR, NULL, NULL, &e));
    assert_error(&e, SX_ERR_READ_ONLY);
    assert_int_equal(sx_mem_calls(s, SX_N_CALLS), 0);
    SxCaps caps;
    sx_provider_caps(p, &caps);
    assert_true(caps.read_only);
    sx_mem_drop("ro");
}

/* ---- a plug-in that misbehaves ---- */

typedef struct Odd {
    const SxProviderEnv *env;
} Odd;

static struct OddScript {
    gint probes;         /* atomic */
    SxErrorCode probe_fails; /* SX_N_ERRORS: it does not */
    SxErrorCode list_fails;
    GMutex lock;
    GCond cond;
    bool hold;           /* probes wait; guarded by lock */
} odd;

static void *
odd_open(const SxProviderEnv *env, GError **error)
{
    return g_new0(Odd, 1);
}
static bool
odd_probe(void *self, SxCaps *caps, GCancellable *cancel, GError **error)
{
    g_mutex_lock(&odd.lock);
    g_atomic_int_inc(&odd.probes);
    g_cond_broadcast(&odd.cond);
    while (odd.hold)
        g_cond_wait(&odd.cond, &odd.lock);
    g_mutex_unlock(&odd.lock);
    return odd.probe_fails == SX_N_ERRORS || sx_fail(error, odd.probe_fails, "no");
}
static bool
odd_list(void *self, const char *path, SxListFn fn, void *data, GCancellable *cancel, GError **error)
{
    if (odd.list_fails != SX_N_ERRORS)
        return sx_fail(error, odd.list_fails, "not now");
    static const char *const given[] = {"ok", "..", "", "a/b", "ok", SX_TMP_PREFIX "x", "fine"};
    for (gsize i = 0; i < G_N_ELEMENTS(given); i++) {
        SxRemote r = {.name = (char *)given[i], .kind = SX_KIND_FILE, .size = -77, .mode = -1};
        if (!fn(data, &r))
            return false;
    }
    return true;
}
static bool
odd_stat(void *self, const char *path, SxRemote **ret, GCancellable *cancel, GError **error)
{
    return false; /* without a reason */
}
static bool
odd_read(void *self, const char *path, const SxCond *cond, gint64 off, gint64 len, SxSinkFn sink, void *data,
         GCancellable *cancel, GError **error)
{
    return sink(data, off, "too many bytes", 14) == 0 || sx_fail(error, SX_ERR_LOST, "sink");
}

static const SxProviderType odd_type = {
    .name = "odd", .doc = "misbehaves", .caps = {.name_max = 255, .forbidden = ""}, .open = odd_open, .close = g_free,
    .probe = odd_probe, .list = odd_list, .stat = odd_stat, .read = odd_read,
};

static SxProvider *
open_odd(void)
{
    odd.probe_fails = odd.list_fails = SX_N_ERRORS;
    odd.hold = false;
    g_atomic_int_set(&odd.probes, 0);
    g_autoptr(GError) e = NULL;
    SxProvider *p = sx_provider_open_text(&odd_type, "o", "name = Odd", sx_sys_default(), &fake_clock, &e);
    if (p == NULL)
        fail_msg("%s", e->message);
    return p;
}

static bool
check_tidy(void *data, const SxRemote *r)
{
    assert_int_equal(r->size, -1);
    assert_string_equal(r->version, "");
    return add_name(data, r);
}

static void
answers_are_checked(void **state)
{
    g_autoptr(SxProvider) p = open_odd();
    g_autoptr(GError) e = NULL;
    g_autoptr(GString) s = g_string_new(NULL);
    g_autoptr(SxRemote) r = NULL;
    assert_true(sx_provider_list(p, "", check_tidy, s, NULL, NULL));
    assert_string_equal(s->str, "ok fine ");
    assert_false(sx_provider_stat(p, "a", &r, NULL, &e));
    assert_string_equal(e->message, "Odd: a: stat failed");
    g_clear_error(&e);
    assert_false(sx_provider_read(p, "a", NULL, 0, 5, add_bytes, s, NULL, &e));
    assert_error(&e, SX_ERR_PROTOCOL);
    assert_false(put(p, "a", "x", SX_IF_ANY, NULL, NULL, &e));
    assert_error(&e, SX_ERR_UNSUPPORTED);
    SxProviderStats st;
    sx_provider_stats(p, &st);
    assert_int_equal(st.by_call[SX_CALL_PROBE], 1);
    assert_int_equal(st.by_call[SX_CALL_STAT], 1);
    assert_int_equal(st.errors, 2);
}

static void
the_online_state_follows_the_answers(void **state)
{
    g_autoptr(SxProvider) p = open_odd();
    g_autoptr(GError) e = NULL;
    assert_int_equal(sx_provider_online(p), SX_ONLINE_UNKNOWN);
    odd.probe_fails = SX_ERR_OFFLINE;
    assert_null(names(p, "", &e));
    assert_error(&e, SX_ERR_OFFLINE);
    assert_int_equal(sx_provider_online(p), SX_OFFLINE);
    g_autofree char *why = sx_provider_last_error(p);
    assert_string_equal(why, "Odd: no");
    odd.probe_fails = SX_N_ERRORS; /* the probe is repeated by the next call */
    odd.list_fails = SX_ERR_NOT_FOUND;
    assert_null(names(p, "d", &e));
    assert_string_equal(e->message, "Odd: d: not now");
    assert_error(&e, SX_ERR_NOT_FOUND);
    assert_int_equal(sx_provider_online(p), SX_ONLINE);
    assert_null(sx_provider_last_error(p));
    odd.list_fails = SX_ERR_LOST; /* says nothing */
    assert_null(names(p, "d", &e));
    g_clear_error(&e);
    assert_int_equal(sx_provider_online(p), SX_ONLINE);
    odd.list_fails = SX_ERR_AUTH;
    assert_null(names(p, "d", &e));
    assert_error(&e, SX_ERR_AUTH);
    assert_int_equal(sx_provider_online(p), SX_ONLINE_REFUSED);
    odd.list_fails = SX_N_ERRORS; /* nobody is asked for a while */
    assert_null(names(p, "d", &e));
    assert_error(&e, SX_ERR_AUTH);
    assert_true(sx_provider_probe(p, NULL, NULL)); /* unless a person asks */
    g_autofree char *ok = names(p, "d", NULL);
    assert_string_equal(ok, "ok fine ");
    odd.list_fails = SX_ERR_AUTH;
    assert_null(names(p, "d", NULL));
    odd.list_fails = SX_N_ERRORS;
    g_atomic_int_add(&fake_ms, 31000);
    g_autofree char *later = names(p, "d", NULL);
    assert_non_null(later);
}

static gpointer
list_in_thread(gpointer p)
{
    g_autoptr(GError) e = NULL;
    g_autofree char *got = names(p, "", &e);
    return GINT_TO_POINTER(got != NULL);
}

static void
many_threads_share_one_probe(void **state)
{
    g_autoptr(SxProvider) p = open_odd();
    odd.hold = true;
    GThread *threads[6];
    for (gsize i = 0; i < G_N_ELEMENTS(threads); i++)
        threads[i] = g_thread_new("list", list_in_thread, p);
    g_mutex_lock(&odd.lock);
    while (g_atomic_int_get(&odd.probes) == 0)
        g_cond_wait(&odd.cond, &odd.lock);
    odd.hold = false;
    g_cond_broadcast(&odd.cond);
    g_mutex_unlock(&odd.lock);
    for (gsize i = 0; i < G_N_ELEMENTS(threads); i++)
        assert_int_equal(GPOINTER_TO_INT(g_thread_join(threads[i])), 1);
    assert_int_equal(g_atomic_int_get(&odd.probes), 1);
}

static void
a_wait_for_the_probe_can_be_cancelled(void **state)
{
    g_autoptr(SxProvider) p = open_odd();
    odd.hold = true;
    GThread *first = g_thread_new("list", list_in_thread, p);
    g_mutex_lock(&odd.lock);
    while (g_atomic_int_get(&odd.probes) == 0)
        g_cond_wait(&odd.cond, &odd.lock);
    g_mutex_unlock(&odd.lock);
    g_autoptr(GCancellable) cancel = g_cancellable_new();
    g_cancellable_cancel(cancel);
    g_autoptr(GError) e = NULL;
    assert_false(sx_provider_probe(p, cancel, &e));
    assert_error(&e, SX_ERR_CANCELLED);
    g_mutex_lock(&odd.lock);
    odd.hold = false;
    g_cond_broadcast(&odd.cond);
    g_mutex_unlock(&odd.lock);
    assert_int_equal(GPOINTER_TO_INT(g_thread_join(first)), 1);
}

static void
a_section_is_opened_with_its_line(void **state)
{
    g_autoptr(GError) e = NULL;
    assert_null(sx_provider_open_text(&sx_provider_mem, "m", "resumable = yes\nchunk-size = 0", sx_sys_default(), &fake_clock, &e));
    assert_non_null(strstr(e->message, "m:1: "));
    assert_error(&e, SX_ERR_CONFIG);
    assert_null(sx_provider_open_text(&sx_provider_mem, "m", "nonsense = 1", sx_sys_default(), &fake_clock, &e));
    assert_error(&e, SX_ERR_CONFIG);
    assert_null(sx_provider_open_text(&sx_provider_mem, "m", "name = a/b", sx_sys_default(), &fake_clock, &e));
    assert_error(&e, SX_ERR_CONFIG);
}

/* ---- faults ---- */

/* A fixed tour; its outcome as text. */
static char *
tour(SxFaultPlan *plan)
{
    g_autoptr(SxProvider) inner = open_mem("store = tour");
    g_autoptr(SxProvider) p = sx_fault_wrap(inner, plan);
    g_autoptr(SxMemStore) s = sx_mem_store("tour");
    GString *log = g_string_new(NULL);
    for (int i = 0; i < 60; i++) {
        g_autoptr(GError) e = NULL;
        g_autoptr(GString) got = g_string_new(NULL);
        g_autofree char *path = g_strdup_printf("f%d", i % 7), *text = g_strdup_printf("content %d", i);
        put(p, path, text, SX_IF_ANY, NULL, NULL, &e);
        g_string_append_printf(log, "%d %s\n", i, e != NULL ? e->message : "ok");
        g_clear_error(&e);
        g_autofree char *list = names(p, "", &e);
        g_string_append_printf(log, "%s %s\n", list, e != NULL ? e->message : "ok");
        g_clear_error(&e);
        sx_provider_read(p, path, NULL, 0, -1, add_bytes, got, NULL, &e);
        g_string_append_printf(log, "%s %s\n", got->str, e != NULL ? e->message : "ok");
    }
    g_autofree char *dump = sx_mem_dump(s);
    g_string_append(log, dump);
    sx_mem_check(s);
    sx_mem_drop("tour");
    return g_string_free(log, FALSE);
}

static void
the_same_seed_gives_the_same_faults(void **state)
{
    SxFaultPlan plan = {.seed = 7, .per_mille_error = 100, .per_mille_lost = 100, .per_mille_cut = 100,
                        .per_mille_stale_list = 200, .per_mille_partial_list = 200};
    g_atomic_int_set(&fake_ms, 1000);
    g_autofree char *a = tour(&plan), *b = tour(&plan);
    assert_string_equal(a, b);
    plan.seed = 8;
    g_autofree char *c = tour(&plan);
    assert_string_not_equal(a, c);
    assert_non_null(strstr(a, "(fault)"));
    SxFaultPlan calm = {.seed = 7};
    g_autofree char *d = tour(&calm);
    assert_null(strstr(d, "(fault)"));
}

static void
each_fault_is_what_it_says(void **state)
{
    g_autoptr(SxProvider) inner = open_mem("store = kinds");
    g_autoptr(SxMemStore) s = sx_mem_store("kinds");
    SxFaultPlan plan = {.seed = 1};
    g_autoptr(SxProvider) p = sx_fault_wrap(inner, &plan);
    g_autoptr(GError) e = NULL;
    assert_true(put(p, "f", "old content", SX_IF_ANY, NULL, NULL, NULL));

    plan.per_mille_error = 1000; /* nothing is done */
    assert_false(put(p, "g", "x", SX_IF_ANY, NULL, NULL, &e));
    assert_true(sx_error_is(e, SX_ERR_OFFLINE) || sx_error_is(e, SX_ERR_SERVER) || sx_error_is(e, SX_ERR_TIMEOUT));
    g_clear_error(&e);
    assert_false(sx_mem_exists(s, "g"));

    plan.per_mille_error = 0;
    plan.per_mille_lost = 1000; /* it is done */
    SxRemote *r = NULL;
    assert_false(put(p, "g", "x", SX_IF_ANY, NULL, &r, &e));
    assert_null(r);
    assert_error(&e, SX_ERR_LOST);
    assert_true(sx_mem_exists(s, "g"));
    assert_false(sx_provider_mkdir(p, "d", &r, NULL, &e));
    assert_null(r);
    assert_error(&e, SX_ERR_LOST);
    assert_true(sx_mem_exists(s, "d"));
    assert_false(sx_provider_remove(p, "none", SX_KIND_FILE, NULL, NULL, &e)); /* a true failure stays what it is */
    assert_error(&e, SX_ERR_NOT_FOUND);

    plan.per_mille_lost = 0;
    plan.per_mille_cut = 1000;
    g_autofree char *before = sx_mem_dump(s);
    for (int i = 0; i < 20; i++) {
        assert_false(put(p, "f", "new content", SX_IF_ANY, NULL, NULL, &e));
        assert_error(&e, SX_ERR_LOST);
    }
    assert_false(put(p, "empty", "", SX_IF_ANY, NULL, NULL, &e));
    assert_error(&e, SX_ERR_LOST);
    g_autofree char *after = sx_mem_dump(s);
    assert_string_equal(after, before);
    bool part = false;
    for (int i = 0; i < 20; i++) {
        g_autoptr(GString) got = g_string_new(NULL);
        assert_false(sx_provider_read(p, "f", NULL, 0, 11, add_bytes, got, NULL, &e));
        assert_error(&e, SX_ERR_LOST);
        assert_memory_equal(got->str, "old content", got->len);
        assert_true(got->len < 11);
        part |= got->len > 0;
        assert_null(names(p, "", &e));
        assert_error(&e, SX_ERR_LOST);
    }
    assert_true(part);

    plan.per_mille_cut = 0;
    g_autofree char *now = names(p, "", NULL);
    sx_mem_put(s, "later", "1", 1, 0);
    plan.per_mille_stale_list = 1000;
    g_autofree char *stale = names(p, "", NULL);
    assert_string_equal(stale, now);
    plan.per_mille_stale_list = 0;
    g_autofree char *fresh = names(p, "", NULL);
    assert_string_not_equal(fresh, now);
    plan.per_mille_partial_list = 1000;
    bool shorter = false;
    for (int i = 0; i < 20; i++) {
        g_autofree char *partial = names(p, "", NULL);
        assert_non_null(partial);
        shorter |= strlen(partial) < strlen(fresh);
    }
    assert_true(shorter);

    plan.per_mille_partial_list = 0;
    sx_fault_set_offline(&plan, true);
    assert_null(names(p, "", &e));
    assert_error(&e, SX_ERR_OFFLINE);
    assert_int_equal(sx_provider_online(p), SX_OFFLINE);
    sx_fault_set_offline(&plan, false);
    g_autofree char *back = names(p, "", NULL);
    assert_string_equal(back, fresh);

    plan.max_delay_ms = 30;
    gint64 began = g_get_monotonic_time();
    for (int i = 0; i < 10; i++) { /* the same ten delays in each run, 150 ms in the mean */
        g_autofree char *slow = names(p, "", NULL);
        assert_non_null(slow);
    }
    assert_true(g_get_monotonic_time() - began > 20000);
    plan.max_delay_ms = 60000; /* a wait that only cancelling ends: the test would time out otherwise */
    g_autoptr(GCancellable) cancel = g_cancellable_new();
    g_cancellable_cancel(cancel);
    GString *none = g_string_new(NULL);
    assert_false(sx_provider_list(p, "", add_name, none, cancel, &e));
    assert_error(&e, SX_ERR_CANCELLED);
    g_string_free(none, TRUE);
    sx_mem_drop("kinds");
}

typedef struct CrashAt {
    int left;
    bool after;
} CrashAt;

static bool
crash_at(void *data, const char *call, bool after)
{
    CrashAt *c = data;
    return after == c->after && strcmp(call, "mkdir") == 0 && --c->left == 0;
}

static void
a_crash_stops_everything_from_there_on(void **state)
{
    for (int after = 0; after < 2; after++) {
        g_autoptr(SxProvider) inner = open_mem("store = crash");
        g_autoptr(SxMemStore) s = sx_mem_store("crash");
        CrashAt at = {.left = 2, .after = after};
        SxFaultPlan plan = {.crash = crash_at, .data = &at};
        g_autoptr(SxProvider) p = sx_fault_wrap(inner, &plan);
        g_autoptr(GError) e = NULL;
        assert_true(sx_provider_mkdir(p, "a", NULL, NULL, NULL));
        assert_false(sx_provider_mkdir(p, "b", NULL, NULL, &e));
        assert_error(&e, SX_ERR_FAILED);
        assert_int_equal(sx_mem_exists(s, "b"), after);
        assert_false(sx_provider_mkdir(p, "c", NULL, NULL, &e));
        assert_error(&e, SX_ERR_FAILED);
        assert_false(sx_mem_exists(s, "c"));
        sx_mem_drop("crash");
    }
}

static void
a_filter_can_no_more_than_what_it_wraps(void **state)
{
    g_autoptr(SxProvider) inner = open_odd();
    SxFaultPlan plan = {0};
    g_autoptr(SxProvider) p = sx_fault_wrap(inner, &plan);
    assert_false(SX_CAN(p, write));
    assert_true(SX_CAN(p, list));
    assert_string_equal(sx_provider_type_name(p), "odd");
    assert_string_equal(sx_provider_label(p), "Odd");
}

/* ---- limits ---- */

static void
a_bucket_passes_its_rate(void **state)
{
    SxBucket b = {.last_ms = 0};
    gint64 now = 0, passed = 0;
    while (now < 10000) {
        gint64 wait = sx_bucket_take(&b, 100000, now, 16384);
        if (wait == 0)
            passed += 16384;
        else
            now += wait;
    }
    assert_in_range(passed, 990000, 1060000);
    SxBucket slow = {.last_ms = 0}; /* 3 bytes a second, asked every 10 ms: fractions are not lost */
    passed = 0;
    for (now = 0; now < 10000; now += 10)
        passed += sx_bucket_take(&slow, 3, now, 1) == 0;
    assert_in_range(passed, 28, 31);
    assert_int_equal(sx_bucket_take(&slow, 0, now, 1 << 30), 0);
    SxBucket idle = {.last_ms = 0}; /* a long pause gives no more than the burst */
    assert_int_equal(sx_bucket_take(&idle, 1000, 1000000, 250), 0);
    assert_true(sx_bucket_take(&idle, 1000, 1000000, 1) > 0);
    assert_true(sx_bucket_take(&idle, 1000, 0, 1) > 0); /* a clock that goes back gives nothing */
}

static void
both_limits_hold(void **state)
{
    /* Each look at the fake clock is 1 ms: the looks count the time that the transfer was made to take. */
    g_autoptr(GError) e = NULL;
    g_autofree char *big = g_strnfill(400000, 'b');
    static const struct {
        const char *own, *shared;
    } rows[] = {{"2M", "1M"}, {"1M", "2M"}, {"1M", NULL}, {NULL, "1M"}};
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(SxBandwidth) shared = rows[i].shared ? sx_bandwidth_new(rows[i].shared, rows[i].shared, &fake_clock, &e) : NULL;
        g_autofree char *options = rows[i].own ? g_strdup_printf("bandwidth-up = %s\nbandwidth-down = %s", rows[i].own, rows[i].own) : g_strdup("");
        g_autoptr(SxProvider) p = open_mem(options);
        sx_provider_share_bandwidth(p, shared);
        g_atomic_int_set(&fake_step, 25);
        gint start = g_atomic_int_get(&fake_ms);
        assert_true(put(p, "f", big, SX_IF_ANY, NULL, NULL, &e));
        gint up = g_atomic_int_get(&fake_ms) - start;
        start = g_atomic_int_get(&fake_ms);
        g_autoptr(GString) got = g_string_new(NULL);
        assert_true(sx_provider_read(p, "f", NULL, 0, -1, add_bytes, got, NULL, &e));
        gint down = g_atomic_int_get(&fake_ms) - start;
        g_atomic_int_set(&fake_step, 0);
        assert_int_equal(got->len, 400000);
        assert_true(up >= 350 && down >= 350); /* 400,000 bytes at 1 MiB/s are 381 ms; a piece may pass in advance */
    }
}

static struct {
    GMutex lock;
    GCond cond;
    int inside, most;
    bool open;
} gate;

static gssize
gated_read(void *data, gint64 off, void *buf, gsize n)
{
    g_mutex_lock(&gate.lock);
    gate.inside++;
    gate.most = MAX(gate.most, gate.inside);
    g_cond_broadcast(&gate.cond);
    while (!gate.open)
        g_cond_wait(&gate.cond, &gate.lock);
    gate.inside--;
    g_mutex_unlock(&gate.lock);
    memset(buf, 'g', n);
    return (gssize)n;
}

static gpointer
gated_write(gpointer p)
{
    static gint n;
    g_autofree char *path = g_strdup_printf("w%d", g_atomic_int_add(&n, 1));
    SxUpload up = {.source = {.size = 10, .read = gated_read, .fd = -1}, .mtime_ns = SX_TIME_UNKNOWN, .mode = -1};
    return GINT_TO_POINTER(sx_provider_write(p, path, &up, NULL, NULL, NULL));
}

static void
only_so_many_calls_run_at_once(void **state)
{
    g_autoptr(SxProvider) inner = open_mem("");
    g_autoptr(SxProvider) p = sx_limit_wrap(inner, NULL, NULL, 3);
    GThread *threads[6];
    for (gsize i = 0; i < G_N_ELEMENTS(threads); i++)
        threads[i] = g_thread_new("write", gated_write, p);
    g_mutex_lock(&gate.lock);
    while (gate.inside < 2)
        g_cond_wait(&gate.cond, &gate.lock);
    g_mutex_unlock(&gate.lock);
    g_autofree char *list = names(p, "", NULL); /* one place is kept from writes */
    assert_non_null(list);
    g_autoptr(GCancellable) cancel = g_cancellable_new();
    g_cancellable_cancel(cancel);
    SxUpload up = {.source = {.size = 10, .read = gated_read, .fd = -1}, .mtime_ns = SX_TIME_UNKNOWN, .mode = -1};
    g_autoptr(GError) e = NULL;
    assert_false(sx_provider_write(p, "x", &up, NULL, cancel, &e));
    assert_error(&e, SX_ERR_CANCELLED);
    g_mutex_lock(&gate.lock);
    gate.open = true;
    g_cond_broadcast(&gate.cond);
    g_mutex_unlock(&gate.lock);
    for (gsize i = 0; i < G_N_ELEMENTS(threads); i++)
        assert_int_equal(GPOINTER_TO_INT(g_thread_join(threads[i])), 1);
    assert_int_equal(gate.most, 2);
}

/* ---- pushed changes ---- */

typedef struct Watching {
    SxProvider *p;
    GCancellable *cancel;
    GMutex lock;
    GCond cond;
    char *first; /* guarded by lock */
} Watching;

static void
note_change(void *data, const char *path, bool recursive)
{
    Watching *w = data;
    g_mutex_lock(&w->lock);
    if (w->first == NULL)
        w->first = g_strdup(path);
    g_cond_broadcast(&w->cond);
    g_mutex_unlock(&w->lock);
}

static gpointer
watch_thread(gpointer data)
{
    Watching *w = data;
    g_autoptr(GError) e = NULL;
    sx_provider_watch(w->p, note_change, w, w->cancel, &e);
    return GINT_TO_POINTER(sx_error_is(e, SX_ERR_CANCELLED));
}

static void
mem_pushes_changes(void **state)
{
    g_autoptr(SxProvider) p = open_mem("push = yes\nstore = push");
    g_autoptr(SxMemStore) s = sx_mem_store("push");
    g_autoptr(GCancellable) cancel = g_cancellable_new();
    Watching w = {.p = p, .cancel = cancel};
    GThread *t = g_thread_new("watch", watch_thread, &w);
    g_mutex_lock(&w.lock);
    for (int i = 0; w.first == NULL; i++) { /* until the watcher has begun */
        g_autofree char *path = g_strdup_printf("x%d", i);
        sx_mem_put(s, path, "1", 1, 0);
        g_cond_wait_until(&w.cond, &w.lock, g_get_monotonic_time() + 20000);
    }
    g_mutex_unlock(&w.lock);
    assert_true(w.first[0] == 'x');
    g_free(w.first);
    g_cancellable_cancel(cancel);
    assert_int_equal(GPOINTER_TO_INT(g_thread_join(t)), 1);
    sx_mem_drop("push");
}

int
main(void)
{
    sx_log_set_level(SX_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_object_lives_its_life),
        cmocka_unit_test(a_store_outlives_its_provider),
        cmocka_unit_test(bytes_come_in_ranges_of_one_version),
        cmocka_unit_test(a_broken_source_publishes_nothing),
        cmocka_unit_test(a_race_is_seen_only_by_servers_with_conditions),
        cmocka_unit_test(an_upload_is_continued),
        cmocka_unit_test(poor_servers_say_so),
        cmocka_unit_test(what_must_not_pass_does_not),
        cmocka_unit_test(read_only_never_reaches_the_other_side),
        cmocka_unit_test(answers_are_checked),
        cmocka_unit_test(the_online_state_follows_the_answers),
        cmocka_unit_test(many_threads_share_one_probe),
        cmocka_unit_test(a_wait_for_the_probe_can_be_cancelled),
        cmocka_unit_test(a_section_is_opened_with_its_line),
        cmocka_unit_test(the_same_seed_gives_the_same_faults),
        cmocka_unit_test(each_fault_is_what_it_says),
        cmocka_unit_test(a_crash_stops_everything_from_there_on),
        cmocka_unit_test(a_filter_can_no_more_than_what_it_wraps),
        cmocka_unit_test(a_bucket_passes_its_rate),
        cmocka_unit_test(both_limits_hold),
        cmocka_unit_test(only_so_many_calls_run_at_once),
        cmocka_unit_test(mem_pushes_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
