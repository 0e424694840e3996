/* What an argument that names a file means. */
#include "cli/cli.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

static char *
real_directory(const char *path)
{
    char *found = realpath(path, NULL);
    char *copy = found != NULL ? g_strdup(found) : g_canonicalize_filename(path, NULL);
    free(found);
    return copy;
}

/* Is there a mount of ours at or above it? (Only the runtime directory is asked.) */
static bool
in_a_mount(const char *absolute)
{
    for (g_autofree char *dir = g_strdup(absolute);;) {
        g_autofree char *socket = sx_http_default_socket(dir);
        if (g_file_test(socket, G_FILE_TEST_EXISTS))
            return true;
        g_autofree char *up = g_path_get_dirname(dir);
        if (strcmp(up, dir) == 0)
            return false;
        g_free(dir);
        dir = g_steal_pointer(&up);
    }
}

/* The last component is not followed: a link itself may be meant. */
char *
sx_cli_path(const char *arg)
{
    g_autofree char *clean = g_strdup(arg);
    for (gsize n = strlen(clean); n > 1 && clean[n - 1] == '/'; n--)
        clean[n - 1] = '\0';
    const char *slash = strrchr(clean, '/');
    const char *base = slash != NULL ? slash + 1 : clean;
    g_autofree char *absolute = NULL;
    if (*base == '\0' || strcmp(base, ".") == 0 || strcmp(base, "..") == 0) {
        absolute = real_directory(clean);
    } else {
        g_autofree char *dir = g_path_get_dirname(clean);
        g_autofree char *real = real_directory(dir);
        absolute = g_build_filename(real, base, NULL);
    }
    return g_path_is_absolute(arg) || in_a_mount(absolute) ? g_steal_pointer(&absolute) : g_steal_pointer(&clean);
}

json_t *
sx_cli_path_body(const SxCli *cli, guint n)
{
    json_t *body = json_object();
    if (n >= g_strv_length(cli->args))
        return body;
    g_autofree char *path = sx_cli_path(cli->args[n]);
    sx_json_set_bytes(body, "path", path);
    return body;
}
