/* Temporary names, and what is done about those that a crash has left.
 *
 *   PREFIX RANDOM                  an upload being filled. Nobody else has seen it: may be removed.
 *   PREFIX RANDOM.INO-VERSION      while a file changes places with its target (write), or leaves it (remove, INO 0).
 *                                  Before the exchange this name holds our inode INO, after it what was displaced. That is
 *                                  VERSION, and may be removed, or somebody changed the target in the last moment: then it is
 *                                  the only copy of that change and gets a visible name.
 * The prefix is not the one under which the core moves files out of the way: those are never touched here. */
#include "providers/local/local_i.h"

#include "base/log.h"
#include "base/path.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void
sx_local_temp_name(Local *l, char ret[LOCAL_TMP_MAX])
{
    g_snprintf(ret, LOCAL_TMP_MAX, "%s%016" G_GINT64_MODIFIER "x", SX_TMP_UPLOAD, sx_clock_random(l->clock));
}

void
sx_local_swap_name(Local *l, guint64 our_ino, const char *expected, char ret[LOCAL_TMP_MAX])
{
    g_snprintf(ret, LOCAL_TMP_MAX, "%s%016" G_GINT64_MODIFIER "x.%" G_GINT64_MODIFIER "x-%s", SX_TMP_UPLOAD,
               sx_clock_random(l->clock), our_ino, expected);
}

bool
sx_local_temp_is_ours(const char *name)
{
    return g_str_has_prefix(name, SX_TMP_UPLOAD);
}

/* May the file under this name go? */
static bool
disposable(const char *name, const struct stat *st)
{
    const char *dot = strchr(name + strlen(SX_TMP_UPLOAD), '.');
    if (dot == NULL)
        return true;
    char *end;
    guint64 ours = g_ascii_strtoull(dot + 1, &end, 16);
    if (*end != '-' || ours == (guint64)st->st_ino)
        return *end == '-';
    g_autofree char *version = sx_local_version(st);
    return strcmp(version, end + 1) == 0;
}

void
sx_local_recover(Local *l, int dir, const char *name)
{
    gint64 now = sx_clock_real_ns(l->clock);
    for (unsigned n = 0; n < 100; n++) {
        g_autofree char *visible = sx_conflict_name("recovered file", l->env->name, now, n);
        int r = sx_local_rename_noreplace(l, dir, name, dir, visible);
        if (r == 0)
            sx_warn("%s: a file that was changed while we replaced it is kept as %s", l->env->name, visible);
        if (r != -EEXIST)
            return;
    }
}

void
sx_local_sweep(Local *l, int dir, const char *name, gint64 min_age_ns)
{
    struct stat st;
    if (RETRY(l->sys->fstatat(l->sys, dir, name, &st, AT_SYMLINK_NOFOLLOW)) != 0 || S_ISDIR(st.st_mode))
        return;
    gint64 ctime_ns = (gint64)st.st_ctim.tv_sec * 1000000000 + st.st_ctim.tv_nsec;
    if (sx_clock_real_ns(l->clock) - ctime_ns < min_age_ns)
        return;
    if (!disposable(name, &st))
        sx_local_recover(l, dir, name);
    else if (RETRY(l->sys->unlinkat(l->sys, dir, name, 0)) == 0)
        sx_info("%s: removed %s, left by an upload that was broken off", l->env->name, name);
}

int
sx_local_sweep_dir(Local *l, int dir, gint64 min_age_ns)
{
    int fd = RETRY(l->sys->openat(l->sys, dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0));
    if (fd < 0)
        return -errno;
    DIR *d = fdopendir(fd);
    if (d == NULL) {
        int e = errno;
        l->sys->close(l->sys, fd);
        return -e;
    }
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        if (sx_local_temp_is_ours(e->d_name))
            sx_local_sweep(l, dir, e->d_name, min_age_ns);
    closedir(d);
    return 0;
}
