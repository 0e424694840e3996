#include "suite.h"

#include <errno.h>
#include <string.h>

/* What write() tells is what stat tells, or is left open in the way that the tree can confirm later. */
static void
check_told(SxTarget *t, const char *path, const SxRemote *told)
{
    SxCaps caps;
    sx_provider_caps(t->p, &caps);
    g_autoptr(SxRemote) now = sx_test_stat(t, path);
    assert_int_equal(told->kind, SX_KIND_FILE);
    assert_int_equal(told->size, now->size);
    assert_true(!caps.version_after_write || *told->version != 0);
    if (*told->version != 0)
        assert_string_equal(told->version, now->version);
    else
        assert_true(told->mtime_ns != SX_TIME_UNKNOWN && now->mtime_ns <= told->mtime_ns);
    if (told->id != NULL && now->id != NULL)
        assert_string_equal(told->id, now->id);
}

static void
sizes(SxTarget *t, const char *dir)
{
    const gint64 all[] = {0, 1, 4095, 65537, 1048576, 1048577, 5000000};
    for (gsize i = 0; i < G_N_ELEMENTS(all); i++) {
        g_autofree char *name = g_strdup_printf("size %" G_GINT64_FORMAT, all[i]);
        g_autofree char *path = IN(dir, name);
        SxTestSource s = {.seed = (guint)i, .size = all[i]};
        SxUpload u = sx_test_upload(&s, sx_test_absent());
        g_autoptr(SxRemote) r = NULL;
        OK(sx_provider_write(t->p, path, &u, &r, NULL, error));
        check_told(t, path, r);
        sx_test_same(t, path, (guint)i, all[i]);
    }
    g_autoptr(GHashTable) l = sx_test_list(t, dir);
    assert_int_equal(g_hash_table_size(l), G_N_ELEMENTS(all)); /* no temporary name stays */
}

static void
hashes(SxTarget *t, const char *dir)
{
    SxCaps caps;
    sx_provider_caps(t->p, &caps);
    if (g_strcmp0(caps.hash_kind, "sha1") != 0)
        return;
    g_autofree char *path = IN(dir, "hashed");
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA1);
    for (gint64 i = 0; i < 1000; i++) {
        guint8 b = sx_test_byte(5, i);
        g_checksum_update(sum, &b, 1);
    }
    g_autofree char *hash = g_strconcat("sha1:", g_checksum_get_string(sum), NULL);
    SxTestSource s = {.seed = 5, .size = 1000};
    SxUpload u = sx_test_upload(&s, sx_test_any());
    u.hash = hash;
    g_autoptr(SxRemote) r = NULL;
    OK(sx_provider_write(t->p, path, &u, &r, NULL, error));
    g_autoptr(SxRemote) now = sx_test_stat(t, path);
    assert_non_null(now->hash);
    assert_string_equal(now->hash, hash);
}

/* Writes in quick succession, each on the version before: no false conflict (weak etags), no missed change. */
static void
conditions(SxTarget *t, const char *dir)
{
    g_autofree char *path = IN(dir, "cond"), *other = IN(dir, "gone");
    g_autoptr(SxRemote) before = NULL;
    for (guint i = 0; i < 4; i++) {
        SxTestSource s = {.seed = i, .size = 100 + i};
        SxUpload u = sx_test_upload(&s, i == 0 ? sx_test_absent() : sx_test_version(before));
        SxRemote *r = NULL;
        OK(sx_provider_write(t->p, path, &u, &r, NULL, error));
        sx_remote_free(r);
        SxRemote *now = sx_test_stat(t, path);
        if (before != NULL) {
            assert_string_not_equal(before->version, now->version);
            SxTestSource bad = {.seed = 99, .size = 50};
            SxUpload stale = sx_test_upload(&bad, sx_test_version(before));
            FAILS(SX_ERR_CHANGED, sx_provider_write(t->p, path, &stale, &r, NULL, error));
        }
        sx_remote_free(before);
        before = now;
        SxTestSource bad = {.seed = 98, .size = 50};
        SxUpload absent = sx_test_upload(&bad, sx_test_absent());
        FAILS(SX_ERR_EXISTS, sx_provider_write(t->p, path, &absent, &r, NULL, error));
        sx_test_same(t, path, i, 100 + i);
    }
    SxCond any = sx_test_any();
    g_autoptr(SxRemote) g = sx_test_put(t, other, 1, 10), r = NULL;
    OK(sx_provider_remove(t->p, other, SX_KIND_FILE, &any, NULL, error));
    SxTestSource s = {.seed = 2, .size = 10};
    SxUpload u = sx_test_upload(&s, sx_test_version(g));
    FAILS(SX_ERR_CHANGED, sx_provider_write(t->p, other, &u, &r, NULL, error));
    sx_test_absent_now(t, other);
    g_autoptr(GHashTable) l = sx_test_list(t, dir);
    assert_int_equal(g_hash_table_size(l), 1);
}

/* A second upload before a listing has told the version of the first: no false conflict, and a change by others is seen. */
static void
writing_on_what_was_told(SxTarget *t, const char *dir)
{
    g_autofree char *path = IN(dir, "twice");
    g_autoptr(SxRemote) told = NULL;
    for (guint i = 0; i < 4; i++) {
        SxTestSource s = {.seed = i, .size = 100 + i};
        SxUpload u = sx_test_upload(&s, i == 0 ? sx_test_absent() : sx_test_version(told));
        SxRemote *r = NULL;
        OK(sx_provider_write(t->p, path, &u, &r, NULL, error));
        sx_remote_free(told);
        told = r;
    }
    g_autoptr(SxRemote) other = sx_test_put(t, path, 9, 999), none = NULL;
    SxTestSource s = {.seed = 5, .size = 5};
    SxUpload u = sx_test_upload(&s, sx_test_version(told));
    FAILS(SX_ERR_CHANGED, sx_provider_write(t->p, path, &u, &none, NULL, error));
    sx_test_same(t, path, 9, 999);
}

/* The same size, other bytes: the version must differ where the provider has versions. */
static void
versions_follow_content(SxTarget *t, const char *dir)
{
    SxCaps caps;
    sx_provider_caps(t->p, &caps);
    g_autofree char *path = IN(dir, "v");
    g_autoptr(SxRemote) a = sx_test_put(t, path, 1, 64), again = sx_test_stat(t, path), b = sx_test_put(t, path, 2, 64),
                        c = sx_test_put(t, path, 3, 65);
    assert_string_not_equal(a->version, "");
    assert_string_equal(a->version, again->version);
    if (caps.content_version)
        assert_string_not_equal(a->version, b->version);
    assert_string_not_equal(b->version, c->version);
}

static void
where_it_cannot_go(SxTarget *t, const char *dir)
{
    g_autofree char *sub = IN(dir, "sub"), *inner = IN(dir, "sub/inner"), *orphan = IN(dir, "no/where"), *file = IN(dir, "f"),
                    *under_file = IN(dir, "f/x");
    g_autoptr(SxRemote) d = NULL, r = NULL, f = sx_test_put(t, file, 1, 10);
    OK(sx_provider_mkdir(t->p, sub, &d, NULL, error));
    g_autoptr(SxRemote) i = sx_test_put(t, inner, 1, 10);
    SxTestSource s = {.seed = 9, .size = 10};
    SxUpload u = sx_test_upload(&s, sx_test_any()), absent = sx_test_upload(&s, sx_test_absent());
    FAILS(SX_ERR_IS_DIR, sx_provider_write(t->p, sub, &u, &r, NULL, error));
    g_autoptr(GError) taken = NULL;
    assert_false(sx_provider_write(t->p, sub, &absent, &r, NULL, &taken));
    assert_true(sx_error_is(taken, SX_ERR_EXISTS) || sx_error_is(taken, SX_ERR_IS_DIR));
    sx_test_same(t, inner, 1, 10);
    FAILS(SX_ERR_NOT_FOUND, sx_provider_write(t->p, orphan, &u, &r, NULL, error));
    g_autoptr(GError) why = NULL;
    assert_false(sx_provider_write(t->p, under_file, &u, &r, NULL, &why));
    sx_test_same(t, file, 1, 10);
}

/* In the middle of an upload, on the same thread: what others see. */
typedef struct Peek {
    SxTarget *t;
    const char *dir, *path;
    gint64 at;
    int looks;
} Peek;

static void
peek(void *data, gint64 off)
{
    Peek *k = data;
    if (off < k->at || k->looks > 0)
        return;
    k->looks++;
    sx_test_same(k->t, k->path, 1, 1000);
    g_autoptr(GHashTable) l = sx_test_list(k->t, k->dir);
    assert_int_equal(g_hash_table_size(l), 1);
    const SxRemote *r = g_hash_table_lookup(l, "atomic");
    assert_non_null(r);
    assert_int_equal(r->size, 1000);
}

static void
old_or_new_never_a_part(SxTarget *t, const char *dir)
{
    SxCaps caps;
    sx_provider_caps(t->p, &caps);
    if (!caps.atomic_replace)
        return;
    g_autofree char *path = IN(dir, "atomic");
    g_autoptr(SxRemote) old = sx_test_put(t, path, 1, 1000), r = NULL;
    Peek k = {.t = t, .dir = dir, .path = path, .at = 3 << 20};
    SxTestSource s = {.seed = 2, .size = 6 << 20, .hook = peek, .data = &k};
    SxUpload u = sx_test_upload(&s, sx_test_version(old));
    OK(sx_provider_write(t->p, path, &u, &r, NULL, error));
    assert_int_equal(k.looks, 1);
    sx_test_same(t, path, 2, 6 << 20);
    /* The content changes while it is read: nothing is published. */
    g_autoptr(SxRemote) now = sx_test_put(t, path, 1, 1000);
    SxTestSource broken = {.seed = 3, .size = 6 << 20, .fail_at = 4 << 20, .fail_errno = ECANCELED};
    SxUpload v = sx_test_upload(&broken, sx_test_version(now));
    FAILS(SX_ERR_CANCELLED, sx_provider_write(t->p, path, &v, &r, NULL, error));
    sx_test_same(t, path, 1, 1000);
    broken.fail_errno = EIO;
    FAILS(SX_ERR_FAILED, sx_provider_write(t->p, path, &v, &r, NULL, error));
    sx_test_same(t, path, 1, 1000);
    g_autoptr(GHashTable) l = sx_test_list(t, dir);
    assert_int_equal(g_hash_table_size(l), 1);
}

static void
cancel_in_the_middle(void *data, gint64 off)
{
    if (off > 2 << 20)
        g_cancellable_cancel(data);
}

static void
cancelled_while_writing(SxTarget *t, const char *dir)
{
    g_autofree char *path = IN(dir, "cancelled");
    g_autoptr(GCancellable) cancel = g_cancellable_new();
    SxTestSource s = {.seed = 2, .size = 64 << 20, .hook = cancel_in_the_middle, .data = cancel};
    SxUpload u = sx_test_upload(&s, sx_test_absent());
    g_autoptr(SxRemote) r = NULL;
    FAILS(SX_ERR_CANCELLED, sx_provider_write(t->p, path, &u, &r, cancel, error));
    assert_true(s.sent < s.size);
    sx_test_absent_now(t, path);
    g_autoptr(GHashTable) l = sx_test_list(t, dir);
    assert_int_equal(g_hash_table_size(l), 0);
}

/* ---- racing writers ---- */
#define RACERS 6

typedef struct Racer {
    SxTarget *t;
    const char *path;
    const SxRemote *base;
    guint seed;
    GError *why;
    bool won;
} Racer;

static void *
race(void *data)
{
    Racer *r = data;
    SxTestSource s = {.seed = r->seed, .size = 2000 + r->seed};
    SxUpload u = sx_test_upload(&s, sx_test_version(r->base));
    g_autoptr(SxRemote) told = NULL;
    r->won = sx_provider_write(r->t->p, r->path, &u, &told, NULL, &r->why);
    return NULL;
}

static void
racing_writers(SxTarget *t, const char *dir)
{
    SxCaps caps;
    sx_provider_caps(t->p, &caps);
    g_autofree char *path = IN(dir, "raced");
    for (guint round = 0; round < 5; round++) {
        g_autoptr(SxRemote) base = sx_test_put(t, path, 1000 + round, 500 + round);
        Racer racers[RACERS];
        GThread *threads[RACERS];
        for (guint i = 0; i < RACERS; i++) {
            racers[i] = (Racer){.t = t, .path = path, .base = base, .seed = round * RACERS + i + 1};
            threads[i] = g_thread_new("racer", race, &racers[i]);
        }
        int winners = 0;
        bool is_one = false;
        for (guint i = 0; i < RACERS; i++)
            g_thread_join(threads[i]);
        g_autoptr(SxRemote) now = sx_test_stat(t, path);
        for (guint i = 0; i < RACERS; i++) {
            winners += racers[i].won;
            is_one |= racers[i].won && now->size == 2000 + racers[i].seed;
            if (racers[i].won && now->size == 2000 + racers[i].seed)
                sx_test_same(t, path, racers[i].seed, now->size);
            /* A loser looks again or tries again; nothing ends for good because of others. */
            SxRetry retry = racers[i].won ? SX_RETRY_REPLAN : sx_error_retry(racers[i].why);
            if (retry != SX_RETRY_REPLAN && retry != SX_RETRY_BACKOFF)
                fail_msg("a writer failed with %s", racers[i].why->message);
            g_clear_error(&racers[i].why);
        }
        assert_true(winners >= 1);
        assert_true(is_one);
        if (caps.conditional_write)
            assert_int_equal(winners, 1);
    }
}

/* ---- resume ---- */
typedef struct Resume {
    char *state;
    gint64 told;
} Resume;

static void
save_resume(void *data, const char *state)
{
    Resume *r = data;
    g_free(r->state);
    r->state = g_strdup(state);
}

static void
progress(void *data, gint64 done)
{
    Resume *r = data;
    assert_true(done >= 0);
    r->told = done;
}

static void
resuming(SxTarget *t, const char *dir)
{
    SxCaps caps;
    sx_provider_caps(t->p, &caps);
    if (!caps.resumable_write)
        return;
    gint64 size = caps.chunk_size * 5 + 123;
    g_autofree char *path = IN(dir, "resumed"), *dropped = IN(dir, "dropped");
    Resume state = {0};
    SxTestSource s = {.seed = 4, .size = size, .fail_at = caps.chunk_size * 3 + 5, .fail_errno = EIO};
    SxUpload u = sx_test_upload(&s, sx_test_absent());
    u.save_resume = save_resume;
    u.progress = progress;
    u.data = &state;
    g_autoptr(SxRemote) r = NULL;
    FAILS(SX_ERR_FAILED, sx_provider_write(t->p, path, &u, &r, NULL, error));
    assert_non_null(state.state);
    sx_test_absent_now(t, path);
    g_autofree char *kept = g_strdup(state.state);
    u.resume = kept;
    s = (SxTestSource){.seed = 4, .size = size};
    OK(sx_provider_write(t->p, path, &u, &r, NULL, error));
    assert_true(s.sent < size - 2 * caps.chunk_size); /* what had arrived was not sent again */
    assert_int_equal(state.told, size);
    check_told(t, path, r);
    sx_test_same(t, path, 4, size);
    /* A state that the server has forgotten, and senseless ones: everything is sent anew. */
    g_autoptr(SxRemote) now = sx_test_stat(t, path);
    const char *states[] = {kept, "nonsense", "../../x 10 10", ""};
    for (gsize i = 0; i < G_N_ELEMENTS(states); i++) {
        SxTestSource whole = {.seed = 5 + (guint)i, .size = size + (gint64)i};
        SxUpload v = sx_test_upload(&whole, sx_test_any());
        v.resume = states[i];
        g_autoptr(SxRemote) told = NULL;
        OK(sx_provider_write(t->p, path, &v, &told, NULL, error));
        sx_test_same(t, path, 5 + (guint)i, size + (gint64)i);
    }
    /* A stale condition is told although the upload was resumable. */
    SxTestSource late = {.seed = 6, .size = size};
    SxUpload w = sx_test_upload(&late, sx_test_version(now));
    g_autoptr(SxRemote) none = NULL;
    FAILS(SX_ERR_CHANGED, sx_provider_write(t->p, path, &w, &none, NULL, error));
    /* Given up: nothing is left to continue. */
    SxTestSource half = {.seed = 7, .size = size, .fail_at = caps.chunk_size * 2, .fail_errno = EIO};
    SxUpload x = sx_test_upload(&half, sx_test_absent());
    x.save_resume = save_resume;
    x.data = &state;
    FAILS(SX_ERR_FAILED, sx_provider_write(t->p, dropped, &x, &none, NULL, error));
    sx_provider_discard(t->p, dropped, state.state);
    half = (SxTestSource){.seed = 7, .size = size};
    x.resume = kept;
    OK(sx_provider_write(t->p, dropped, &x, &none, NULL, error));
    assert_true(half.sent >= size);
    g_free(state.state);
}

static void
a_big_file(SxTarget *t, const char *dir)
{
    const gint64 size = 24 << 20;
    g_autofree char *path = IN(dir, "big");
    g_autoptr(SxRemote) r = sx_test_put(t, path, 8, size);
    assert_int_equal(r->size, size);
    sx_test_same(t, path, 8, size);
}

const SxCheck sx_checks_write[] = {
    {"sizes", sizes},
    {"hashes", hashes},
    {"conditions", conditions},
    {"writing_on_what_was_told", writing_on_what_was_told},
    {"versions_follow_content", versions_follow_content},
    {"where_it_cannot_go", where_it_cannot_go},
    {"old_or_new_never_a_part", old_or_new_never_a_part},
    {"cancelled_while_writing", cancelled_while_writing},
    {"racing_writers", racing_writers},
    {"resuming", resuming},
    {"a_big_file", a_big_file},
    {0},
};
