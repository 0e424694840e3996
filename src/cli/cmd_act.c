/* Commands that change something or wait: flush, pin, unpin, evict, refresh, provider test, umount. */
#include "cli/cli.h"
#include "cli/show.h"

#include <poll.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SX_UMOUNT_WAIT_MS 60000

/* ---- progress while an answer is waited for ---- */

typedef struct Progress {
    SxOutput *out;
    SxClient *client;  /* another connection: the first one waits */
    bool uploads;      /* or downloads */
    gint64 most;       /* bytes: the largest backlog seen, which is 100 % */
} Progress;

static gint64
running_bytes(const json_t *doc, const char *what, gint64 *ret_total, guint *ret_n)
{
    const json_t *job;
    size_t i;
    gint64 done = 0;
    json_array_foreach(json_object_get(doc, "running"), i, job) {
        if (strcmp(sx_text(job, "what"), what) != 0)
            continue;
        done += sx_number(job, "done");
        *ret_total += MAX(sx_number(job, "total"), 0);
        ++*ret_n;
    }
    return done;
}

static void
tick(void *data)
{
    Progress *p = data;
    json_t *doc = sx_client_get(p->client, "transfers", NULL);
    if (doc == NULL)
        return;
    guint n = 0;
    gint64 total = 0, done = running_bytes(doc, p->uploads ? "upload" : "download", &total, &n);
    const json_t *totals = json_object_get(doc, "totals");
    gint64 left = p->uploads ? MAX(sx_number(totals, "pending_bytes") - done, 0) : MAX(total - done, 0);
    p->most = MAX(p->most, left);
    g_autofree char *rate = sx_size_of(json_object_get(doc, "rates"), p->uploads ? "up" : "down"), *left_text = sx_format_size(left);
    g_autofree char *text = p->uploads
                                ? g_strdup_printf("%s left in %" G_GINT64_FORMAT " change%s, %s/s", left_text, sx_number(totals, "pending"),
                                                sx_number(totals, "pending") == 1 ? "" : "s", rate)
                                : g_strdup_printf("%u downloads, %s left, %s/s", n, left_text, rate);
    sx_progress(p->out, p->most - left, p->most, text);
    json_decref(doc);
}

static json_t *
post_with_progress(SxCli *cli, const char *route, json_t *body, bool uploads, GError **error)
{
    Progress p = {.out = cli->out, .client = sx_client_again(cli->client), .uploads = uploads};
    if (!cli->options.json)
        sx_client_set_tick(cli->client, tick, &p);
    json_t *doc = sx_client_post(cli->client, route, body, error);
    sx_client_set_tick(cli->client, NULL, NULL);
    sx_progress_end(cli->out);
    sx_client_free(p.client);
    return doc;
}

/* ---- the commands ---- */

static char *
printable_path(const json_t *doc)
{
    g_autofree char *path = sx_path_of(doc, "path");
    return *path != '\0' ? sx_printable(path) : g_strdup("the mount");
}

static void
show_flushed(SxOutput *out, const json_t *doc)
{
    g_autofree char *path = printable_path(doc);
    sx_print(out, SX_GREEN, "%s: everything is on the providers", path);
}

int
sx_cmd_flush(SxCli *cli, GError **error)
{
    json_t *body = sx_cli_path_body(cli, 0);
    gint64 ms = 0;
    if (cli->options.timeout != NULL && sx_parse_duration(cli->options.timeout, &ms, NULL))
        json_object_set_new(body, "timeout", json_integer(MAX((ms + 999) / 1000, 1)));
    return sx_show(cli, post_with_progress(cli, "flush", body, true, error), show_flushed);
}

static void
show_pinned(SxOutput *out, const json_t *doc)
{
    g_autofree char *path = printable_path(doc);
    sx_print(out, SX_GREEN, json_is_true(json_object_get(doc, "complete")) ? "%s: kept offline, all of it is here" : "%s: kept offline, downloads go on in the background", path);
}

int
sx_cmd_pin(SxCli *cli, GError **error)
{
    json_t *body = sx_cli_path_body(cli, 0);
    bool wait = cli->options.wait || (sx_output_is_terminal(cli->out) && !cli->options.json);
    json_object_set_new(body, "wait", json_boolean(wait));
    json_t *doc = wait ? post_with_progress(cli, "pin", body, false, error) : sx_client_post(cli->client, "pin", body, error);
    return sx_show(cli, doc, show_pinned);
}

static void
show_unpinned(SxOutput *out, const json_t *doc)
{
    g_autofree char *path = printable_path(doc);
    sx_print(out, SX_PLAIN, "%s: may be evicted when the cache needs room", path);
}

int
sx_cmd_unpin(SxCli *cli, GError **error)
{
    return sx_show(cli, sx_client_post(cli->client, "unpin", sx_cli_path_body(cli, 0), error), show_unpinned);
}

static void
show_evicted(SxOutput *out, const json_t *doc)
{
    g_autofree char *path = printable_path(doc), *freed = sx_size_of(doc, "freed");
    g_autofree char *kept = sx_number(doc, "kept") > 0
                                ? g_strdup_printf("; %" G_GINT64_FORMAT " kept: pinned, open or not uploaded yet", sx_number(doc, "kept"))
                                : g_strdup("");
    sx_print(out, SX_PLAIN, "%s: %s freed in %" G_GINT64_FORMAT " file%s%s", path, freed, sx_number(doc, "files"),
             sx_number(doc, "files") == 1 ? "" : "s", kept);
}

int
sx_cmd_evict(SxCli *cli, GError **error)
{
    return sx_show(cli, sx_client_post(cli->client, "evict", sx_cli_path_body(cli, 0), error), show_evicted);
}

static void
show_refreshed(SxOutput *out, const json_t *doc)
{
    g_autofree char *path = printable_path(doc);
    sx_print(out, SX_PLAIN, "%s: as it is on the provider now", path);
}

int
sx_cmd_refresh(SxCli *cli, GError **error)
{
    json_t *body = sx_cli_path_body(cli, 0);
    json_object_set_new(body, "accept", json_boolean(cli->options.accept));
    return sx_show(cli, sx_client_post(cli->client, "refresh", body, error), show_refreshed);
}

/* ---- provider test ---- */

static json_t *
test_one(SxCli *cli, const char *name, GError **error)
{
    g_autofree char *escaped = g_uri_escape_string(name, NULL, TRUE);
    g_autofree char *route = g_strdup_printf("providers/%s/test", escaped);
    return sx_client_post(cli->client, route, NULL, error);
}

static void
show_tested(SxOutput *out, const json_t *doc)
{
    g_autofree char *took = sx_format_duration(sx_number(doc, "elapsed_ms"));
    sx_print(out, SX_GREEN, "%s: %s, answered after %s", sx_text(doc, "name"), sx_text(doc, "state"), took);
}

/* All are tried; the first failure is what is reported at the end, the others where they happen. */
static int
test_all(SxCli *cli, GError **error)
{
    json_t *doc = sx_client_get(cli->client, "providers", error), *p, *results = json_array();
    size_t i;
    int code = doc != NULL ? SX_EXIT_DONE : SX_EXIT_FAILED;
    json_array_foreach(json_object_get(doc, "providers"), i, p) {
        g_autoptr(GError) why = NULL;
        json_t *result = test_one(cli, sx_text(p, "name"), &why);
        if (result == NULL) {
            code = SX_EXIT_FAILED;
            g_autofree char *text = sx_printable(why->message);
            result = json_pack("{s:s, s:s, s:s}", "name", sx_text(p, "name"), "error", sx_error_code_name(sx_error_code(why)), "message", text);
            if (!cli->options.json)
                sx_print(cli->out, SX_RED, "%s", text);
        } else if (!cli->options.json) {
            show_tested(cli->out, result);
        }
        json_array_append_new(results, result);
    }
    if (cli->options.json && doc != NULL)
        sx_show(cli, json_incref(results), NULL);
    json_decref(results);
    json_decref(doc);
    return code;
}

int
sx_cmd_provider_test(SxCli *cli, GError **error)
{
    if (cli->args[0] == NULL)
        return test_all(cli, error);
    return sx_show(cli, test_one(cli, cli->args[0], error), show_tested);
}

/* ---- umount ---- */

static int
open_process(gint64 pid)
{
    return pid > 0 ? (int)syscall(SYS_pidfd_open, (pid_t)pid, 0) : -1;
}

static void
show_unmounted(SxOutput *out, const json_t *doc)
{
    gint64 left = sx_number(json_object_get(doc, "totals"), "pending");
    g_autofree char *path = printable_path(doc);
    sx_print(out, SX_PLAIN, "%s: unmounted", path);
    if (left > 0)
        sx_print(out, SX_YELLOW, "%" G_GINT64_FORMAT " change%s kept here, to go to the providers at the next mount", left,
                 left == 1 ? " is" : "s are");
}

/* Returns when the process has ended, so that a script can go on with what needs the state directory. */
int
sx_cmd_umount(SxCli *cli, GError **error)
{
    json_t *status = sx_client_get(cli->client, "status", error);
    if (status == NULL)
        return SX_EXIT_FAILED;
    g_auto(SxFd) process = open_process(sx_number(status, "pid"));
    json_decref(status);
    json_t *doc = sx_client_post(cli->client, "umount", json_pack("{s:b}", "force", (int)cli->options.force), error);
    if (doc == NULL)
        return SX_EXIT_FAILED;
    struct pollfd p = {.fd = process, .events = POLLIN};
    if (process >= 0 && poll(&p, 1, SX_UMOUNT_WAIT_MS) == 0) {
        json_decref(doc);
        sx_fail(error, SX_ERR_TIMEOUT, "the mount was told to end, and has not ended within %d s", SX_UMOUNT_WAIT_MS / 1000);
        return SX_EXIT_FAILED;
    }
    return sx_show(cli, doc, show_unmounted);
}
