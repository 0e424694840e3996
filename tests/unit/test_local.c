/* providers/local over a real folder: what it does on a good day. */
#include "local_fixture.h"

#include "base/log.h"
#include "providers/local/local_i.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <cmocka.h>

/* ---- the ordinary ---- */

static void
an_object_lives_its_life(void **state)
{
    g_autoptr(SxProvider) p = sx_t_open("", sx_sys_default());
    g_autoptr(GError) e = NULL;
    g_autoptr(SxRemote) r = NULL, again = NULL, st = NULL;
    assert_true(sx_provider_mkdir(p, "d", NULL, NULL, &e));
    assert_false(sx_provider_mkdir(p, "d", NULL, NULL, &e));
    sx_t_assert_error(&e, SX_ERR_EXISTS);
    assert_false(sx_provider_mkdir(p, "no/d", NULL, NULL, &e));
    sx_t_assert_error(&e, SX_ERR_NOT_FOUND);
    assert_true(sx_t_put(p, "d/f", "hello", SX_IF_ABSENT, NULL, &r, &e));
    assert_false(sx_t_put(p, "d/f", "x", SX_IF_ABSENT, NULL, NULL, &e));
    sx_t_assert_error(&e, SX_ERR_EXISTS);
    assert_true(sx_t_put(p, "d/f", "hello, world", SX_IF_VERSION, r->version, &again, &e));
    assert_false(sx_t_put(p, "d/f", "x", SX_IF_VERSION, r->version, NULL, &e));
    sx_t_assert_error(&e, SX_ERR_CHANGED);
    sx_t_assert_content("d/f", "hello, world");
    assert_true(sx_provider_stat(p, "d/f", &st, NULL, &e));
    assert_string_equal(st->version, again->version); /* what write() told */
    assert_int_equal(st->size, 12);
    assert_true(sx_provider_move(p, "d/f", "g", SX_KIND_FILE, NULL, &e));
    g_clear_pointer(&st, sx_remote_free);
    assert_true(sx_provider_stat(p, "g", &st, NULL, &e));
    assert_string_equal(st->version, again->version); /* a move is no new content */
    assert_false(sx_provider_move(p, "g", "g2", SX_KIND_DIR, NULL, &e));
    sx_t_assert_error(&e, SX_ERR_NOT_DIR);
    assert_true(sx_provider_copy(p, "g", "d/copy", NULL, &e));
    sx_t_assert_content("d/copy", "hello, world");
    assert_false(sx_provider_move(p, "g", "d/copy", SX_KIND_FILE, NULL, &e));
    sx_t_assert_error(&e, SX_ERR_EXISTS);
    assert_false(sx_provider_remove(p, "d", SX_KIND_DIR, NULL, NULL, &e));
    sx_t_assert_error(&e, SX_ERR_NOT_EMPTY);
    assert_false(sx_provider_remove(p, "d", SX_KIND_FILE, NULL, NULL, &e));
    sx_t_assert_error(&e, SX_ERR_IS_DIR);
    SxCond old = {.kind = SX_IF_VERSION, .version = r->version, .size = -1}, now = {.kind = SX_IF_VERSION, .version = again->version, .size = -1};
    assert_false(sx_provider_remove(p, "g", SX_KIND_FILE, &old, NULL, &e));
    sx_t_assert_error(&e, SX_ERR_CHANGED);
    assert_true(sx_provider_remove(p, "g", SX_KIND_FILE, &now, NULL, &e));
    assert_false(sx_provider_remove(p, "g", SX_KIND_FILE, &now, NULL, &e));
    sx_t_assert_error(&e, SX_ERR_NOT_FOUND);
    assert_false(sx_t_put(p, "g", "x", SX_IF_VERSION, again->version, NULL, &e)); /* gone since */
    sx_t_assert_error(&e, SX_ERR_CHANGED);
    assert_true(sx_t_put(p, "g", "", SX_IF_ANY, NULL, NULL, &e)); /* empty files too */
    assert_true(sx_t_put(p, "g", "1", SX_IF_ANY, NULL, NULL, &e));
    assert_false(sx_t_put(p, "d", "1", SX_IF_ANY, NULL, NULL, &e));
    sx_t_assert_error(&e, SX_ERR_IS_DIR);
    g_autofree char *names = sx_t_raw_names(""), *below = sx_t_raw_names("d");
    assert_string_equal(names, "d g");
    assert_string_equal(below, "copy");
}

static void
times_and_modes_are_kept(void **state)
{
    g_autoptr(SxProvider) p = sx_t_open("", sx_sys_default());
    g_autoptr(GString) t = g_string_new("x");
    g_autoptr(SxRemote) r = NULL, after = NULL, st = NULL;
    g_autoptr(GError) e = NULL;
    SxUpload up = {.source = {.size = 1, .read = sx_t_text_read, .fd = -1, .data = t}, .cond = {.kind = SX_IF_ABSENT},
                   .mtime_ns = 1234567890123456789, .mode = 0640};
    assert_true(sx_provider_write(p, "f", &up, &r, NULL, &e));
    assert_int_equal(r->mtime_ns, 1234567890123456789);
    assert_int_equal(r->mode, 0640);
    assert_true(sx_t_put(p, "f", "y", SX_IF_ANY, NULL, NULL, &e)); /* the mode of what was there stays */
    assert_true(sx_provider_stat(p, "f", &st, NULL, &e));
    assert_int_equal(st->mode, 0640);
    assert_true(sx_provider_set_attr(p, "f", -1, 0600, &after, NULL, &e)); /* before 1970 */
    assert_int_equal(after->mtime_ns, -1);
    assert_int_equal(after->mode, 0600);
    assert_true(sx_provider_symlink(p, "l", "no where", NULL, NULL, &e));
    assert_true(sx_provider_set_attr(p, "l", 1000000000, 0777, NULL, NULL, &e));
    g_clear_pointer(&st, sx_remote_free);
    assert_true(sx_provider_stat(p, "l", &st, NULL, &e));
    assert_int_equal(st->mtime_ns, 1000000000);
    assert_string_equal(st->target, "no where");
    SxQuota q;
    assert_true(sx_provider_quota(p, &q, NULL, &e));
    assert_true(q.total > 0 && q.free >= 0 && q.used >= 0);
}

static void
a_replaced_file_keeps_its_owner_and_attributes(void **state)
{
    g_autoptr(SxProvider) p = sx_t_open("", sx_sys_default());
    g_autoptr(GError) e = NULL;
    g_autoptr(SxRemote) r = NULL;
    assert_true(sx_t_put(p, "f", "1", SX_IF_ABSENT, NULL, &r, &e));
    g_autofree char *full = sx_t_in("f");
    if (setxattr(full, "user.origin", "here", 4, 0) != 0)
        skip(); /* a file system without attributes */
    bool root = geteuid() == 0 && chown(full, 1234, 1235) == 0;
    assert_int_equal(chmod(full, 04751), 0);
    g_clear_pointer(&r, sx_remote_free);
    assert_true(sx_provider_stat(p, "f", &r, NULL, &e));
    assert_true(sx_t_put(p, "f", "22", SX_IF_VERSION, r->version, NULL, &e));
    char value[8];
    assert_int_equal(getxattr(full, "user.origin", value, sizeof value), 4);
    assert_memory_equal(value, "here", 4);
    struct stat st;
    assert_int_equal(stat(full, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0751);
    assert_true(!root || (st.st_uid == 1234 && st.st_gid == 1235));
}

static void
no_link_leads_out(void **state)
{
    g_autoptr(SxProvider) p = sx_t_open("", sx_sys_default());
    g_autoptr(GError) e = NULL;
    assert_true(sx_provider_probe(p, NULL, &e));
    g_autofree char *outside = g_build_filename(sx_t_top, "outside", NULL), *secret = g_build_filename(outside, "secret", NULL);
    assert_int_equal(mkdir(outside, 0700), 0);
    assert_true(g_file_set_contents(secret, "s", 1, NULL));
    g_autofree char *link = sx_t_in("way"), *file = sx_t_in("file");
    assert_int_equal(symlink(outside, link), 0);
    assert_int_equal(symlink(secret, file), 0);
    g_autoptr(GString) got = g_string_new(NULL);
    g_autoptr(SxRemote) r = NULL;
    assert_null(sx_t_list(p, "way", &e));
    sx_t_assert_error(&e, SX_ERR_NOT_DIR);
    assert_false(sx_provider_stat(p, "way/secret", &r, NULL, &e));
    sx_t_assert_error(&e, SX_ERR_NOT_DIR);
    assert_false(sx_provider_read(p, "file", NULL, 0, -1, sx_t_add_bytes, got, NULL, &e));
    sx_t_assert_error(&e, SX_ERR_CHANGED);
    assert_false(sx_t_put(p, "way/x", "x", SX_IF_ANY, NULL, NULL, &e));
    sx_t_assert_error(&e, SX_ERR_NOT_DIR);
    assert_false(sx_t_put(p, "file", "x", SX_IF_ANY, NULL, NULL, &e)); /* a link is not replaced by a file */
    sx_t_assert_error(&e, SX_ERR_EXISTS);
    assert_int_equal(sx_provider_lend_fd(p, "file", NULL, &e), -1);
    sx_t_assert_error(&e, SX_ERR_CHANGED);
    g_autoptr(GPtrArray) all = sx_t_list(p, "", &e);
    assert_int_equal(sx_t_entry(all, "way")->kind, SX_KIND_SYMLINK);
    assert_string_equal(sx_t_entry(all, "way")->target, outside);
    assert_true(sx_provider_remove(p, "way", SX_KIND_SYMLINK, NULL, NULL, &e));
    g_autofree char *still = NULL;
    assert_true(g_file_get_contents(secret, &still, NULL, NULL));
    assert_string_equal(still, "s");
}

static void
other_kinds_are_told_and_never_waited_for(void **state)
{
    g_autoptr(SxProvider) p = sx_t_open("", sx_sys_default());
    g_autoptr(GError) e = NULL;
    assert_true(sx_provider_probe(p, NULL, &e));
    g_autofree char *fifo = sx_t_in("pipe");
    assert_int_equal(mkfifo(fifo, 0600), 0);
    g_autoptr(GPtrArray) all = sx_t_list(p, "", &e);
    assert_int_equal(sx_t_entry(all, "pipe")->kind, SX_KIND_FIFO);
    g_autoptr(GString) got = g_string_new(NULL);
    assert_false(sx_provider_read(p, "pipe", NULL, 0, -1, sx_t_add_bytes, got, NULL, &e));
    sx_t_assert_error(&e, SX_ERR_UNSUPPORTED);
}

static void
any_name_goes_round(void **state)
{
    static const char *const names[] = {" ", "%41#?&", "back\\slash", "\"q'", "line\nbreak", "\xff\xfe", "e\xcc\x81", "\xc3\xa9", "\xf0\x9f\x90\xa7"};
    g_autoptr(SxProvider) p = sx_t_open("", sx_sys_default());
    g_autoptr(GError) e = NULL;
    g_autofree char *longest = g_strnfill(255, 'l'), *too_long = g_strnfill(256, 'l');
    for (gsize i = 0; i < G_N_ELEMENTS(names); i++)
        assert_true(sx_t_put(p, names[i], names[i], SX_IF_ABSENT, NULL, NULL, &e));
    assert_true(sx_t_put(p, longest, "l", SX_IF_ABSENT, NULL, NULL, &e));
    assert_false(sx_t_put(p, too_long, "l", SX_IF_ABSENT, NULL, NULL, &e));
    sx_t_assert_error(&e, SX_ERR_NAME);
    assert_false(sx_provider_check_name(p, too_long, &e));
    sx_t_assert_error(&e, SX_ERR_NAME_TOO_LONG);
    g_autoptr(GPtrArray) all = sx_t_list(p, "", &e);
    assert_int_equal(all->len, G_N_ELEMENTS(names) + 1);
    for (gsize i = 0; i < G_N_ELEMENTS(names); i++)
        assert_non_null(sx_t_entry(all, names[i]));
}

static void
a_missing_folder_is_offline_and_not_empty(void **state)
{
    g_autoptr(SxProvider) p = sx_t_open("create = no", sx_sys_default());
    g_autoptr(GError) e = NULL;
    assert_null(sx_t_list(p, "", &e));
    sx_t_assert_error(&e, SX_ERR_OFFLINE);
    g_autofree char *root = sx_t_in("");
    assert_int_equal(mkdir(root, 0700), 0);
    g_autoptr(GPtrArray) first = sx_t_list(p, "", &e);
    assert_non_null(first);
    assert_int_equal(rmdir(root), 0);
    assert_null(sx_t_list(p, "", &e));
    sx_t_assert_error(&e, SX_ERR_OFFLINE);
    g_autoptr(SxRemote) r = NULL;
    assert_false(sx_provider_stat(p, "f", &r, NULL, &e)); /* and not NOT_FOUND */
    sx_t_assert_error(&e, SX_ERR_OFFLINE);
    assert_false(sx_t_put(p, "f", "x", SX_IF_ANY, NULL, NULL, &e));
    sx_t_assert_error(&e, SX_ERR_OFFLINE);
    assert_false(sx_provider_probe(p, NULL, &e));
    sx_t_assert_error(&e, SX_ERR_OFFLINE);
    assert_int_equal(mkdir(root, 0700), 0); /* it is back */
    assert_true(sx_provider_probe(p, NULL, &e));
    assert_true(sx_t_put(p, "f", "x", SX_IF_ABSENT, NULL, NULL, &e));

    g_autoptr(SxProvider) made = sx_t_open("", sx_sys_default());
    assert_true(sx_provider_probe(made, NULL, &e));
    g_autofree char *f = sx_t_in("f");
    assert_int_equal(unlink(f), 0);
    assert_int_equal(rmdir(root), 0);
    assert_false(sx_provider_probe(made, NULL, &e)); /* made once, never again in its place */
    sx_t_assert_error(&e, SX_ERR_OFFLINE);
}

/* ---- sources ---- */

typedef struct Cached {
    int fd;
    gint64 cancel_at; /* read() at or beyond: -ECANCELED; -1 never */
    gint64 reads;
} Cached;

static gssize
cached_read(void *data, gint64 off, void *buf, gsize n)
{
    Cached *c = data;
    c->reads++;
    if (c->cancel_at >= 0 && off + (gint64)n > c->cancel_at)
        return -ECANCELED;
    return sx_sys_pread_full(sx_sys_default(), c->fd, buf, n, off);
}

static void
a_descriptor_is_copied_by_the_kernel_and_stays_sparse(void **state)
{
    g_autoptr(SxProvider) p = sx_t_open("", sx_sys_default());
    g_autoptr(GError) e = NULL;
    g_autofree char *name = g_build_filename(sx_t_top, "cache", NULL);
    Cached c = {.fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600), .cancel_at = -1};
    const gint64 size = 64 * 1024 * 1024;
    assert_int_equal(pwrite(c.fd, "begin", 5, 0), 5);
    assert_int_equal(pwrite(c.fd, "end", 3, size - 3), 3);
    for (int by_fd = 0; by_fd < 2; by_fd++) {
        c.reads = 0;
        SxUpload up = {.source = {.size = size, .read = cached_read, .fd = by_fd ? c.fd : -1, .data = &c},
                       .cond = {.kind = SX_IF_ANY}, .mtime_ns = SX_TIME_UNKNOWN, .mode = -1};
        assert_true(sx_provider_write(p, "big", &up, NULL, NULL, &e));
        assert_true(by_fd ? c.reads == 1 : c.reads > 1);
        g_autofree char *full = sx_t_in("big");
        struct stat st;
        assert_int_equal(stat(full, &st), 0);
        assert_int_equal(st.st_size, size);
        assert_true(st.st_blocks * 512 < 4 * 1024 * 1024);
        g_autoptr(GString) got = g_string_new(NULL);
        assert_true(sx_provider_read(p, "big", NULL, 0, 5, sx_t_add_bytes, got, NULL, &e));
        assert_true(sx_provider_read(p, "big", NULL, size - 3, -1, sx_t_add_bytes, got, NULL, &e));
        assert_string_equal(got->str, "beginend");
    }
    /* The content changes while it is copied: nothing is published. */
    c.cancel_at = 0;
    SxUpload up = {.source = {.size = size, .read = cached_read, .fd = c.fd, .data = &c},
                   .cond = {.kind = SX_IF_ANY}, .mtime_ns = SX_TIME_UNKNOWN, .mode = -1};
    assert_false(sx_provider_write(p, "other", &up, NULL, NULL, &e));
    sx_t_assert_error(&e, SX_ERR_CANCELLED);
    up.source.fd = -1;
    c.cancel_at = 1024 * 1024;
    assert_false(sx_provider_write(p, "other", &up, NULL, NULL, &e));
    sx_t_assert_error(&e, SX_ERR_CANCELLED);
    up.source.size = size + 1; /* shorter than it says */
    c.cancel_at = -1;
    assert_false(sx_provider_write(p, "other", &up, NULL, NULL, &e));
    g_clear_error(&e);
    up.source.fd = c.fd;
    assert_false(sx_provider_write(p, "other", &up, NULL, NULL, &e));
    g_clear_error(&e);
    g_autofree char *names = sx_t_raw_names("");
    assert_string_equal(names, "big");
    close(c.fd);
}

/* ---- identity ---- */

static void
ids_follow_a_rename_and_tell_a_new_file(void **state)
{
    g_autoptr(SxProvider) p = sx_t_open("ids = yes", sx_sys_default());
    g_autoptr(GError) e = NULL;
    assert_true(sx_provider_probe(p, NULL, &e));
    sx_t_theirs("a", "1");
    g_autoptr(GPtrArray) before = sx_t_list(p, "", &e);
    if (sx_t_entry(before, "a")->id == NULL)
        skip(); /* a file system without times of creation */
    g_autofree char *a = sx_t_in("a"), *b = sx_t_in("b"), *link2 = sx_t_in("c");
    assert_int_equal(rename(a, b), 0);
    g_autoptr(GPtrArray) after = sx_t_list(p, "", &e);
    assert_string_equal(sx_t_entry(after, "b")->id, sx_t_entry(before, "a")->id);
    assert_int_equal(unlink(b), 0);
    sx_t_theirs("b", "2"); /* perhaps the same inode number */
    g_autoptr(GPtrArray) again = sx_t_list(p, "", &e);
    assert_string_not_equal(sx_t_entry(again, "b")->id, sx_t_entry(before, "a")->id);
    assert_int_equal(link(b, link2), 0); /* two names: no identity */
    g_autoptr(GPtrArray) linked = sx_t_list(p, "", &e);
    assert_null(sx_t_entry(linked, "b")->id);
    assert_null(sx_t_entry(linked, "c")->id);
}

/* ---- changes beside the mount ---- */

typedef struct Seen {
    SxProvider *p;
    GCancellable *cancel;
    GMutex lock;
    GCond cond;
    GHashTable *paths; /* guarded by lock */
} Seen;

static void
see(void *data, const char *path, bool recursive)
{
    Seen *s = data;
    g_mutex_lock(&s->lock);
    g_hash_table_add(s->paths, g_strconcat(path, recursive ? "/**" : "", NULL));
    g_cond_broadcast(&s->cond);
    g_mutex_unlock(&s->lock);
}

static gpointer
watch_thread(gpointer data)
{
    Seen *s = data;
    sx_provider_watch(s->p, see, s, s->cancel, NULL);
    return NULL;
}

static void
wait_for(Seen *s, const char *path)
{
    g_mutex_lock(&s->lock);
    gint64 until = g_get_monotonic_time() + 20 * G_TIME_SPAN_SECOND;
    bool in_time = true;
    while (!g_hash_table_contains(s->paths, path) && in_time)
        in_time = g_cond_wait_until(&s->cond, &s->lock, until);
    g_mutex_unlock(&s->lock);
    if (!in_time)
        fail_msg("never told: %s", path);
}

static void
changes_beside_the_mount_are_told(void **state)
{
    Seen s = {.p = sx_t_open("", sx_sys_default()), .cancel = g_cancellable_new()};
    s.paths = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autoptr(GError) e = NULL;
    assert_true(sx_provider_mkdir(s.p, "d", NULL, NULL, &e));
    assert_true(sx_provider_mkdir(s.p, "listed", NULL, NULL, &e));
    sx_provider_watch_dir(s.p, "");
    sx_provider_watch_dir(s.p, "d");
    g_autoptr(GPtrArray) all = sx_t_list(s.p, "listed", &e); /* watched from its first listing on */
    GThread *t = g_thread_new("watch", watch_thread, &s);
    sx_t_theirs("f", "1");
    wait_for(&s, "f");
    sx_t_theirs("d/g", "1");
    wait_for(&s, "d/g");
    sx_t_theirs("listed/h", "1");
    wait_for(&s, "listed/h");
    /* What we do ourselves is known to the core and not told. */
    assert_true(sx_t_put(s.p, "d/ours", "1", SX_IF_ABSENT, NULL, NULL, &e));
    assert_true(sx_t_put(s.p, "d/ours", "2", SX_IF_ANY, NULL, NULL, &e));
    assert_true(sx_provider_set_attr(s.p, "d/ours", 7, 0600, NULL, NULL, &e));
    assert_true(sx_provider_mkdir(s.p, "d/our dir", NULL, NULL, &e));
    assert_true(sx_t_put(s.p, "d/moved", "3", SX_IF_ABSENT, NULL, NULL, &e));
    assert_true(sx_provider_move(s.p, "d/moved", "d/there", SX_KIND_FILE, NULL, &e));
    assert_true(sx_provider_remove(s.p, "d/there", SX_KIND_FILE, NULL, NULL, &e));
    sx_t_theirs("d/last", "1");
    wait_for(&s, "d/last");
    GHashTableIter it;
    gpointer path;
    g_mutex_lock(&s.lock);
    g_hash_table_iter_init(&it, s.paths);
    while (g_hash_table_iter_next(&it, &path, NULL))
        if (strstr(path, "our") != NULL || strstr(path, "moved") != NULL || strstr(path, "there") != NULL || strstr(path, SX_TMP_PREFIX) != NULL)
            fail_msg("told our own change of %s", (char *)path);
    g_mutex_unlock(&s.lock);
    sx_t_theirs("d/ours", "sx_t_theirs"); /* what others do to it is */
    wait_for(&s, "d/ours");
    g_autofree char *dir = sx_t_in("d/our dir");
    assert_int_equal(chmod(dir, 0755 ^ 0022), 0);
    wait_for(&s, "d/our dir");
    sx_t_theirs("d/our dir/new", "1"); /* never listed, and watched all the same; also where it is moved to */
    wait_for(&s, "d/our dir/new");
    assert_true(sx_provider_move(s.p, "d/our dir", "elsewhere", SX_KIND_DIR, NULL, &e));
    sx_t_theirs("elsewhere/new", "22");
    wait_for(&s, "elsewhere/new");
    g_autofree char *gone = sx_t_in("d/ours");
    assert_int_equal(unlink(gone), 0);
    sx_t_theirs("d/there", "again");
    wait_for(&s, "d/there");
    g_cancellable_cancel(s.cancel);
    g_thread_join(t);
    g_hash_table_unref(s.paths);
    g_object_unref(s.cancel);
    sx_provider_unref(s.p);
}

static void
a_stick_says_what_it_cannot_hold(void **state)
{
    SxCaps caps = sx_provider_local.caps;
    sx_local_limits(0xef53, &caps); /* ext4 */
    assert_memory_equal(&caps, &sx_provider_local.caps, sizeof caps);
    sx_local_limits(0x4d44, &caps); /* vfat */
    assert_int_equal(caps.mtime_precision_ns, 2000000000);
    assert_int_equal(caps.max_file_size, 0xffffffff);
    assert_false(caps.symlinks || caps.set_mode);
    assert_true(caps.case_insensitive);
    assert_non_null(strpbrk("a:b", caps.forbidden));
    assert_non_null(strpbrk("line\nbreak", caps.forbidden));
    assert_null(strpbrk("a name.txt", caps.forbidden));
}

int
main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, sx_t_setup, sx_t_teardown)
    const struct CMUnitTest tests[] = {
        T(an_object_lives_its_life),
        T(times_and_modes_are_kept),
        T(a_replaced_file_keeps_its_owner_and_attributes),
        T(no_link_leads_out),
        T(other_kinds_are_told_and_never_waited_for),
        T(any_name_goes_round),
        T(a_missing_folder_is_offline_and_not_empty),
        T(a_descriptor_is_copied_by_the_kernel_and_stays_sparse),
        T(ids_follow_a_rename_and_tell_a_new_file),
        T(changes_beside_the_mount_are_told),
        T(a_stick_says_what_it_cannot_hold),
    };
    sx_log_set_level(SX_LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
