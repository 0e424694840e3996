#include "base/clock.h"
#include "base/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

/* A table whose reads and writes follow a script: bytes to transfer, 0, or -errno. */
typedef struct Script {
    const int *steps;
    int at;
    char file[64];
} Script;

static ssize_t
next(Script *s, size_t n)
{
    int step = s->steps[s->at++];
    if (step < 0) {
        errno = -step;
        return -1;
    }
    return MIN(step, (int)n);
}

static ssize_t
scripted_pwrite(const SxSys *sys, int fd, const void *buf, size_t n, off_t off)
{
    Script *s = sys->data;
    ssize_t k = next(s, n);
    if (k > 0)
        memcpy(s->file + off, buf, (size_t)k);
    return k;
}

static ssize_t
scripted_pread(const SxSys *sys, int fd, void *buf, size_t n, off_t off)
{
    Script *s = sys->data;
    ssize_t k = next(s, n);
    if (k > 0)
        memcpy(buf, s->file + off, (size_t)k);
    return k;
}

static void
short_and_interrupted_writes_are_continued(void **state)
{
    Script s = {.steps = (const int[]){3, -EINTR, 1, 100}};
    SxSys sys = *sx_sys_default();
    sys.pwrite = scripted_pwrite;
    sys.data = &s;
    assert_int_equal(sx_sys_pwrite_full(&sys, -1, "abcdefgh", 8, 2), 0);
    assert_memory_equal(s.file + 2, "abcdefgh", 8);
    assert_int_equal(s.at, 4);

    static const struct {
        int steps[3], result;
    } bad[] = {{{2, -ENOSPC}, -ENOSPC}, {{-EIO}, -EIO}, {{4, 0}, -EIO}};
    for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
        s = (Script){.steps = bad[i].steps};
        assert_int_equal(sx_sys_pwrite_full(&sys, -1, "abcdefgh", 8, 0), bad[i].result);
    }
}

static void
reads_end_at_the_end_of_the_file_only(void **state)
{
    Script s = {.steps = (const int[]){3, -EINTR, 2, 0}, .file = "abcdefgh"};
    SxSys sys = *sx_sys_default();
    sys.pread = scripted_pread;
    sys.data = &s;
    char buf[8];
    assert_int_equal(sx_sys_pread_full(&sys, -1, buf, sizeof buf, 1), 5);
    assert_memory_equal(buf, "bcdef", 5);
    s = (Script){.steps = (const int[]){3, -EIO}};
    assert_int_equal(sx_sys_pread_full(&sys, -1, buf, sizeof buf, 0), -EIO);
}

static int
no_mkdir(const SxSys *sys, int dirfd, const char *path, mode_t mode)
{
    errno = ENOSPC;
    return -1;
}

static void
directories_are_made_on_the_way(void **state)
{
    g_autofree char *top = g_dir_make_tmp("sx-sys-XXXXXX", NULL);
    g_autofree char *a = g_build_filename(top, "a", NULL), *b = g_build_filename(top, "a/b", NULL), *f = g_build_filename(top, "f", NULL),
                    *below = g_build_filename(top, "f/x", NULL), *c = g_build_filename(top, "c", NULL);
    const SxSys *sys = sx_sys_default();
    assert_int_equal(sx_sys_mkdirs(sys, b), 0);
    assert_int_equal(sx_sys_mkdirs(sys, b), 0);
    struct stat st;
    assert_int_equal(sys->fstatat(sys, AT_FDCWD, b, &st, 0), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    assert_true(g_file_set_contents(f, "x", 1, NULL));
    assert_int_equal(sx_sys_mkdirs(sys, f), -ENOTDIR);
    assert_int_equal(sx_sys_mkdirs(sys, below), -ENOTDIR);
    SxSys full = *sys;
    full.mkdirat = no_mkdir;
    assert_int_equal(sx_sys_mkdirs(&full, c), -ENOSPC);
    assert_int_equal(sys->unlinkat(sys, AT_FDCWD, f, 0), 0);
    assert_int_equal(sys->unlinkat(sys, AT_FDCWD, b, AT_REMOVEDIR), 0);
    assert_int_equal(sys->unlinkat(sys, AT_FDCWD, a, AT_REMOVEDIR), 0);
    assert_int_equal(sys->unlinkat(sys, AT_FDCWD, top, AT_REMOVEDIR), 0);
}

static void
descriptors_close_at_the_end_of_the_scope(void **state)
{
    int number;
    {
        g_auto(SxFd) fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        number = fd;
        assert_true(fcntl(number, F_GETFD) >= 0);
    }
    assert_int_equal(fcntl(number, F_GETFD), -1);
    SxFd taken = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int mine = sx_fd_take(&taken);
    sx_fd_clear(&taken);
    assert_true(fcntl(mine, F_GETFD) >= 0);
    close(mine);
}

static void
the_clock_goes_on_and_random_differs(void **state)
{
    const SxClock *c = sx_clock_default();
    gint64 a = sx_clock_mono_ms(c), b = sx_clock_mono_ms(c);
    assert_true(b >= a);
    assert_true(sx_clock_real_ms(c) > G_GINT64_CONSTANT(1600000000000));
    assert_true(sx_clock_random(c) != sx_clock_random(c));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(short_and_interrupted_writes_are_continued),
        cmocka_unit_test(reads_end_at_the_end_of_the_file_only),
        cmocka_unit_test(directories_are_made_on_the_way),
        cmocka_unit_test(descriptors_close_at_the_end_of_the_scope),
        cmocka_unit_test(the_clock_goes_on_and_random_differs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
