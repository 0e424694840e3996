/* Commands that show a document: status, transfers, conflicts, provider list. */
#include "cli/cli.h"
#include "cli/show.h"

#include <string.h>
#include <unistd.h>

#define SX_WATCH_US (G_USEC_PER_SEC / 2)

const char *
sx_text(const json_t *doc, const char *key)
{
    const char *text = json_string_value(json_object_get(doc, key));
    return text != NULL ? text : "";
}

gint64
sx_number(const json_t *doc, const char *key)
{
    return json_integer_value(json_object_get(doc, key));
}

char *
sx_size_of(const json_t *doc, const char *key)
{
    const json_t *value = json_object_get(doc, key);
    return sx_format_size(json_is_real(value) ? (gint64)json_real_value(value) : json_integer_value(value));
}

/* The bytes where there are such, so that what is printed tells two names apart that look alike. */
char *
sx_path_of(const json_t *doc, const char *key)
{
    char *bytes = sx_json_get_bytes(doc, key);
    return bytes != NULL ? bytes : g_strdup("");
}

int
sx_show(SxCli *cli, json_t *doc, void (*fn)(SxOutput *out, const json_t *doc))
{
    if (doc == NULL)
        return SX_EXIT_FAILED;
    if (cli->options.json) {
        json_dumpf(doc, stdout, JSON_INDENT(1) | JSON_PRESERVE_ORDER);
        puts("");
    } else {
        fn(cli->out, doc);
    }
    json_decref(doc);
    return SX_EXIT_DONE;
}

static SxColour
state_colour(const char *state)
{
    return strcmp(state, "online") == 0 ? SX_GREEN : strcmp(state, "unknown") == 0 ? SX_PLAIN : SX_RED;
}

static char *
waiting_text(const json_t *totals)
{
    gint64 n = sx_number(totals, "pending");
    g_autofree char *size = sx_size_of(totals, "pending_bytes");
    if (n == 0)
        return g_strdup("-");
    return g_strdup_printf("%" G_GINT64_FORMAT " (%s)", n, size);
}

static char *
quota_text(const json_t *p)
{
    const json_t *q = json_object_get(p, "quota");
    if (!json_is_object(q) || sx_number(q, "free") < 0)
        return g_strdup("-");
    g_autofree char *left = sx_size_of(q, "free"), *total = sx_size_of(q, "total");
    return sx_number(q, "total") > 0 ? g_strdup_printf("%s of %s", left, total) : g_steal_pointer(&left);
}

static void
show_providers(SxOutput *out, const json_t *doc)
{
    const json_t *list = json_object_get(doc, "providers"), *p;
    size_t i;
    sx_row(out, SX_BOLD, "PROVIDER", "TYPE", "STATE", "WAITING", "PROBLEMS", "FREE", NULL);
    json_array_foreach(list, i, p) {
        g_autofree char *label = sx_path_of(p, "label"), *waiting = waiting_text(p), *quota = quota_text(p);
        g_autofree char *problems = sx_number(p, "parked") > 0 ? g_strdup_printf("%" G_GINT64_FORMAT, sx_number(p, "parked")) : g_strdup("-");
        g_autofree char *state = g_strconcat(sx_text(p, "state"), json_is_true(json_object_get(p, "read_only")) ? ", read-only" : "", NULL);
        sx_row(out, state_colour(sx_text(p, "state")), label, sx_text(p, "type"), state, waiting, problems, quota, NULL);
    }
    sx_table_end(out, "llllrl");
    json_array_foreach(list, i, p) {
        g_autofree char *label = sx_path_of(p, "label"), *name = sx_printable(label);
        g_autofree char *error = sx_printable(sx_text(p, "last_error")), *held = sx_printable(sx_text(p, "held"));
        if (*error != '\0')
            sx_print(out, SX_RED, "%s", error); /* it names the provider */
        if (*held != '\0')
            sx_print(out, SX_YELLOW, "%s\n  to accept it: syncox refresh --accept '%s'", held, name);
    }
}

static void
show_problems(SxOutput *out, const json_t *doc)
{
    const json_t *list = json_object_get(doc, "problems"), *p;
    size_t i;
    if (json_array_size(list) == 0)
        return;
    sx_print(out, SX_BOLD, "\nProblems");
    json_array_foreach(list, i, p) {
        g_autofree char *path = sx_path_of(p, "path");
        bool parked = json_is_true(json_object_get(p, "parked"));
        sx_row(out, parked ? SX_RED : SX_YELLOW, " ", path, sx_text(p, "what"), parked ? "stopped" : "will retry", sx_text(p, "message"), NULL);
    }
    sx_table_end(out, "lllll");
}

static void
show_absent(SxOutput *out, const json_t *doc)
{
    const json_t *list = json_object_get(doc, "absent"), *p;
    size_t i;
    json_array_foreach(list, i, p) {
        g_autofree char *name = sx_printable(sx_text(p, "name"));
        sx_print(out, SX_YELLOW, "%s is no longer in the configuration: %" G_GINT64_FORMAT " changes for it are kept and wait", name,
                 sx_number(p, "pending"));
    }
}

static void
show_mount(SxOutput *out, const json_t *doc)
{
    const json_t *totals = json_object_get(doc, "totals"), *rates = json_object_get(doc, "rates"), *cache = json_object_get(doc, "cache");
    g_autofree char *mount = sx_path_of(doc, "mount"), *uptime = sx_format_duration(sx_number(doc, "uptime_ms"));
    g_autofree char *used = sx_size_of(cache, "used"), *size = sx_size_of(cache, "size");
    g_autofree char *up = sx_size_of(rates, "up"), *down = sx_size_of(rates, "down");
    g_autofree char *up_all = sx_size_of(rates, "up_total"), *down_all = sx_size_of(rates, "down_total"), *waiting = waiting_text(totals);
    g_autofree char *since = g_strdup_printf("for %s", uptime), *cache_text = g_strdup_printf("%s of %s", used, size);
    g_autofree char *up_text = g_strdup_printf("%s/s up, %s/s down", up, down), *all = g_strdup_printf("%s up, %s down so far", up_all, down_all);
    g_autofree char *known = g_strdup_printf("%" G_GINT64_FORMAT " files, %" G_GINT64_FORMAT " directories known", sx_number(totals, "files"),
                                             sx_number(totals, "dirs"));
    sx_row(out, SX_PLAIN, "Mount", mount, since, NULL);
    sx_row(out, SX_PLAIN, "Cache", cache_text, known, NULL);
    sx_row(out, SX_PLAIN, "Transfer", up_text, all, NULL);
    sx_row(out, SX_PLAIN, "Waiting", strcmp(waiting, "-") == 0 ? "nothing" : waiting, "", NULL);
    sx_table_end(out, "lll");
    sx_print(out, SX_PLAIN, "%s", "");
    show_providers(out, doc);
    show_absent(out, doc);
    show_problems(out, doc);
    if (sx_number(totals, "conflicts") > 0)
        sx_print(out, SX_YELLOW, "\n%" G_GINT64_FORMAT " conflict copies: syncox conflicts", sx_number(totals, "conflicts"));
}

static void
show_path(SxOutput *out, const json_t *doc)
{
    static const struct {
        const char *title, *key;
    } rows[] = {{"Kind", "kind"},    {"Status", "status"}, {"Provider", "provider"}, {"On it", "remote_path"},
                {"Id", "remote_id"}, {"ETag", "etag"},     {"Hash", "hash"}};
    g_autofree char *path = sx_path_of(doc, "path"), *size = sx_size_of(doc, "size");
    sx_row(out, SX_PLAIN, "Path", path, NULL);
    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *value = sx_path_of(doc, rows[i].key);
        if (*value != '\0')
            sx_row(out, SX_PLAIN, rows[i].title, value, NULL);
    }
    gint64 cached = 0;
    if (strcmp(sx_text(doc, "kind"), "file") == 0 && g_ascii_string_to_signed(sx_text(doc, "cached"), 10, 0, G_MAXINT64, &cached, NULL)) {
        g_autofree char *cached_text = sx_format_size(cached), *both = g_strdup_printf("%s of %s", cached_text, size);
        sx_row(out, SX_PLAIN, "Here", both, NULL);
    }
    sx_row(out, SX_PLAIN, "Pinned", json_is_true(json_object_get(doc, "pinned")) ? "yes" : "no", NULL);
    sx_table_end(out, "ll");
    show_problems(out, doc);
}

int
sx_cmd_status(SxCli *cli, GError **error)
{
    if (cli->args[0] == NULL)
        return sx_show(cli, sx_client_get(cli->client, "status", error), show_mount);
    g_autofree char *path = sx_cli_path(cli->args[0]);
    g_autofree char *route = sx_client_query("status", "path", path);
    json_t *doc = sx_client_get(cli->client, route, error);
    return sx_show(cli, doc, json_object_get(doc, "totals") != NULL ? show_mount : show_path); /* PATH may be the mount itself */
}

int
sx_cmd_provider_list(SxCli *cli, GError **error)
{
    return sx_show(cli, sx_client_get(cli->client, "providers", error), show_providers);
}

/* ---- transfers ---- */

static char *
percent_text(const json_t *job)
{
    gint64 done = sx_number(job, "done"), total = sx_number(job, "total");
    return total > 0 ? g_strdup_printf("%3d%%", (int)(done * 100 / total)) : g_strdup("");
}

static void
show_transfers(SxOutput *out, const json_t *doc)
{
    const json_t *job;
    size_t i;
    const json_t *rates = json_object_get(doc, "rates");
    g_autofree char *up = sx_size_of(rates, "up"), *down = sx_size_of(rates, "down"), *waiting = waiting_text(json_object_get(doc, "totals"));
    sx_print(out, SX_BOLD, "%s/s up, %s/s down, waiting: %s", up, down, waiting);
    json_array_foreach(json_object_get(doc, "running"), i, job) {
        g_autofree char *path = sx_path_of(job, "path"), *percent = percent_text(job), *size = sx_size_of(job, "total");
        sx_row(out, SX_GREEN, sx_text(job, "what"), percent, sx_number(job, "total") >= 0 ? size : "", path, NULL);
    }
    json_array_foreach(json_object_get(doc, "waiting"), i, job) {
        g_autofree char *path = sx_path_of(job, "path"), *size = sx_size_of(job, "size");
        sx_row(out, SX_DIM, sx_text(job, "what"), "wait", size, path, NULL);
    }
    json_array_foreach(json_object_get(doc, "retrying"), i, job) {
        g_autofree char *path = sx_path_of(job, "path"), *size = sx_size_of(job, "size");
        sx_row(out, SX_YELLOW, sx_text(job, "what"), json_is_true(json_object_get(job, "parked")) ? "stop" : "retry", size, path, sx_text(job, "message"), NULL);
    }
    sx_table_end(out, "lrrl");
}

static int
watch_transfers(SxCli *cli, GError **error)
{
    for (json_t *doc; (doc = sx_client_get(cli->client, "transfers", error)) != NULL; g_usleep(SX_WATCH_US)) {
        if (!cli->options.json)
            sx_screen_begin(cli->out);
        sx_show(cli, doc, show_transfers);
        if (!cli->options.json)
            sx_screen_end(cli->out);
        if (ferror(stdout))
            break;
    }
    return SX_EXIT_FAILED;
}

int
sx_cmd_transfers(SxCli *cli, GError **error)
{
    if (cli->options.watch)
        return watch_transfers(cli, error);
    return sx_show(cli, sx_client_get(cli->client, "transfers", error), show_transfers);
}

/* ---- conflicts ---- */

static void
show_conflicts(SxOutput *out, const json_t *doc)
{
    const json_t *c;
    size_t i;
    if (json_array_size(json_object_get(doc, "conflicts")) == 0) {
        sx_print(out, SX_GREEN, "no conflicts");
        return;
    }
    sx_row(out, SX_BOLD, "WHEN", "COPY", "OF", NULL);
    json_array_foreach(json_object_get(doc, "conflicts"), i, c) {
        g_autofree char *path = sx_path_of(c, "path"), *original = sx_path_of(c, "original");
        sx_row(out, SX_PLAIN, sx_text(c, "time"), path, original, NULL);
    }
    sx_table_end(out, "lll");
}

int
sx_cmd_conflicts(SxCli *cli, GError **error)
{
    return sx_show(cli, sx_client_get(cli->client, "conflicts", error), show_conflicts);
}
