#include "base/path.h"

#include <fnmatch.h>
#include <string.h>
#include <time.h>

bool
sx_name_valid(const char *name, gsize len)
{
    if (len == 0 || len > SX_NAME_MAX || memchr(name, '/', len) != NULL || memchr(name, '\0', len) != NULL)
        return false;
    return !(name[0] == '.' && (len == 1 || (len == 2 && name[1] == '.')));
}

char *
sx_path_join(const char *dir, const char *name)
{
    if (*dir == '\0')
        return g_strdup(name);
    return *name == '\0' ? g_strdup(dir) : g_strconcat(dir, "/", name, NULL);
}

char *
sx_path_dirname(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL ? g_strndup(path, (gsize)(slash - path)) : g_strdup("");
}

const char *
sx_path_basename(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

/* Where to cut so that at most max bytes remain and no UTF-8 sequence is split. */
static gsize
cut_at(const char *s, gsize len, gsize max)
{
    if (len <= max)
        return len;
    while (max > 0 && ((guchar)s[max] & 0xc0) == 0x80)
        max--;
    return max;
}

char *
sx_conflict_name(const char *name, const char *who, gint64 real_ns, unsigned n)
{
    time_t secs = (time_t)(real_ns / 1000000000);
    struct tm tm;
    localtime_r(&secs, &tm);
    char when[32];
    strftime(when, sizeof when, "%Y-%m-%d %H.%M.%S", &tm);
    g_autofree char *nth = n > 0 ? g_strdup_printf(" %u", n) : g_strdup("");
    g_autofree char *clean = g_strdelimit(g_strndup(who, cut_at(who, strlen(who), 64)), "/\\:*?\"<>|", '-');
    g_autofree char *mark = g_strdup_printf(" (conflict %s %s%s)", clean, when, nth);

    const char *dot = strrchr(name, '.');
    if (dot == NULL || dot == name || strlen(dot) > 32)
        dot = name + strlen(name);
    gsize stem = cut_at(name, (gsize)(dot - name), SX_NAME_MAX - strlen(mark) - strlen(dot));
    return g_strdup_printf("%.*s%s%s", (int)stem, name, mark, dot);
}

bool
sx_is_conflict_name(const char *name)
{
    return strstr(name, " (conflict ") != NULL;
}

bool
sx_name_is_temporary(const char *name)
{
    static const char *const globs[] = {"~$*", ".~lock.*#", "*.tmp", ".#*", "*.crdownload", "*.part", ".*.sw?", "4913", NULL};
    for (const char *const *g = globs; *g != NULL; g++)
        if (fnmatch(*g, name, 0) == 0)
            return true;
    return false;
}
