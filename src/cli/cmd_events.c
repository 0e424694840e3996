/* events and doctor. */
#include "cli/cli.h"
#include "cli/show.h"
#include "daemon/stack.h"

#include <string.h>

#define SX_FOLLOW_WAIT_S 30

/* ---- events ---- */

static SxColour
event_colour(const char *kind)
{
    static const struct {
        const char *kind;
        SxColour colour;
    } colours[] = {{"error", SX_RED}, {"offline", SX_RED}, {"conflict", SX_YELLOW}, {"held", SX_YELLOW}, {"online", SX_GREEN}};
    for (guint i = 0; i < G_N_ELEMENTS(colours); i++)
        if (strcmp(colours[i].kind, kind) == 0)
            return colours[i].colour;
    return SX_PLAIN;
}

static void
print_events(SxCli *cli, const json_t *doc)
{
    const json_t *e;
    size_t i;
    json_array_foreach(json_object_get(doc, "events"), i, e) {
        if (cli->options.json) {
            json_dumpf(e, stdout, JSON_COMPACT | JSON_PRESERVE_ORDER);
            puts("");
            continue;
        }
        g_autofree char *text = sx_printable(sx_text(e, "text"));
        sx_print(cli->out, event_colour(sx_text(e, "kind")), "%s  %-10s  %s", sx_text(e, "time"), sx_text(e, "kind"), text);
    }
    fflush(stdout);
}

/* One JSON object a line, with or without --follow: a list that may go on has no closing bracket. */
int
sx_cmd_events(SxCli *cli, GError **error)
{
    gint64 since = 0;
    do {
        g_autofree char *route = g_strdup_printf("events?since=%" G_GINT64_FORMAT "&wait=%d", since, cli->options.follow && since > 0 ? SX_FOLLOW_WAIT_S : 0);
        json_t *doc = sx_client_get(cli->client, route, error);
        if (doc == NULL)
            return SX_EXIT_FAILED;
        print_events(cli, doc);
        since = MAX(sx_number(doc, "next"), since);
        json_decref(doc);
    } while (cli->options.follow && !ferror(stdout));
    return SX_EXIT_DONE;
}

/* ---- doctor ---- */

static void
show_checks(SxOutput *out, const json_t *doc)
{
    const json_t *check;
    size_t i;
    json_array_foreach(json_object_get(doc, "checks"), i, check) {
        const char *result = sx_text(check, "result");
        g_autofree char *message = sx_printable(sx_text(check, "message")), *remedy = sx_printable(sx_text(check, "remedy"));
        sx_print(out, strcmp(result, "ok") == 0 ? SX_GREEN : strcmp(result, "warn") == 0 ? SX_YELLOW : SX_RED, "%-4s  %-13s  %s", result,
                 sx_text(check, "check"), message);
        if (*remedy != '\0')
            sx_print(out, SX_PLAIN, "%21stry: %s", "", remedy);
    }
}

static bool
any_failed(const json_t *doc)
{
    const json_t *check;
    size_t i;
    json_array_foreach(json_object_get(doc, "checks"), i, check)
        if (strcmp(sx_text(check, "result"), "fail") == 0)
            return true;
    return false;
}

/* Where no mount answers the checks are made here. */
int
sx_cmd_doctor(SxCli *cli, GError **error)
{
    g_autoptr(GError) why = NULL;
    json_t *doc = cli->client != NULL ? sx_client_get(cli->client, "doctor", &why) : NULL;
    if (doc == NULL && (cli->client == NULL || sx_error_is(why, SX_ERR_OFFLINE))) {
        g_autoptr(SxRegistry) registry = sx_stack_registry();
        SxDoctorOptions options = {.registry = registry};
        doc = json_pack("{s:o}", "checks", sx_doctor(&options));
    }
    if (doc == NULL) {
        g_propagate_error(error, g_steal_pointer(&why));
        return SX_EXIT_FAILED;
    }
    bool failed = any_failed(doc);
    sx_show(cli, doc, show_checks);
    return failed ? SX_EXIT_FAILED : SX_EXIT_DONE;
}
