#include "daemon/args.h"

#include <string.h>

/* The process changes its directory when it goes to the background. */
static char *
absolute(const char *path)
{
    return g_canonicalize_filename(path, NULL);
}

static bool
one_option(SxArgs *args, const char *option, GError **error)
{
    const struct {
        const char *key;
        char **where;
        bool is_path;
    } ours[] = {
        {"config", &args->config_file, true},
        {"cache-dir", &args->cache_dir, true},
        {"state-dir", &args->state_dir, true},
        {"log-level", &args->log_level, false},
    };
    for (guint i = 0; i < G_N_ELEMENTS(ours); i++) {
        gsize n = strlen(ours[i].key);
        if (strncmp(option, ours[i].key, n) != 0 || (option[n] != '=' && option[n] != '\0'))
            continue;
        if (option[n] == '\0' || option[n + 1] == '\0')
            return sx_fail(error, SX_ERR_INVALID, "-o %s needs a value: %s=VALUE", ours[i].key, ours[i].key);
        g_free(*ours[i].where);
        *ours[i].where = ours[i].is_path ? absolute(option + n + 1) : g_strdup(option + n + 1);
        return true;
    }
    g_ptr_array_add(args->fuse_options, g_strdup(option)); /* fuse passes over what is mount(8)'s own */
    return true;
}

bool
sx_args_options(SxArgs *args, const char *list, GError **error)
{
    g_autoptr(GString) option = g_string_new(NULL);
    for (const char *p = list;; p++) {
        if (*p == '\\' && p[1] != '\0') {
            g_string_append_c(option, *++p);
            continue;
        }
        if (*p != ',' && *p != '\0') {
            g_string_append_c(option, *p);
            continue;
        }
        if (option->len > 0 && !one_option(args, option->str, error))
            return false;
        g_string_truncate(option, 0);
        if (*p == '\0')
            return true;
    }
}

static bool
positional(SxArgs *args, char **rest, GError **error)
{
    guint n = rest != NULL ? g_strv_length(rest) : 0;
    if (n == 0)
        return sx_fail(error, SX_ERR_INVALID, "the mount point is missing: syncoxfs MOUNTPOINT");
    if (n > 2)
        return sx_fail(error, SX_ERR_INVALID, "too many arguments: %s", rest[2]);
    args->source = n == 2 ? g_strdup(rest[0]) : NULL;
    args->mountpoint = g_strdup(rest[n - 1]);
    return *args->mountpoint != '\0' || sx_fail(error, SX_ERR_INVALID, "the mount point is empty");
}

bool
sx_args_parse(int argc, char **argv, SxArgs *ret, GError **error)
{
    *ret = (SxArgs){.fuse_options = g_ptr_array_new_with_free_func(g_free)};
    gboolean foreground = FALSE, version = FALSE;
    g_autofree char *config = NULL;
    g_auto(GStrv) lists = NULL, rest = NULL;
    const GOptionEntry entries[] = {
        {"foreground", 'f', 0, G_OPTION_ARG_NONE, &foreground, "stay in the foreground and log to the terminal", NULL},
        {"config", 'c', 0, G_OPTION_ARG_FILENAME, &config, "the configuration (default: ~/.config/syncoxfs/syncoxfs.conf)", "FILE"},
        {"options", 'o', 0, G_OPTION_ARG_FILENAME_ARRAY, &lists, "config= cache-dir= state-dir= log-level=, and options of FUSE", "OPTS"},
        {"version", 'V', 0, G_OPTION_ARG_NONE, &version, "print the version", NULL},
        {"generate", 0, G_OPTION_FLAG_HIDDEN, G_OPTION_ARG_STRING, &ret->generate, NULL, NULL},
        {G_OPTION_REMAINING, 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &rest, NULL, NULL},
        {NULL},
    };
    g_autoptr(GOptionContext) context = g_option_context_new("[SOURCE] MOUNTPOINT");
    g_option_context_set_summary(context, "Mounts your storages: each provider of the configuration is a directory of MOUNTPOINT.");
    g_option_context_set_description(context, "See syncoxfs(1), syncoxfs.conf(5); end it with: syncox umount\n");
    g_option_context_add_main_entries(context, entries, NULL);
    g_autoptr(GError) why = NULL;
    if (!g_option_context_parse(context, &argc, &argv, &why))
        return sx_fail(error, SX_ERR_INVALID, "%s", why->message);
    ret->foreground = foreground;
    ret->version = version;
    ret->config_file = config != NULL ? absolute(config) : NULL;
    for (char **l = lists; l != NULL && *l != NULL; l++)
        if (!sx_args_options(ret, *l, error))
            return false;
    return version || ret->generate != NULL || positional(ret, rest, error);
}

void
sx_args_clear(SxArgs *a)
{
    g_free(a->config_file);
    g_free(a->cache_dir);
    g_free(a->state_dir);
    g_free(a->generate);
    g_free(a->log_level);
    g_free(a->source);
    g_free(a->mountpoint);
    g_clear_pointer(&a->fuse_options, g_ptr_array_unref);
    *a = (SxArgs){0};
}
