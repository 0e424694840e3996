#include "daemon/place.h"

#include "base/log.h"

#include <errno.h>
#include <gio/gunixmounts.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

/* Links are resolved as far as the path exists; what does not exist yet is taken as written. */
static char *
resolve(const char *path)
{
    g_autofree char *absolute = g_canonicalize_filename(path, NULL);
    char *found = realpath(absolute, NULL);
    if (found != NULL) {
        char *copy = g_strdup(found);
        free(found);
        return copy;
    }
    g_autofree char *dir = g_path_get_dirname(absolute);
    if (strcmp(dir, absolute) == 0)
        return g_steal_pointer(&absolute);
    g_autofree char *base = g_path_get_basename(absolute);
    g_autofree char *parent = resolve(dir);
    return g_build_filename(parent, base, NULL);
}

static void
warn_if_not_empty(const char *dir)
{
    g_autoptr(GDir) d = g_dir_open(dir, 0, NULL);
    const char *name = d != NULL ? g_dir_read_name(d) : NULL;
    if (name != NULL)
        sx_warn("%s is not empty: '%s' and what else is in it is hidden while the mount is there", dir, name);
}

/* Of a dead mount the kernel may still answer stat() from what it remembers, statfs() never. */
static bool
is_live_mount(const char *dir)
{
    GUnixMountEntry *entry = g_unix_mount_at(dir, NULL);
    bool ours = entry != NULL && strcmp(g_unix_mount_get_fs_type(entry), "fuse.syncoxfs") == 0;
    g_clear_pointer(&entry, g_unix_mount_free);
    struct statvfs fs;
    return ours && statvfs(dir, &fs) == 0;
}

char *
sx_place_check(const char *mountpoint, GError **error)
{
    g_autofree char *path = resolve(mountpoint);
    struct stat st;
    if (stat(path, &st) != 0) {
        if (errno == ENOTCONN)
            return g_steal_pointer(&path);
        sx_fail_errno(error, errno, errno == ENOENT ? "the mount point %s is missing (mkdir makes it)" : "the mount point %s", path);
        return NULL;
    }
    if (!S_ISDIR(st.st_mode)) {
        sx_fail(error, SX_ERR_NOT_DIR, "the mount point %s is not a directory", path);
        return NULL;
    }
    if (is_live_mount(path)) {
        sx_fail(error, SX_ERR_BUSY, "%s is mounted already (syncox status shows it, syncox umount ends it)", path);
        return NULL;
    }
    warn_if_not_empty(path);
    return g_steal_pointer(&path);
}

bool
sx_path_is_below(const char *path, const char *dir)
{
    gsize n = strlen(dir);
    while (n > 0 && dir[n - 1] == '/')
        n--;
    return strncmp(path, dir, n) == 0 && (path[n] == '/' || path[n] == '\0');
}

static bool
check_folder(const char *mountpoint, const char *what, const char *folder, GError **error)
{
    if (folder == NULL)
        return true;
    g_autofree char *path = resolve(folder);
    if (sx_path_is_below(path, mountpoint))
        return sx_fail(error, SX_ERR_CONFIG, "%s: %s lies inside the mount point %s and would wait for itself", what, path, mountpoint);
    if (sx_path_is_below(mountpoint, path))
        return sx_fail(error, SX_ERR_CONFIG, "%s: the mount point %s lies inside %s, which would then contain itself", what, mountpoint, path);
    return true;
}

bool
sx_place_check_conf(const char *mountpoint, const SxConf *conf, const char *cache_dir, const char *state_dir, GError **error)
{
    const SxSection *global = sx_conf_global(conf);
    if (!check_folder(mountpoint, "cache-dir", cache_dir != NULL ? cache_dir : sx_section_string(global, "cache-dir"), error) ||
        !check_folder(mountpoint, "state-dir", state_dir != NULL ? state_dir : sx_section_string(global, "state-dir"), error))
        return false;
    for (guint i = 0; i < sx_conf_n_providers(conf); i++) {
        const SxSection *s = sx_conf_provider(conf, i);
        if (strcmp(sx_section_string(s, "type"), "local") == 0 &&
            !check_folder(mountpoint, sx_section_where(s), sx_section_string(s, "path"), error))
            return false;
    }
    return true;
}
