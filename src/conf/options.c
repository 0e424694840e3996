/* The option tables of the program itself, and how a value of each type is checked. */
#include "conf/conf_i.h"

#include <stdlib.h>
#include <string.h>

const SxOption sx_options_global[] = {
    {.key = "cache-dir", .type = SX_OPT_PATH, .def = "~/.cache/syncoxfs",
     .doc = "Where the contents of files are kept. $XDG_CACHE_HOME takes the place of ~/.cache when it is set."},
    {.key = "state-dir", .type = SX_OPT_PATH, .def = "~/.local/state/syncoxfs",
     .doc = "Where names, attributes and changes that are not uploaded yet are kept; it belongs to one mount. "
            "$XDG_STATE_HOME takes the place of ~/.local/state when it is set."},
    {.key = "cache-size", .type = SX_OPT_SIZE, .def = "20G", .allowed = "1M 1024P",
     .doc = "How much the contents in cache-dir may take. Only what is on its provider and not pinned is removed."},
    {.key = "min-free", .type = SX_OPT_SIZE, .def = "2G", .allowed = "0 1024P",
     .doc = "How much of the cache's file system stays free for others. Below it writes answer \"no space left\"; "
            "nothing is lost."},
    {.key = "memory", .type = SX_OPT_SIZE, .def = "128M", .allowed = "4M 64G",
     .doc = "How much memory reading ahead may take, all open files together."},
    {.key = "write-back-delay", .type = SX_OPT_DURATION, .def = "2s", .allowed = "0 1d",
     .doc = "How long a file must have been left alone after its last close before its upload starts."},
    {.key = "upload-threads", .type = SX_OPT_INT, .def = "8", .allowed = "1 64", .doc = "Uploads at the same time."},
    {.key = "download-threads", .type = SX_OPT_INT, .def = "8", .allowed = "1 64", .doc = "Downloads at the same time."},
    {.key = "bandwidth-up", .type = SX_OPT_RATE, .def = "0",
     .doc = "Bytes per second that all uploads may take together; 0: no limit. By time of day: 08:00-18:00 1M, 0"},
    {.key = "bandwidth-down", .type = SX_OPT_RATE, .def = "0", .doc = "The same for downloads."},
    {.key = "keep-local", .type = SX_OPT_STRING, .def = "~$* .~lock.*# *.tmp .#* *.crdownload *.part .*.sw? 4913",
     .doc = "Names, separated by blanks, with * ? [] as in a shell, of temporary and lock files that are never uploaded."},
    {.key = "who", .type = SX_OPT_STRING,
     .doc = "What stands for this device in the names of conflict copies. Default: user@host."},
    {.key = "file-mode", .type = SX_OPT_MODE, .def = "0644",
     .doc = "Permissions of files whose provider has none, until they are changed."},
    {.key = "dir-mode", .type = SX_OPT_MODE, .def = "0755",
     .doc = "Permissions of directories whose provider has none, until they are changed."},
    {.key = "log-level", .type = SX_OPT_ENUM, .def = "info", .allowed = "error warn info debug",
     .doc = "How much is written to the log."},
    {0},
};

const SxOption sx_options_provider[] = {
    {.key = "type", .type = SX_OPT_STRING, .required = true, .doc = "What kind of storage it is."},
    {.key = "name", .type = SX_OPT_STRING, .doc = "The directory's name in the mount. Default: the section's name."},
    {.key = "read-only", .type = SX_OPT_BOOL, .def = "no", .doc = "Nothing is ever changed at the provider."},
    {.key = "poll", .type = SX_OPT_DURATION, .def = "60s", .allowed = "0 7d",
     .doc = "How often changes made elsewhere are looked for where the provider cannot tell about them; 0: only when asked."},
    {.key = "timeout", .type = SX_OPT_DURATION, .def = "30s", .allowed = "100ms 1h",
     .doc = "How long an answer may take to begin, and each pause in it may last."},
    {.key = "upload-threads", .type = SX_OPT_INT, .allowed = "1 64",
     .doc = "Uploads to this provider at the same time. Default: as in [syncoxfs]."},
    {.key = "download-threads", .type = SX_OPT_INT, .allowed = "1 64",
     .doc = "Downloads from this provider at the same time. Default: as in [syncoxfs]."},
    {.key = "bandwidth-up", .type = SX_OPT_RATE, .def = "0",
     .doc = "Bytes per second that uploads to this provider may take; 0: no limit beyond that of [syncoxfs]."},
    {.key = "bandwidth-down", .type = SX_OPT_RATE, .def = "0", .doc = "The same for downloads."},
    {0},
};

const SxOption *
sx_option_find(const SxOption *table, const char *key)
{
    for (const SxOption *o = table; o != NULL && o->key != NULL; o++)
        if (strcmp(o->key, key) == 0)
            return o;
    return NULL;
}

/* One kind of value: its name in help texts and its check. A check fills what differs from the text itself. */
typedef struct Kind {
    const char *placeholder;
    bool (*parse)(const SxOption *o, const char *value, char **text, gint64 *number, GError **error);
} Kind;

typedef bool (*NumberFn)(const char *text, gint64 *ret, GError **error);

/* Against "MIN MAX", both written like the value itself. */
static bool
in_range(const SxOption *o, NumberFn read, const char *value, gint64 v, GError **error)
{
    if (o->allowed == NULL)
        return true;
    g_auto(GStrv) ends = g_strsplit(o->allowed, " ", 2);
    gint64 min, max;
    if (!read(ends[0], &min, error) || !read(ends[1], &max, error))
        return false;
    return (v >= min && v <= max) || sx_fail(error, SX_ERR_CONFIG, "%s is out of range; allowed: %s to %s", value, ends[0], ends[1]);
}

static bool
read_int(const char *text, gint64 *ret, GError **error)
{
    return g_ascii_string_to_signed(text, 10, G_MININT64, G_MAXINT64, ret, NULL) ||
           sx_fail(error, SX_ERR_CONFIG, "'%s' is not a number; allowed: a whole number", text);
}

static bool
parse_string(const SxOption *o, const char *value, char **text, gint64 *number, GError **error)
{
    return *value != '\0' || sx_fail(error, SX_ERR_CONFIG, "the value is empty; allowed: a text");
}

static bool
parse_bool(const SxOption *o, const char *value, char **text, gint64 *number, GError **error)
{
    bool b;
    if (!sx_parse_bool(value, &b, error))
        return false;
    *number = b;
    return true;
}

static bool
parse_size(const SxOption *o, const char *value, char **text, gint64 *number, GError **error)
{
    return sx_parse_size(value, number, error) && in_range(o, sx_parse_size, value, *number, error);
}

static bool
parse_duration(const SxOption *o, const char *value, char **text, gint64 *number, GError **error)
{
    return sx_parse_duration(value, number, error) && in_range(o, sx_parse_duration, value, *number, error);
}

static bool
parse_rate(const SxOption *o, const char *value, char **text, gint64 *number, GError **error)
{
    g_autoptr(SxRate) rate = sx_rate_parse(value, error);
    return rate != NULL;
}

static bool
parse_int(const SxOption *o, const char *value, char **text, gint64 *number, GError **error)
{
    return read_int(value, number, error) && in_range(o, read_int, value, *number, error);
}

static bool
parse_path(const SxOption *o, const char *value, char **text, gint64 *number, GError **error)
{
    if (value[0] == '~' && (value[1] == '/' || value[1] == '\0'))
        *text = g_strconcat(g_get_home_dir(), value + 1, NULL);
    else if (value[0] == '/')
        *text = g_strdup(value);
    else
        return sx_fail(error, SX_ERR_CONFIG, "'%s' is not an absolute path; allowed: /... or ~/...", value);
    return true;
}

/* A password in the address would escape the permission check, and end up in logs and error messages. */
static bool
parse_url(const SxOption *o, const char *value, char **text, gint64 *number, GError **error)
{
    g_autoptr(GUri) uri = g_uri_parse(value, G_URI_FLAGS_ENCODED | G_URI_FLAGS_HAS_PASSWORD, NULL);
    if (uri != NULL && g_uri_get_password(uri) != NULL)
        return sx_fail(error, SX_ERR_CONFIG, "an address with a password in it; allowed: user and password as keys of their own");
    const char *scheme = uri != NULL ? g_uri_get_scheme(uri) : "";
    bool good = strcmp(scheme, "http") == 0 || strcmp(scheme, "https") == 0;
    if (!good || g_uri_get_host(uri) == NULL || *g_uri_get_host(uri) == '\0')
        return sx_fail(error, SX_ERR_CONFIG, "'%s' is not a web address; allowed: http://HOST/... or https://HOST/...", value);
    return true;
}

static bool
parse_mode(const SxOption *o, const char *value, char **text, gint64 *number, GError **error)
{
    guint64 v;
    if (!g_ascii_string_to_unsigned(value, 8, 0, 0777, &v, NULL))
        return sx_fail(error, SX_ERR_CONFIG, "'%s' is not a mode; allowed: octal permissions such as 0644", value);
    *number = (gint64)v;
    return true;
}

static bool
parse_enum(const SxOption *o, const char *value, char **text, gint64 *number, GError **error)
{
    g_auto(GStrv) words = g_strsplit(o->allowed, " ", -1);
    if (g_strv_contains((const char *const *)words, value))
        return true;
    const char *close = sx_option_closest((const char *const *)words, value);
    return sx_fail(error, SX_ERR_CONFIG, "'%s' is unknown%s%s%s; allowed: %s", value, close != NULL ? ", did you mean '" : "",
                   close != NULL ? close : "", close != NULL ? "'?" : "", o->allowed);
}

static bool
parse_secret(const SxOption *o, const char *value, char **text, gint64 *number, GError **error)
{
    return *value != '\0' || sx_fail(error, SX_ERR_CONFIG, "the value is empty; allowed: the password, or keyring");
}

static const Kind kinds[] = {
    [SX_OPT_STRING] = {"TEXT", parse_string},       [SX_OPT_BOOL] = {"yes|no", parse_bool},
    [SX_OPT_SIZE] = {"SIZE", parse_size},           [SX_OPT_DURATION] = {"DURATION", parse_duration},
    [SX_OPT_RATE] = {"BANDWIDTH", parse_rate},      [SX_OPT_INT] = {"NUMBER", parse_int},
    [SX_OPT_PATH] = {"PATH", parse_path},           [SX_OPT_URL] = {"URL", parse_url},
    [SX_OPT_MODE] = {"MODE", parse_mode},           [SX_OPT_ENUM] = {"WORD", parse_enum},
    [SX_OPT_SECRET] = {"PASSWORD", parse_secret},
};

bool
sx_option_parse(const SxOption *option, const char *value, char **ret_text, gint64 *ret_number, GError **error)
{
    g_autofree char *text = NULL;
    gint64 number = 0;
    if (!kinds[option->type].parse(option, value, &text, &number, error))
        return false;
    *ret_text = text != NULL ? g_steal_pointer(&text) : g_strdup(value);
    *ret_number = number;
    return true;
}

const char *
sx_option_placeholder(const SxOption *option)
{
    return kinds[option->type].placeholder;
}

/* Levenshtein's distance, upper and lower case being the same; b has at most 63 bytes. */
static guint
distance(const char *a, const char *b)
{
    guint row[64];
    guint n = (guint)strlen(b);
    for (guint j = 0; j <= n; j++)
        row[j] = j;
    for (guint i = 1; a[i - 1] != '\0'; i++) {
        guint diagonal = row[0];
        row[0] = i;
        for (guint j = 1; j <= n; j++) {
            guint change = diagonal + (g_ascii_tolower(a[i - 1]) != g_ascii_tolower(b[j - 1]));
            diagonal = row[j];
            row[j] = MIN(change, MIN(row[j], row[j - 1]) + 1);
        }
    }
    return row[n];
}

const char *
sx_option_closest(const char *const *words, const char *typed)
{
    const char *best = NULL;
    guint best_distance = MAX(2, (guint)MIN(strlen(typed), 63) / 3) + 1;
    if (strlen(typed) > 63)
        return NULL;
    for (; *words != NULL; words++) {
        guint d = strlen(*words) < 64 ? distance(typed, *words) : G_MAXUINT;
        if (d < best_distance && d < strlen(*words)) {
            best_distance = d;
            best = *words;
        }
    }
    return best;
}
