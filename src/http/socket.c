/* The control socket in the file system.
 *
 * A socket appears under its name only when it already listens (bound beside it, then renamed), and `default` beside it is
 * a link to the newest. What a killed process left is recognised by nobody answering and replaced. */
#include "http/api_i.h"

#include "base/log.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define SX_SOCKET_BACKLOG 16
#define SX_SOCKET_SUFFIX ".sock"

char *
sx_http_socket_dir(void)
{
    return g_build_filename(g_get_user_runtime_dir(), "syncoxfs", NULL);
}

char *
sx_http_default_socket(const char *mountpoint)
{
    g_autofree char *dir = sx_http_socket_dir();
    if (mountpoint == NULL)
        return g_build_filename(dir, "default", NULL);
    g_autofree char *hash = g_compute_checksum_for_string(G_CHECKSUM_SHA256, mountpoint, -1);
    g_autofree char *name = g_strdup_printf("%.16s" SX_SOCKET_SUFFIX, hash);
    return g_build_filename(dir, name, NULL);
}

static bool
make_address(const char *path, struct sockaddr_un *ret, GError **error)
{
    *ret = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (g_strlcpy(ret->sun_path, path, sizeof ret->sun_path) < sizeof ret->sun_path)
        return true;
    return sx_fail(error, SX_ERR_NAME_TOO_LONG, "%s: longer than the %zu bytes that a socket's name may have; set XDG_RUNTIME_DIR to a shorter one",
                   path, sizeof ret->sun_path - 1);
}

static bool
somebody_answers(const struct sockaddr_un *address)
{
    g_auto(SxFd) fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return fd >= 0 && connect(fd, (const struct sockaddr *)address, sizeof *address) == 0;
}

/* `default` -> NAME, replaced at once. A failure only costs the short-cut. */
static void
point_default(const char *dir, const char *name)
{
    g_autofree char *link = g_build_filename(dir, "default", NULL);
    g_autofree char *tmp = g_strdup_printf("%s.%d", link, (int)getpid());
    g_unlink(tmp);
    if (symlink(name, tmp) != 0 || g_rename(tmp, link) != 0)
        sx_warn("%s: %s", link, g_strerror(errno));
}

static bool
make_dir(const char *dir, GError **error)
{
    struct stat st;
    int r = sx_sys_mkdirs(sx_sys_default(), dir);
    if (r != 0)
        return sx_fail_errno(error, -r, "%s: directory of the control socket", dir);
    if (stat(dir, &st) != 0)
        return sx_fail_errno(error, errno, "%s", dir);
    if (st.st_uid != geteuid() || (st.st_mode & 022) != 0)
        return sx_fail(error, SX_ERR_PERMISSION, "%s: must belong to you and be writable by nobody else; remove it, or set XDG_RUNTIME_DIR", dir);
    return true;
}

int
sx_socket_listen(const char *path, GError **error)
{
    struct sockaddr_un address, temporary;
    g_autofree char *dir = g_path_get_dirname(path);
    g_autofree char *tmp = g_strdup_printf("%s.%d", path, (int)getpid());
    if (!make_dir(dir, error) || !make_address(path, &address, error) || !make_address(tmp, &temporary, error))
        return -1;
    if (somebody_answers(&address)) {
        sx_fail(error, SX_ERR_BUSY, "%s: another syncoxfs serves this mount point already (syncox status shows it, syncox umount ends it)", path);
        return -1;
    }
    g_unlink(tmp);
    g_auto(SxFd) fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&temporary, sizeof temporary) != 0 || chmod(tmp, 0600) != 0 ||
        listen(fd, SX_SOCKET_BACKLOG) != 0 || g_rename(tmp, path) != 0) {
        sx_fail_errno(error, errno, "%s: control socket", path);
        g_unlink(tmp);
        return -1;
    }
    g_autofree char *name = g_path_get_basename(path);
    point_default(dir, name);
    return sx_fd_take(&fd);
}

/* The newest other socket that somebody serves; NULL. */
static char *
newest_socket(const char *dir)
{
    g_autoptr(GDir) d = g_dir_open(dir, 0, NULL);
    g_autofree char *best = NULL;
    gint64 best_time = G_MININT64;
    for (const char *name; d != NULL && (name = g_dir_read_name(d)) != NULL;) {
        g_autofree char *path = g_build_filename(dir, name, NULL);
        struct sockaddr_un address;
        struct stat st;
        if (!g_str_has_suffix(name, SX_SOCKET_SUFFIX) || stat(path, &st) != 0 || (gint64)st.st_ctime < best_time ||
            !make_address(path, &address, NULL) || !somebody_answers(&address))
            continue;
        best_time = (gint64)st.st_ctime;
        g_free(best);
        best = g_strdup(name);
    }
    return g_steal_pointer(&best);
}

/* fd is still bound: as long as it is open nobody else has replaced the socket, because it answers. */
void
sx_socket_remove(const char *path, int fd)
{
    g_autofree char *dir = g_path_get_dirname(path);
    g_autofree char *link = g_build_filename(dir, "default", NULL);
    g_autofree char *name = g_path_get_basename(path);
    g_unlink(path);
    sx_fd_clear(&fd);
    g_autofree char *target = g_file_read_link(link, NULL);
    if (g_strcmp0(target, name) != 0)
        return;
    g_autofree char *next = newest_socket(dir);
    if (next != NULL)
        point_default(dir, next);
    else
        g_unlink(link);
}
