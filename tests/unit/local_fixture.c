#include "local_fixture.h"

#include "base/log.h"
#include "base/path.h"

#include <dirent.h>
#include <stdlib.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

/* ---- a table of system calls that can fail, or let another client act in between ---- */

Bad sx_t_bad;

static bool
fails(void)
{
    int n = ++sx_t_bad.n;
    bool now = sx_t_bad.fail_at > 0 && (n == sx_t_bad.fail_at || (sx_t_bad.for_ever && n > sx_t_bad.fail_at));
    sx_t_bad.failed |= now;
    if (now && sx_t_bad.err != 0)
        errno = sx_t_bad.err;
    return now && sx_t_bad.err != 0;
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
    if (sx_t_bad.before_pread != NULL) {
        void (*fn)(void) = sx_t_bad.before_pread;
        sx_t_bad.before_pread = NULL;
        fn();
    }
    return fails() ? -1 : real()->pread(real(), fd, buf, n, off);
}
static ssize_t
b_pwrite(const SxSys *s, int fd, const void *buf, size_t n, off_t off)
{
    bool was = sx_t_bad.failed;
    if (fails())
        return -1;
    if (sx_t_bad.failed && !was && sx_t_bad.err == 0)
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
    if (sx_t_bad.before_rename != NULL && flags == sx_t_bad.hook_flags) {
        void (*fn)(void) = sx_t_bad.before_rename;
        sx_t_bad.before_rename = NULL;
        fn();
    }
    if (flags & (unsigned)sx_t_bad.refuse_flags) {
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

const SxSys sx_t_bad_sys = {
    .openat = b_openat, .close = b_close, .pread = b_pread, .pwrite = b_pwrite, .ftruncate = b_ftruncate, .fsync = b_fsync,
    .renameat2 = b_renameat2, .unlinkat = b_unlinkat, .mkdirat = b_mkdirat, .fstat = b_fstat, .fstatat = b_fstatat,
    .lseek = b_lseek, .fstatvfs = b_fstatvfs,
};

/* ---- a folder and helpers ---- */

char *sx_t_top;
gint64 sx_t_clock_ahead_ns;

static gint64
ahead_real(const SxClock *c)
{
    return sx_clock_default()->real_ns(sx_clock_default()) + sx_t_clock_ahead_ns;
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
static const SxClock sx_t_clock = {.real_ns = ahead_real, .mono_ms = ahead_mono, .random = counting};

int
sx_t_setup(void **state)
{
    sx_t_bad = (Bad){0};
    sx_t_clock_ahead_ns = 0;
    sx_t_top = g_dir_make_tmp("sx-local-XXXXXX", NULL);
    return sx_t_top != NULL ? 0 : -1;
}

int
sx_t_remove_entry(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    return remove(path);
}

int
sx_t_teardown(void **state)
{
    nftw(sx_t_top, sx_t_remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    g_clear_pointer(&sx_t_top, g_free);
    return 0;
}

char *
sx_t_in(const char *path)
{
    return g_build_filename(sx_t_top, "root", path, NULL);
}

SxProvider *
sx_t_open(const char *more, const SxSys *sys)
{
    g_autofree char *options = g_strdup_printf("path = %s/root\n%s", sx_t_top, more);
    g_autoptr(GError) e = NULL;
    SxProvider *p = sx_provider_open_text(&sx_provider_local, "files", options, sys, &sx_t_clock, &e);
    if (p == NULL)
        fail_msg("%s", e->message);
    return p;
}

void
sx_t_assert_error(GError **e, SxErrorCode code)
{
    if (!sx_error_is(*e, code))
        fail_msg("%s instead of %s", *e != NULL ? (*e)->message : "no error", sx_error_code_name(code));
    g_clear_error(e);
}

gssize
sx_t_text_read(void *data, gint64 off, void *buf, gsize n)
{
    GString *t = data;
    gsize k = (gsize)off < t->len ? MIN(n, t->len - (gsize)off) : 0;
    memcpy(buf, t->str + off, k);
    return (gssize)k;
}

bool
sx_t_put_bytes(SxProvider *p, const char *path, const char *bytes, gsize n, SxIf kind, const char *version, SxRemote **ret, GError **error)
{
    g_autoptr(GString) t = g_string_new_len(bytes, (gssize)n);
    SxUpload up = {
        .source = {.size = (gint64)n, .read = sx_t_text_read, .fd = -1, .data = t},
        .cond = {.kind = kind, .version = version, .size = -1, .mtime_ns = SX_TIME_UNKNOWN},
        .mtime_ns = SX_TIME_UNKNOWN, .mode = -1,
    };
    return sx_provider_write(p, path, &up, ret, NULL, error);
}

bool
sx_t_put(SxProvider *p, const char *path, const char *text, SxIf kind, const char *version, SxRemote **ret, GError **error)
{
    return sx_t_put_bytes(p, path, text, strlen(text), kind, version, ret, error);
}

/* What another program on this machine does. */
void
sx_t_theirs(const char *path, const char *text)
{
    g_autofree char *full = sx_t_in(path);
    int fd = open(full, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

char *
sx_t_content(const char *path)
{
    g_autofree char *full = sx_t_in(path);
    char *text = NULL;
    return g_file_get_contents(full, &text, NULL, NULL) ? text : NULL;
}

void
sx_t_assert_content(const char *path, const char *text)
{
    g_autofree char *now = sx_t_content(path);
    assert_non_null(now);
    assert_string_equal(now, text);
}

static int
by_text(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* All names in a directory of the folder, sorted, ours too. */
char *
sx_t_raw_names(const char *path)
{
    g_autofree char *full = sx_t_in(path);
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

GPtrArray *
sx_t_list(SxProvider *p, const char *path, GError **error)
{
    g_autoptr(GPtrArray) a = g_ptr_array_new_with_free_func((GDestroyNotify)sx_remote_free);
    return sx_provider_list(p, path, add_entry, a, NULL, error) ? g_steal_pointer(&a) : NULL;
}

const SxRemote *
sx_t_entry(GPtrArray *a, const char *name)
{
    for (guint i = 0; i < a->len; i++)
        if (strcmp(((SxRemote *)g_ptr_array_index(a, i))->name, name) == 0)
            return g_ptr_array_index(a, i);
    return NULL;
}

int
sx_t_add_bytes(void *data, gint64 off, const void *buf, gsize n)
{
    g_string_append_len(data, buf, (gssize)n);
    return 0;
}
