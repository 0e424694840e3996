#include "daemon/background.h"

#include "base/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* A byte: the mount is up. End of file: the child has ended and said why on stderr. */
static void
wait_for_child(pid_t child, int fd)
{
    char byte;
    ssize_t n;
    do
        n = read(fd, &byte, 1);
    while (n < 0 && errno == EINTR);
    if (n == 1)
        _exit(EXIT_SUCCESS);
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    _exit(WIFEXITED(status) && WEXITSTATUS(status) != 0 ? WEXITSTATUS(status) : EXIT_FAILURE);
}

int
sx_background_fork(GError **error)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) != 0) {
        sx_fail_errno(error, errno, "pipe");
        return -1;
    }
    pid_t child = fork();
    if (child < 0) {
        sx_fail_errno(error, errno, "fork");
        close(fds[0]);
        close(fds[1]);
        return -1;
    }
    if (child > 0) {
        close(fds[1]);
        wait_for_child(child, fds[0]);
    }
    close(fds[0]);
    setsid();
    return fds[1];
}

static bool
redirect(const char *path, int flags, int to, GError **error)
{
    g_auto(SxFd) fd = open(path, flags | O_CLOEXEC, 0600);
    if (fd < 0 || dup2(fd, to) < 0)
        return sx_fail_errno(error, errno, "%s", path);
    return true;
}

bool
sx_background_open_log(const char *log_file, GError **error)
{
    struct stat st;
    if (stat(log_file, &st) == 0 && st.st_size > SX_LOG_FILE_MAX) {
        g_autofree char *old = g_strconcat(log_file, ".1", NULL);
        g_rename(log_file, old);
    }
    return redirect(log_file, O_WRONLY | O_CREAT | O_APPEND, STDERR_FILENO, error);
}

bool
sx_background_ready(int fd, const char *log_file, GError **error)
{
    g_auto(SxFd) parent = fd;
    if (chdir("/") != 0)
        return sx_fail_errno(error, errno, "/");
    if (!redirect("/dev/null", O_RDONLY, STDIN_FILENO, error) || !redirect("/dev/null", O_WRONLY, STDOUT_FILENO, error) ||
        !sx_background_open_log(log_file, error))
        return false;
    if (write(parent, "", 1) != 1)
        return sx_fail_errno(error, errno, "the process that waits for the mount");
    return true;
}
