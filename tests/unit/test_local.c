/* providers/local over a real folder, with a replaceable table of system calls. */
#include "providers/local/local.h"

#include "base/log.h"
#include "base/path.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

/* ---- a table of system calls that can fail, or let another client act in between ---- */

typedef struct Bad {
    int n;          /* calls seen */
    int fail_at;    /* the call of this number fails; 0: none */
    bool for_ever;  /* and all after it: a crash */
    int err;        /* with this; 0: a short write (other calls pass) */
    bool failed;
    /* Called before a renameat2 with these flags, or before a pread; once. */
    unsigned hook_flags;
    void (*before_rename)(void);
    void (*before_pread)(void);
    int refuse_flags; /* renameat2 with one of these flags: EINVAL */
} Bad;
static Bad bad; /* the tests use it on one thread */

static bool
fails(void)
{
    int n = ++bad.n;
    bool now = bad.fail_at > 0 && (n == bad.fail_at || (bad.for_ever && n > bad.fail_at));
    bad.failed |= now;
    if (now && bad.err != 0)
        errno = bad.err;
    return now && bad.err != 0;
}

static const SxSys *
real(void)
{
    return sx_sys_default();
}
static int
b_openat(const SxSys *s, int dirfd, const char *path, int flags, mode_t mode)
{
    return fails() ? -1 : real()->openat(real(), dirfd, path, flags, mode);
}
static int
b_close(const SxSys *s, int fd)
{
    return real()->close(real(), fd); /* a crash closes as well */
}
static ssize_t
b_pread(const SxSys *s, int fd, void *buf, size_t n, off_t off)
{
    if (bad.before_pread != NULL) {
        void (*fn)(void) = bad.before_pread;
        bad.before_pread = NULL;
        fn();
    }
    return fails() ? -1 : real()->pread(real(), fd, buf, n, off);
}
static ssize_t
b_pwrite(const SxSys *s, int fd, const void *buf, size_t n, off_t off)
{
    bool was = bad.failed;
    if (fails())
        return -1;
    if (bad.failed && !was && bad.err == 0)
        n = MIN(n, 3); /* a short write */
    return real()->pwrite(real(), fd, buf, n, off);
}
static int
b_ftruncate(const SxSys *s, int fd, off_t size)
{
    return fails() ? -1 : real()->ftruncate(real(), fd, size);
}
static int
b_fsync(const SxSys *s, int fd)
{
    return fails() ? -1 : 0; /* that it is called is counted; the disk need not turn a thousand times for it */
}
static int
b_renameat2(const SxSys *s, int olddir, const char *oldpath, int newdir, const char *newpath, unsigned flags)
{
    if (bad.before_rename != NULL && flags == bad.hook_flags) {
        void (*fn)(void) = bad.before_rename;
        bad.before_rename = NULL;
        fn();
    }
    if (flags & (unsigned)bad.refuse_flags) {
        errno = EINVAL;
        return -1;
    }
    return fails() ? -1 : real()->renameat2(real(), olddir, oldpath, newdir, newpath, flags);
}
static int
b_unlinkat(const SxSys *s, int dirfd, const char *path, int flags)
{
    return fails() ? -1 : real()->unlinkat(real(), dirfd, path, flags);
}
static int
b_mkdirat(const SxSys *s, int dirfd, const char *path, mode_t mode)
{
    return fails() ? -1 : real()->mkdirat(real(), dirfd, path, mode);
}
static int
b_fstat(const SxSys *s, int fd, struct stat *st)
{
    return fails() ? -1 : real()->fstat(real(), fd, st);
}
static int
b_fstatat(const SxSys *s, int dirfd, const char *path, struct stat *st, int flags)
{
    return fails() ? -1 : real()->fstatat(real(), dirfd, path, st, flags);
}
static off_t
b_lseek(const SxSys *s, int fd, off_t off, int whence)
{
    return fails() ? -1 : real()->lseek(real(), fd, off, whence);
}
static int
b_fstatvfs(const SxSys *s, int fd, struct statvfs *st)
{
    return fails() ? -1 : real()->fstatvfs(real(), fd, st);
}

static const SxSys bad_sys = {
    .openat = b_openat, .close = b_close, .pread = b_pread, .pwrite = b_pwrite, .ftruncate = b_ftruncate, .fsync = b_fsync,
    .renameat2 = b_renameat2, .unlinkat = b_unlinkat, .mkdirat = b_mkdirat, .fstat = b_fstat, .fstatat = b_fstatat,
    .lseek = b_lseek, .fstatvfs = b_fstatvfs,
};

/* ---- a folder and helpers ---- */

static char *top; /* of one test */
static gint64 clock_ahead_ns;

static gint64
ahead_real(const SxClock *c)
{
    return sx_clock_default()->real_ns(sx_clock_default()) + clock_ahead_ns;
}
static gint64
ahead_mono(const SxClock *c)
{
    return 1000; /* nothing grows old while a test runs */
}
static guint64
counting(const SxClock *c)
{
    static guint64 n;
    return ++n;
}
static const SxClock test_clock = {.real_ns = ahead_real, .mono_ms = ahead_mono, .random = counting};

static int
setup(void **state)
{
    bad = (Bad){0};
    clock_ahead_ns = 0;
    top = g_dir_make_tmp("sx-local-XXXXXX", NULL);
    return top != NULL ? 0 : -1;
}

static int
remove_entry(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    return remove(path);
}

static int
teardown(void **state)
{
    nftw(top, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    g_clear_pointer(&top, g_free);
    return 0;
}

static char *
in(const char *path)
{
    return g_build_filename(top, "root", path, NULL);
}

static SxProvider *
open_with(const char *more, const SxSys *sys)
{
    g_autofree char *options = g_strdup_printf("path = %s/root\n%s", top, more);
    g_autoptr(GError) e = NULL;
    SxProvider *p = sx_provider_open_text(&sx_provider_local, "files", options, sys, &test_clock, &e);
    if (p == NULL)
        fail_msg("%s", e->message);
    return p;
}

static void
assert_error(GError **e, SxErrorCode code)
{
    if (!sx_error_is(*e, code))
        fail_msg("%s instead of %s", *e != NULL ? (*e)->message : "no error", sx_error_code_name(code));
    g_clear_error(e);
}

static gssize
text_read(void *data, gint64 off, void *buf, gsize n)
{
    GString *t = data;
    gsize k = (gsize)off < t->len ? MIN(n, t->len - (gsize)off) : 0;
    memcpy(buf, t->str + off, k);
    return (gssize)k;
}

static bool
put_bytes(SxProvider *p, const char *path, const char *bytes, gsize n, SxIf kind, const char *version, SxRemote **ret, GError **error)
{
    g_autoptr(GString) t = g_string_new_len(bytes, (gssize)n);
    SxUpload up = {
        .source = {.size = (gint64)n, .read = text_read, .fd = -1, .data = t},
        .cond = {.kind = kind, .version = version, .size = -1, .mtime_ns = SX_TIME_UNKNOWN},
        .mtime_ns = SX_TIME_UNKNOWN, .mode = -1,
    };
    return sx_provider_write(p, path, &up, ret, NULL, error);
}

static bool
put(SxProvider *p, const char *path, const char *text, SxIf kind, const char *version, SxRemote **ret, GError **error)
{
    return put_bytes(p, path, text, strlen(text), kind, version, ret, error);
}

/* What another program on this machine does. */
static void
theirs(const char *path, const char *text)
{
    g_autofree char *full = in(path);
    int fd = open(full, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

static char *
content(const char *path)
{
    g_autofree char *full = in(path);
    char *text = NULL;
    return g_file_get_contents(full, &text, NULL, NULL) ? text : NULL;
}

static void
assert_content(const char *path, const char *text)
{
    g_autofree char *now = content(path);
    assert_non_null(now);
    assert_string_equal(now, text);
}

static int
by_text(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* All names in a directory of the folder, sorted, ours too. */
static char *
raw_names(const char *path)
{
    g_autofree char *full = in(path);
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    DIR *d = opendir(full);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            g_ptr_array_add(names, g_strdup(e->d_name));
    closedir(d);
    g_ptr_array_sort(names, by_text);
    g_ptr_array_add(names, NULL);
    return g_strjoinv(" ", (char **)names->pdata);
}

static bool
add_entry(void *data, const SxRemote *r)
{
    g_ptr_array_add(data, sx_remote_copy(r));
    return true;
}

static GPtrArray *
list(SxProvider *p, const char *path, GError **error)
{
    g_autoptr(GPtrArray) a = g_ptr_array_new_with_free_func((GDestroyNotify)sx_remote_free);
    return sx_provider_list(p, path, add_entry, a, NULL, error) ? g_steal_pointer(&a) : NULL;
}

static const SxRemote *
entry(GPtrArray *a, const char *name)
{
    for (guint i = 0; i < a->len; i++)
        if (strcmp(((SxRemote *)g_ptr_array_index(a, i))->name, name) == 0)
            return g_ptr_array_index(a, i);
    return NULL;
}

static int
add_bytes(void *data, gint64 off, const void *buf, gsize n)
{
    g_string_append_len(data, buf, (gssize)n);
    return 0;
}

/* ---- the ordinary ---- */

static void
an_object_lives_its_life(void **state)
{
    g_autoptr(SxProvider) p = open_with("", sx_sys_default());
    g_autoptr(GError) e = NULL;
    g_autoptr(SxRemote) r = NULL, again = NULL, st = NULL;
    assert_true(sx_provider_mkdir(p, "d", NULL, NULL, &e));
    assert_false(sx_provider_mkdir(p, "d", NULL, NULL, &e));
    assert_error(&e, SX_ERR_EXISTS);
    assert_false(sx_provider_mkdir(p, "no/d", NULL, NULL, &e));
    assert_error(&e, SX_ERR_NOT_FOUND);
    assert_true(put(p, "d/f", "hello", SX_IF_ABSENT, NULL, &r, &e));
    assert_false(put(p, "d/f", "x", SX_IF_ABSENT, NULL, NULL, &e));
    assert_error(&e, SX_ERR_EXISTS);
    assert_true(put(p, "d/f", "hello, world", SX_IF_VERSION, r->version, &again, &e));
    assert_false(put(p, "d/f", "x", SX_IF_VERSION, r->version, NULL, &e));
    assert_error(&e, SX_ERR_CHANGED);
    assert_content("d/f", "hello, world");
    assert_true(sx_provider_stat(p, "d/f", &st, NULL, &e));
    assert_string_equal(st->version, again->version); /* what write() told */
    assert_int_equal(st->size, 12);
    assert_true(sx_provider_move(p, "d/f", "g", SX_KIND_FILE, NULL, &e));
    g_clear_pointer(&st, sx_remote_free);
    assert_true(sx_provider_stat(p, "g", &st, NULL, &e));
    assert_string_equal(st->version, again->version); /* a move is no new content */
    assert_false(sx_provider_move(p, "g", "g2", SX_KIND_DIR, NULL, &e));
    assert_error(&e, SX_ERR_NOT_DIR);
    assert_true(sx_provider_copy(p, "g", "d/copy", NULL, &e));
    assert_content("d/copy", "hello, world");
    assert_false(sx_provider_move(p, "g", "d/copy", SX_KIND_FILE, NULL, &e));
    assert_error(&e, SX_ERR_EXISTS);
    assert_false(sx_provider_remove(p, "d", SX_KIND_DIR, NULL, NULL, &e));
    assert_error(&e, SX_ERR_NOT_EMPTY);
    assert_false(sx_provider_remove(p, "d", SX_KIND_FILE, NULL, NULL, &e));
    assert_error(&e, SX_ERR_IS_DIR);
    SxCond old = {.kind = SX_IF_VERSION, .version = r->version, .size = -1}, now = {.kind = SX_IF_VERSION, .version = again->version, .size = -1};
    assert_false(sx_provider_remove(p, "g", SX_KIND_FILE, &old, NULL, &e));
    assert_error(&e, SX_ERR_CHANGED);
    assert_true(sx_provider_remove(p, "g", SX_KIND_FILE, &now, NULL, &e));
    assert_false(sx_provider_remove(p, "g", SX_KIND_FILE, &now, NULL, &e));
    assert_error(&e, SX_ERR_NOT_FOUND);
    assert_false(put(p, "g", "x", SX_IF_VERSION, again->version, NULL, &e)); /* gone since */
    assert_error(&e, SX_ERR_CHANGED);
    assert_true(put(p, "g", "", SX_IF_ANY, NULL, NULL, &e)); /* empty files too */
    assert_true(put(p, "g", "1", SX_IF_ANY, NULL, NULL, &e));
    assert_false(put(p, "d", "1", SX_IF_ANY, NULL, NULL, &e));
    assert_error(&e, SX_ERR_IS_DIR);
    g_autofree char *names = raw_names(""), *below = raw_names("d");
    assert_string_equal(names, "d g");
    assert_string_equal(below, "copy");
}

static void
times_and_modes_are_kept(void **state)
{
    g_autoptr(SxProvider) p = open_with("", sx_sys_default());
    g_autoptr(GString) t = g_string_new("x");
    g_autoptr(SxRemote) r = NULL, after = NULL, st = NULL;
    g_autoptr(GError) e = NULL;
    SxUpload up = {.source = {.size = 1, .read = text_read, .fd = -1, .data = t}, .cond = {.kind = SX_IF_ABSENT},
                   .mtime_ns = 1234567890123456789, .mode = 0640};
    assert_true(sx_provider_write(p, "f", &up, &r, NULL, &e));
    assert_int_equal(r->mtime_ns, 1234567890123456789);
    assert_int_equal(r->mode, 0640);
    assert_true(put(p, "f", "y", SX_IF_ANY, NULL, NULL, &e)); /* the mode of what was there stays */
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
no_link_leads_out(void **state)
{
    g_autoptr(SxProvider) p = open_with("", sx_sys_default());
    g_autoptr(GError) e = NULL;
    assert_true(sx_provider_probe(p, NULL, &e));
    g_autofree char *outside = g_build_filename(top, "outside", NULL), *secret = g_build_filename(outside, "secret", NULL);
    assert_int_equal(mkdir(outside, 0700), 0);
    assert_true(g_file_set_contents(secret, "s", 1, NULL));
    g_autofree char *link = in("way"), *file = in("file");
    assert_int_equal(symlink(outside, link), 0);
    assert_int_equal(symlink(secret, file), 0);
    g_autoptr(GString) got = g_string_new(NULL);
    g_autoptr(SxRemote) r = NULL;
    assert_null(list(p, "way", &e));
    assert_error(&e, SX_ERR_NOT_DIR);
    assert_false(sx_provider_stat(p, "way/secret", &r, NULL, &e));
    assert_error(&e, SX_ERR_NOT_DIR);
    assert_false(sx_provider_read(p, "file", NULL, 0, -1, add_bytes, got, NULL, &e));
    assert_error(&e, SX_ERR_CHANGED);
    assert_false(put(p, "way/x", "x", SX_IF_ANY, NULL, NULL, &e));
    assert_error(&e, SX_ERR_NOT_DIR);
    assert_false(put(p, "file", "x", SX_IF_ANY, NULL, NULL, &e)); /* a link is not replaced by a file */
    assert_error(&e, SX_ERR_EXISTS);
    assert_int_equal(sx_provider_lend_fd(p, "file", NULL, &e), -1);
    assert_error(&e, SX_ERR_CHANGED);
    g_autoptr(GPtrArray) all = list(p, "", &e);
    assert_int_equal(entry(all, "way")->kind, SX_KIND_SYMLINK);
    assert_string_equal(entry(all, "way")->target, outside);
    assert_true(sx_provider_remove(p, "way", SX_KIND_SYMLINK, NULL, NULL, &e));
    g_autofree char *still = NULL;
    assert_true(g_file_get_contents(secret, &still, NULL, NULL));
    assert_string_equal(still, "s");
}

static void
other_kinds_are_told_and_never_waited_for(void **state)
{
    g_autoptr(SxProvider) p = open_with("", sx_sys_default());
    g_autoptr(GError) e = NULL;
    assert_true(sx_provider_probe(p, NULL, &e));
    g_autofree char *fifo = in("pipe");
    assert_int_equal(mkfifo(fifo, 0600), 0);
    g_autoptr(GPtrArray) all = list(p, "", &e);
    assert_int_equal(entry(all, "pipe")->kind, SX_KIND_FIFO);
    g_autoptr(GString) got = g_string_new(NULL);
    assert_false(sx_provider_read(p, "pipe", NULL, 0, -1, add_bytes, got, NULL, &e));
    assert_error(&e, SX_ERR_UNSUPPORTED);
}

static void
any_name_goes_round(void **state)
{
    static const char *const names[] = {" ", "%41#?&", "back\\slash", "\"q'", "line\nbreak", "\xff\xfe", "e\xcc\x81", "\xc3\xa9", "\xf0\x9f\x90\xa7"};
    g_autoptr(SxProvider) p = open_with("", sx_sys_default());
    g_autoptr(GError) e = NULL;
    g_autofree char *longest = g_strnfill(255, 'l'), *too_long = g_strnfill(256, 'l');
    for (gsize i = 0; i < G_N_ELEMENTS(names); i++)
        assert_true(put(p, names[i], names[i], SX_IF_ABSENT, NULL, NULL, &e));
    assert_true(put(p, longest, "l", SX_IF_ABSENT, NULL, NULL, &e));
    assert_false(put(p, too_long, "l", SX_IF_ABSENT, NULL, NULL, &e));
    assert_error(&e, SX_ERR_NAME);
    assert_false(sx_provider_check_name(p, too_long, &e));
    assert_error(&e, SX_ERR_NAME_TOO_LONG);
    g_autoptr(GPtrArray) all = list(p, "", &e);
    assert_int_equal(all->len, G_N_ELEMENTS(names) + 1);
    for (gsize i = 0; i < G_N_ELEMENTS(names); i++)
        assert_non_null(entry(all, names[i]));
}

static void
a_missing_folder_is_offline_and_not_empty(void **state)
{
    g_autoptr(SxProvider) p = open_with("create = no", sx_sys_default());
    g_autoptr(GError) e = NULL;
    assert_null(list(p, "", &e));
    assert_error(&e, SX_ERR_OFFLINE);
    g_autofree char *root = in("");
    assert_int_equal(mkdir(root, 0700), 0);
    g_autoptr(GPtrArray) first = list(p, "", &e);
    assert_non_null(first);
    assert_int_equal(rmdir(root), 0);
    assert_null(list(p, "", &e));
    assert_error(&e, SX_ERR_OFFLINE);
    g_autoptr(SxRemote) r = NULL;
    assert_false(sx_provider_stat(p, "f", &r, NULL, &e)); /* and not NOT_FOUND */
    assert_error(&e, SX_ERR_OFFLINE);
    assert_false(put(p, "f", "x", SX_IF_ANY, NULL, NULL, &e));
    assert_error(&e, SX_ERR_OFFLINE);
    assert_false(sx_provider_probe(p, NULL, &e));
    assert_error(&e, SX_ERR_OFFLINE);
    assert_int_equal(mkdir(root, 0700), 0); /* it is back */
    assert_true(sx_provider_probe(p, NULL, &e));
    assert_true(put(p, "f", "x", SX_IF_ABSENT, NULL, NULL, &e));

    g_autoptr(SxProvider) made = open_with("", sx_sys_default());
    assert_true(sx_provider_probe(made, NULL, &e));
    g_autofree char *f = in("f");
    assert_int_equal(unlink(f), 0);
    assert_int_equal(rmdir(root), 0);
    assert_false(sx_provider_probe(made, NULL, &e)); /* made once, never again in its place */
    assert_error(&e, SX_ERR_OFFLINE);
}

/* ---- races ---- */

static void
change_f_in_place(void)
{
    theirs("f", "their");
}
static void
replace_f(void)
{
    theirs("other", "their");
    g_autofree char *a = in("other"), *b = in("f");
    assert_int_equal(rename(a, b), 0);
}
static void
remove_f(void)
{
    g_autofree char *f = in("f");
    assert_int_equal(unlink(f), 0);
}
static void
make_f(void)
{
    theirs("f", "their");
}

static void
a_change_in_the_last_moment_is_not_overwritten(void **state)
{
    static void (*const acts[])(void) = {change_f_in_place, replace_f, remove_f};
    for (gsize i = 0; i < G_N_ELEMENTS(acts); i++) {
        g_autoptr(SxProvider) p = open_with("", &bad_sys);
        g_autoptr(SxRemote) r = NULL;
        g_autoptr(GError) e = NULL;
        assert_true(put(p, "f", "oldest", SX_IF_ANY, NULL, &r, &e));
        bad = (Bad){.hook_flags = RENAME_EXCHANGE, .before_rename = acts[i]};
        assert_false(put(p, "f", "mine", SX_IF_VERSION, r->version, NULL, &e));
        assert_error(&e, SX_ERR_CHANGED);
        assert_null(bad.before_rename);
        g_autofree char *names = raw_names("");
        assert_string_equal(names, acts[i] == remove_f ? "" : "f");
        if (acts[i] != remove_f)
            assert_content("f", "their");
    }
    g_autoptr(SxProvider) p = open_with("", &bad_sys);
    g_autoptr(GError) e = NULL;
    bad = (Bad){.hook_flags = RENAME_NOREPLACE, .before_rename = make_f};
    assert_false(put(p, "f", "mine", SX_IF_ABSENT, NULL, NULL, &e));
    assert_error(&e, SX_ERR_EXISTS);
    assert_content("f", "their");
    g_autofree char *names = raw_names("");
    assert_string_equal(names, "f");
}

static void
a_change_in_the_last_moment_is_not_removed(void **state)
{
    static void (*const acts[])(void) = {change_f_in_place, replace_f};
    for (gsize i = 0; i < G_N_ELEMENTS(acts); i++) {
        g_autoptr(SxProvider) p = open_with("", &bad_sys);
        g_autoptr(SxRemote) r = NULL;
        g_autoptr(GError) e = NULL;
        assert_true(put(p, "f", "oldest", SX_IF_ANY, NULL, &r, &e));
        SxCond cond = {.kind = SX_IF_VERSION, .version = r->version, .size = -1};
        bad = (Bad){.hook_flags = RENAME_NOREPLACE, .before_rename = acts[i]};
        assert_false(sx_provider_remove(p, "f", SX_KIND_FILE, &cond, NULL, &e));
        assert_error(&e, SX_ERR_CHANGED);
        assert_content("f", "their");
        g_autofree char *names = raw_names("");
        assert_string_equal(names, "f");
    }
}

static void
a_file_system_without_the_renames_still_works(void **state)
{
    g_autoptr(SxProvider) p = open_with("", &bad_sys);
    g_autoptr(SxRemote) r = NULL;
    g_autoptr(GError) e = NULL;
    bad = (Bad){.refuse_flags = RENAME_NOREPLACE | RENAME_EXCHANGE};
    assert_true(put(p, "f", "one", SX_IF_ABSENT, NULL, &r, &e));
    assert_false(put(p, "f", "two", SX_IF_ABSENT, NULL, NULL, &e));
    assert_error(&e, SX_ERR_EXISTS);
    assert_true(put(p, "f", "two", SX_IF_VERSION, r->version, NULL, &e));
    assert_false(put(p, "f", "three", SX_IF_VERSION, r->version, NULL, &e));
    assert_error(&e, SX_ERR_CHANGED);
    assert_true(sx_provider_move(p, "f", "g", SX_KIND_FILE, NULL, &e));
    assert_content("g", "two");
    assert_true(sx_provider_probe(p, NULL, &e));
    SxCaps caps;
    sx_provider_caps(p, &caps);
    assert_false(caps.conditional_write); /* and says that a race remains */
    g_autofree char *names = raw_names("");
    assert_string_equal(names, "g");
}

static void
a_read_never_mixes_versions(void **state)
{
    g_autoptr(SxProvider) p = open_with("", &bad_sys);
    g_autoptr(GString) big = g_string_new(NULL);
    while (big->len < 600000)
        g_string_append(big, "old ");
    g_autoptr(SxRemote) r = NULL;
    g_autoptr(GError) e = NULL;
    assert_true(put(p, "f", big->str, SX_IF_ABSENT, NULL, &r, &e));
    g_autoptr(GString) got = g_string_new(NULL);
    SxCond cond = {.kind = SX_IF_VERSION, .version = r->version, .size = 600000};
    bad = (Bad){.before_pread = change_f_in_place};
    assert_false(sx_provider_read(p, "f", &cond, 0, -1, add_bytes, got, NULL, &e));
    assert_error(&e, SX_ERR_CHANGED);
    assert_int_equal(got->len, 0);
    assert_false(sx_provider_read(p, "f", &cond, 0, -1, add_bytes, got, NULL, &e));
    assert_error(&e, SX_ERR_CHANGED);
    assert_true(sx_provider_read(p, "f", NULL, 1, 3, add_bytes, got, NULL, &e));
    assert_string_equal(got->str, "hei");
    int fd = sx_provider_lend_fd(p, "f", &cond, &e);
    assert_int_equal(fd, -1);
    assert_error(&e, SX_ERR_CHANGED);
    fd = sx_provider_lend_fd(p, "f", NULL, &e);
    assert_true(fd >= 0);
    close(fd);
}

/* ---- failures and crashes at every call ---- */

typedef enum Act { ACT_NEW, ACT_REPLACE, ACT_ANY, ACT_REMOVE, ACT_MOVE, ACT_COPY, ACT_MKDIR, ACT_LIST, ACT_READ, ACT_ATTR, ACT_QUOTA, N_ACTS } Act;

static bool
act(SxProvider *p, Act a, const char *version, GError **error)
{
    g_autoptr(GString) got = g_string_new(NULL);
    SxCond cond = {.kind = SX_IF_VERSION, .version = version, .size = -1};
    SxQuota q;
    switch (a) {
    case ACT_NEW: return put(p, "new", "new content", SX_IF_ABSENT, NULL, NULL, error);
    case ACT_REPLACE: return put(p, "f", "new content", SX_IF_VERSION, version, NULL, error);
    case ACT_ANY: return put(p, "f", "new content", SX_IF_ANY, NULL, NULL, error);
    case ACT_REMOVE: return sx_provider_remove(p, "f", SX_KIND_FILE, &cond, NULL, error);
    case ACT_MOVE: return sx_provider_move(p, "f", "d/moved", SX_KIND_FILE, NULL, error);
    case ACT_COPY: return sx_provider_copy(p, "f", "new", NULL, error);
    case ACT_MKDIR: return sx_provider_mkdir(p, "new", NULL, NULL, error);
    case ACT_LIST: {
        g_autoptr(GPtrArray) all = list(p, "", error);
        assert_true(all == NULL || (all->len == 2 && entry(all, "f") != NULL)); /* never a part */
        return all != NULL;
    }
    case ACT_READ: return sx_provider_read(p, "f", &cond, 0, -1, add_bytes, got, NULL, error) && strcmp(got->str, "old") == 0;
    case ACT_ATTR: return sx_provider_set_attr(p, "f", 5, 0600, NULL, NULL, error);
    default: return sx_provider_quota(p, &q, NULL, error);
    }
}

/* Every file is wholly one of the contents there were; nothing of ours is shown; "old" is not lost unless `done`. */
static void
check_folder(SxProvider *p, Act a, bool done)
{
    g_autoptr(GPtrArray) all = list(p, "", NULL);
    assert_non_null(all);
    bool old = false, new = false;
    g_autoptr(GString) where = g_string_new(NULL);
    for (guint i = 0; i < all->len; i++) {
        const SxRemote *r = g_ptr_array_index(all, i);
        g_string_append_printf(where, "%s ", r->name);
        assert_false(g_str_has_prefix(r->name, SX_TMP_PREFIX));
        if (r->kind != SX_KIND_FILE)
            continue;
        g_autofree char *text = content(r->name);
        bool is_old = strcmp(text, "old") == 0, is_new = strcmp(text, "new content") == 0;
        if (!is_old && !is_new)
            fail_msg("%s holds \"%s\"", r->name, text);
        old |= is_old;
        new |= is_new;
    }
    g_autofree char *moved = content("d/moved");
    if (moved != NULL)
        old |= strcmp(moved, "old") == 0;
    bool replaces = a == ACT_REPLACE || a == ACT_ANY;
    if (replaces && old + new != 1)
        fail_msg("neither or both contents: %s", where->str);
    if (!replaces && a != ACT_REMOVE && !old)
        fail_msg("the file is gone: %s", where->str);
    if (done && (replaces || a == ACT_NEW) && !new)
        fail_msg("it said it was done: %s", where->str);
}

static char *
fresh_folder(void)
{
    g_autofree char *root = in("");
    nftw(root, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    g_autoptr(SxProvider) p = open_with("", sx_sys_default());
    g_autoptr(SxRemote) r = NULL;
    assert_true(sx_provider_mkdir(p, "d", NULL, NULL, NULL));
    theirs("f", "old");
    assert_true(sx_provider_stat(p, "f", &r, NULL, NULL));
    return g_strdup(r->version);
}

static void
any_call_may_fail(void **state)
{
    static const int errors[] = {ENOSPC, EIO, EINTR, EACCES, 0};
    for (int a = 0; a < N_ACTS; a++)
        for (gsize k = 0; k < G_N_ELEMENTS(errors); k++)
            for (int n = 1;; n++) {
                g_autofree char *version = fresh_folder();
                g_autoptr(SxProvider) p = open_with("", &bad_sys);
                g_autoptr(GError) e = NULL;
                bad = (Bad){0};
                assert_true(sx_provider_probe(p, NULL, &e));
                bad = (Bad){.fail_at = n, .err = errors[k]};
                bool ok = act(p, (Act)a, version, &e);
                bool reached = bad.failed;
                bad = (Bad){0};
                if (ok != (e == NULL) || (!ok && errors[k] == EINTR) || (!ok && errors[k] == 0) || (!ok && !reached))
                    fail_msg("act %d, call %d, error %d: %s", a, n, errors[k], e != NULL ? e->message : "no reason");
                check_folder(p, (Act)a, ok);
                if (!reached) {
                    assert_true(ok && n > 1);
                    break;
                }
            }
}

static void
a_crash_at_any_call_leaves_old_or_new(void **state)
{
    for (int a = 0; a < N_ACTS; a++)
        for (int n = 1;; n++) {
            clock_ahead_ns = 0;
            g_autofree char *version = fresh_folder();
            g_autoptr(SxProvider) p = open_with("", &bad_sys);
            bad = (Bad){0};
            assert_true(sx_provider_probe(p, NULL, NULL));
            bad = (Bad){.fail_at = n, .err = EIO, .for_ever = true};
            act(p, (Act)a, version, NULL);
            bool reached = bad.failed;
            bad = (Bad){0};
            g_autoptr(SxProvider) next = open_with("", sx_sys_default());
            check_folder(next, (Act)a, false);
            clock_ahead_ns = G_GINT64_CONSTANT(25) * 3600 * 1000000000;
            g_autoptr(GPtrArray) all = list(next, "", NULL); /* a day later nothing of ours is left */
            g_autofree char *left = raw_names("");
            assert_null(strstr(left, SX_TMP_PREFIX));
            check_folder(next, (Act)a, false);
            if (!reached)
                break;
        }
}

static void
change_f_then_crash(void)
{
    change_f_in_place();
    bad.n = 0;
    bad.fail_at = 2; /* the exchange passes, then nothing any more */
    bad.err = EIO;
    bad.for_ever = true;
}

static void
what_was_displaced_by_a_crash_comes_back(void **state)
{
    g_autoptr(SxProvider) p = open_with("", &bad_sys);
    g_autoptr(SxRemote) r = NULL;
    g_autoptr(GError) e = NULL;
    assert_true(put(p, "f", "oldest", SX_IF_ANY, NULL, &r, &e));
    bad = (Bad){.hook_flags = RENAME_EXCHANGE, .before_rename = change_f_then_crash};
    assert_false(put(p, "f", "mine", SX_IF_VERSION, r->version, NULL, &e));
    g_clear_error(&e);
    bad = (Bad){0};
    assert_content("f", "mine"); /* and "their" is hidden */
    g_autoptr(SxProvider) next = open_with("", sx_sys_default());
    g_autoptr(GPtrArray) today = list(next, "", &e);
    assert_int_equal(today->len, 1);
    clock_ahead_ns = G_GINT64_CONSTANT(25) * 3600 * 1000000000;
    g_autoptr(GPtrArray) swept = list(next, "", &e);
    g_autoptr(GPtrArray) all = list(next, "", &e);
    assert_int_equal(all->len, 2);
    bool found = false;
    for (guint i = 0; i < all->len; i++) {
        const SxRemote *x = g_ptr_array_index(all, i);
        if (g_str_has_prefix(x->name, "recovered file (conflict ")) {
            assert_content(x->name, "their");
            found = true;
        }
    }
    assert_true(found);
}

static void
leftovers_do_not_keep_a_directory(void **state)
{
    g_autoptr(SxProvider) p = open_with("", sx_sys_default());
    g_autoptr(GError) e = NULL;
    assert_true(sx_provider_mkdir(p, "d", NULL, NULL, &e));
    theirs("d/" SX_TMP_UPLOAD "00000000000000aa", "half");
    assert_true(sx_provider_remove(p, "d", SX_KIND_DIR, NULL, NULL, &e));
    /* What the core has moved out of the way is somebody's file. */
    assert_true(sx_provider_mkdir(p, "d", NULL, NULL, &e));
    theirs("d/" SX_TMP_PREFIX "17", "precious");
    clock_ahead_ns = G_GINT64_CONSTANT(25) * 3600 * 1000000000;
    g_autoptr(GPtrArray) all = list(p, "d", &e);
    assert_int_equal(all->len, 0);
    assert_false(sx_provider_remove(p, "d", SX_KIND_DIR, NULL, NULL, &e));
    assert_error(&e, SX_ERR_NOT_EMPTY);
    assert_content("d/" SX_TMP_PREFIX "17", "precious");
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
    g_autoptr(SxProvider) p = open_with("", sx_sys_default());
    g_autoptr(GError) e = NULL;
    g_autofree char *name = g_build_filename(top, "cache", NULL);
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
        g_autofree char *full = in("big");
        struct stat st;
        assert_int_equal(stat(full, &st), 0);
        assert_int_equal(st.st_size, size);
        assert_true(st.st_blocks * 512 < 4 * 1024 * 1024);
        g_autoptr(GString) got = g_string_new(NULL);
        assert_true(sx_provider_read(p, "big", NULL, 0, 5, add_bytes, got, NULL, &e));
        assert_true(sx_provider_read(p, "big", NULL, size - 3, -1, add_bytes, got, NULL, &e));
        assert_string_equal(got->str, "beginend");
    }
    /* The content changes while it is copied: nothing is published. */
    c.cancel_at = 0;
    SxUpload up = {.source = {.size = size, .read = cached_read, .fd = c.fd, .data = &c},
                   .cond = {.kind = SX_IF_ANY}, .mtime_ns = SX_TIME_UNKNOWN, .mode = -1};
    assert_false(sx_provider_write(p, "other", &up, NULL, NULL, &e));
    assert_error(&e, SX_ERR_CANCELLED);
    up.source.fd = -1;
    c.cancel_at = 1024 * 1024;
    assert_false(sx_provider_write(p, "other", &up, NULL, NULL, &e));
    assert_error(&e, SX_ERR_CANCELLED);
    up.source.size = size + 1; /* shorter than it says */
    c.cancel_at = -1;
    assert_false(sx_provider_write(p, "other", &up, NULL, NULL, &e));
    g_clear_error(&e);
    up.source.fd = c.fd;
    assert_false(sx_provider_write(p, "other", &up, NULL, NULL, &e));
    g_clear_error(&e);
    g_autofree char *names = raw_names("");
    assert_string_equal(names, "big");
    close(c.fd);
}

/* ---- identity ---- */

static void
ids_follow_a_rename_and_tell_a_new_file(void **state)
{
    g_autoptr(SxProvider) p = open_with("ids = yes", sx_sys_default());
    g_autoptr(GError) e = NULL;
    assert_true(sx_provider_probe(p, NULL, &e));
    theirs("a", "1");
    g_autoptr(GPtrArray) before = list(p, "", &e);
    if (entry(before, "a")->id == NULL)
        skip(); /* a file system without times of creation */
    g_autofree char *a = in("a"), *b = in("b"), *link2 = in("c");
    assert_int_equal(rename(a, b), 0);
    g_autoptr(GPtrArray) after = list(p, "", &e);
    assert_string_equal(entry(after, "b")->id, entry(before, "a")->id);
    assert_int_equal(unlink(b), 0);
    theirs("b", "2"); /* perhaps the same inode number */
    g_autoptr(GPtrArray) again = list(p, "", &e);
    assert_string_not_equal(entry(again, "b")->id, entry(before, "a")->id);
    assert_int_equal(link(b, link2), 0); /* two names: no identity */
    g_autoptr(GPtrArray) linked = list(p, "", &e);
    assert_null(entry(linked, "b")->id);
    assert_null(entry(linked, "c")->id);
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
    Seen s = {.p = open_with("", sx_sys_default()), .cancel = g_cancellable_new()};
    s.paths = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autoptr(GError) e = NULL;
    assert_true(sx_provider_mkdir(s.p, "d", NULL, NULL, &e));
    assert_true(sx_provider_mkdir(s.p, "listed", NULL, NULL, &e));
    sx_provider_watch_dir(s.p, "");
    sx_provider_watch_dir(s.p, "d");
    g_autoptr(GPtrArray) all = list(s.p, "listed", &e); /* watched from its first listing on */
    GThread *t = g_thread_new("watch", watch_thread, &s);
    theirs("f", "1");
    wait_for(&s, "f");
    theirs("d/g", "1");
    wait_for(&s, "d/g");
    theirs("listed/h", "1");
    wait_for(&s, "listed/h");
    /* What we do ourselves is known to the core and not told. */
    assert_true(put(s.p, "d/ours", "1", SX_IF_ABSENT, NULL, NULL, &e));
    assert_true(put(s.p, "d/ours", "2", SX_IF_ANY, NULL, NULL, &e));
    assert_true(sx_provider_set_attr(s.p, "d/ours", 7, 0600, NULL, NULL, &e));
    assert_true(sx_provider_mkdir(s.p, "d/our dir", NULL, NULL, &e));
    assert_true(put(s.p, "d/moved", "3", SX_IF_ABSENT, NULL, NULL, &e));
    assert_true(sx_provider_move(s.p, "d/moved", "d/there", SX_KIND_FILE, NULL, &e));
    assert_true(sx_provider_remove(s.p, "d/there", SX_KIND_FILE, NULL, NULL, &e));
    theirs("d/last", "1");
    wait_for(&s, "d/last");
    GHashTableIter it;
    gpointer path;
    g_mutex_lock(&s.lock);
    g_hash_table_iter_init(&it, s.paths);
    while (g_hash_table_iter_next(&it, &path, NULL))
        if (strstr(path, "our") != NULL || strstr(path, "moved") != NULL || strstr(path, "there") != NULL || strstr(path, SX_TMP_PREFIX) != NULL)
            fail_msg("told our own change of %s", (char *)path);
    g_mutex_unlock(&s.lock);
    theirs("d/ours", "theirs"); /* what others do to it is */
    wait_for(&s, "d/ours");
    g_autofree char *dir = in("d/our dir");
    assert_int_equal(chmod(dir, 0755 ^ 0022), 0);
    wait_for(&s, "d/our dir");
    g_autofree char *gone = in("d/ours");
    assert_int_equal(unlink(gone), 0);
    theirs("d/there", "again");
    wait_for(&s, "d/there");
    g_cancellable_cancel(s.cancel);
    g_thread_join(t);
    g_hash_table_unref(s.paths);
    g_object_unref(s.cancel);
    sx_provider_unref(s.p);
}

static void
a_folder_in_its_own_mount_is_found_out(void **state)
{
    g_autofree char *mount = g_build_filename(top, "mnt", NULL), *inside = g_build_filename(mount, "x/y", NULL);
    g_autofree char *beside = g_build_filename(top, "mnt2", NULL), *link = g_build_filename(top, "link", NULL);
    assert_int_equal(mkdir(mount, 0700), 0);
    assert_int_equal(symlink(mount, link), 0);
    g_autofree char *by_link = g_build_filename(link, "z", NULL), *dots = g_build_filename(beside, "../mnt/a", NULL);
    assert_true(sx_local_clashes(inside, mount));
    assert_true(sx_local_clashes(mount, mount));
    assert_true(sx_local_clashes(top, mount)); /* it would show itself in itself */
    assert_true(sx_local_clashes(by_link, mount));
    assert_true(sx_local_clashes(dots, mount));
    assert_true(sx_local_clashes("/", mount));
    assert_false(sx_local_clashes(beside, mount));
}

int
main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(an_object_lives_its_life),
        T(times_and_modes_are_kept),
        T(no_link_leads_out),
        T(other_kinds_are_told_and_never_waited_for),
        T(any_name_goes_round),
        T(a_missing_folder_is_offline_and_not_empty),
        T(a_change_in_the_last_moment_is_not_overwritten),
        T(a_change_in_the_last_moment_is_not_removed),
        T(a_file_system_without_the_renames_still_works),
        T(a_read_never_mixes_versions),
        T(any_call_may_fail),
        T(a_crash_at_any_call_leaves_old_or_new),
        T(what_was_displaced_by_a_crash_comes_back),
        T(leftovers_do_not_keep_a_directory),
        T(a_descriptor_is_copied_by_the_kernel_and_stays_sparse),
        T(ids_follow_a_rename_and_tell_a_new_file),
        T(changes_beside_the_mount_are_told),
        T(a_folder_in_its_own_mount_is_found_out),
    };
    sx_log_set_level(SX_LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
