/* syncox: finds the command, reads its options, runs it, prints what went wrong. */
#include "config.h"

#include "cli/cli.h"

#include <curl/curl.h>
#include <locale.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int
usage(const char *format, ...) G_GNUC_PRINTF(1, 2);

static int
usage(const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    g_autofree char *raw = g_strdup_vprintf(format, ap);
    va_end(ap);
    g_autofree char *text = sx_printable(raw);
    fprintf(stderr, "syncox: %s\nTry: syncox --help\n", text);
    return SX_EXIT_USAGE;
}

/* ---- options ---- */

static GOptionContext *
command_context(const SxCommand *command, SxCliOptions *into, char ***rest)
{
    guint n;
    const SxCliOption *all = sx_cli_options(&n);
    g_autofree char *usage_text = g_strdup_printf("%s %s", command->name, command->args);
    GOptionContext *context = g_option_context_new(usage_text);
    g_autofree char *summary = g_strdup_printf("%s: %s", command->name, command->doc);
    g_option_context_set_summary(context, summary);
    g_option_context_set_description(context, command->details);
    for (guint i = 0; i < n; i++) {
        if (!sx_command_takes(command, &all[i]))
            continue;
        const GOptionEntry entry[] = {
            {all[i].name, all[i].letter, 0, all[i].type, (char *)into + all[i].offset, all[i].doc, all[i].value}, {NULL}};
        g_option_context_add_main_entries(context, entry, NULL);
    }
    const GOptionEntry positional[] = {{G_OPTION_REMAINING, 0, 0, G_OPTION_ARG_FILENAME_ARRAY, rest, NULL, NULL}, {NULL}};
    g_option_context_add_main_entries(context, positional, NULL);
    return context;
}

static bool
parse_command(SxCli *cli, char **argv, GError **error)
{
    g_auto(GStrv) copy = g_strdupv(argv); /* GOption moves the strings about */
    g_autoptr(GOptionContext) context = command_context(cli->command, &cli->options, &cli->args);
    if (!g_option_context_parse_strv(context, &copy, error))
        return false;
    if (cli->args == NULL)
        cli->args = g_new0(char *, 1);
    guint n = g_strv_length(cli->args);
    if (n < cli->command->min_args)
        return sx_fail(error, SX_ERR_INVALID, "%s: an argument is missing: %s", cli->command->name, cli->command->args);
    if (n > cli->command->max_args)
        return sx_fail(error, SX_ERR_INVALID, "%s: too many arguments: %s", cli->command->name, cli->args[cli->command->max_args]);
    for (guint i = 0; i < n; i++)
        if (*cli->args[i] == '\0')
            return sx_fail(error, SX_ERR_INVALID, "%s: an argument is empty", cli->command->name);
    gint64 ms;
    return cli->options.timeout == NULL || sx_parse_duration(cli->options.timeout, &ms, error);
}

/* ---- running ---- */

static void
print_error(const SxCli *cli, const GError *why)
{
    const char *remedy = sx_client_remedy(cli->client);
    g_autofree char *text = sx_printable(why->message);
    if (cli->options.json) {
        json_t *doc = json_pack("{s:s, s:s}", "error", sx_error_code_name(sx_error_code(why)), "message", text);
        if (remedy != NULL)
            json_object_set_new(doc, "remedy", json_string(remedy));
        json_dumpf(doc, stdout, JSON_INDENT(1) | JSON_PRESERVE_ORDER);
        puts("");
        json_decref(doc);
    }
    fprintf(stderr, "syncox: %s\n", text);
    if (remedy != NULL)
        fprintf(stderr, "  try: %s\n", remedy);
}

static int
run_command(SxCli *cli)
{
    g_autoptr(GError) why = NULL;
    int code = SX_EXIT_FAILED;
    bool about_path = cli->command->arg == SX_ARG_PATH && cli->args[0] != NULL;
    cli->client = sx_client_new(cli->options.mount, about_path ? cli->args[0] : NULL, &why);
    if (cli->client != NULL || cli->command->without_mount) {
        if (cli->command->without_mount)
            g_clear_error(&why);
        code = cli->command->run(cli, &why);
    }
    if (why != NULL)
        print_error(cli, why);
    return why != NULL && code == SX_EXIT_DONE ? SX_EXIT_FAILED : code;
}

static int
command_main(char **words, const char *mount, bool json)
{
    guint used = 0;
    SxCli cli = {.command = sx_command_find(words, &used), .options.json = json, .options.mount = g_strdup(mount)};
    g_autoptr(GError) why = NULL;
    if (cli.command == NULL) {
        g_autofree char *family = sx_command_family(words[0]);
        return usage("no such command: %s%s%s%s%s", words[0], words[1] != NULL ? " " : "", words[1] != NULL ? words[1] : "",
                     family != NULL ? "; allowed: " : "", family != NULL ? family : "");
    }
    g_autoptr(GPtrArray) argv = g_ptr_array_new();
    g_ptr_array_add(argv, (void *)"syncox");
    for (char **w = words + used; *w != NULL; w++)
        g_ptr_array_add(argv, *w);
    g_ptr_array_add(argv, NULL);
    g_autoptr(SxOutput) out = cli.out = sx_output_new(stdout);
    int code = parse_command(&cli, (char **)argv->pdata, &why) ? run_command(&cli) : usage("%s", why->message);
    sx_client_free(cli.client);
    g_strfreev(cli.args);
    g_free(cli.options.mount);
    g_free(cli.options.timeout);
    if (fflush(stdout) != 0 || ferror(stdout))
        code = code == SX_EXIT_DONE ? SX_EXIT_FAILED : code;
    return code;
}

static int
generate(const char *what)
{
    g_autoptr(GError) why = NULL;
    g_autoptr(GString) text = g_string_new(NULL);
    if (!sx_generate(what, text, &why))
        return usage("%s", why->message);
    fputs(text->str, stdout);
    return SX_EXIT_DONE;
}

static int
print_help(FILE *file, int code)
{
    g_autoptr(GString) text = g_string_new(NULL);
    sx_help(text);
    fputs(text->str, file);
    return code;
}

/* Options before the command are the program's; behind it the command's. */
int
main(int argc, char **argv)
{
    gboolean help = FALSE, version = FALSE, json = FALSE;
    g_autofree char *what = NULL, *mount = NULL;
    const GOptionEntry entries[] = {
        {"help", 'h', 0, G_OPTION_ARG_NONE, &help, NULL, NULL},
        {"version", 'V', 0, G_OPTION_ARG_NONE, &version, NULL, NULL},
        {"json", 0, 0, G_OPTION_ARG_NONE, &json, NULL, NULL},
        {"mount", 0, 0, G_OPTION_ARG_FILENAME, &mount, NULL, NULL},
        {"generate", 0, 0, G_OPTION_ARG_STRING, &what, NULL, NULL},
        {NULL},
    };
    setlocale(LC_ALL, "");
    g_set_prgname("syncox");
    signal(SIGPIPE, SIG_IGN);
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);
    g_option_context_set_help_enabled(context, FALSE);
    g_option_context_set_strict_posix(context, TRUE);
    g_option_context_add_main_entries(context, entries, NULL);
    g_autoptr(GError) why = NULL;
    g_auto(GStrv) words = g_strdupv(argv);
    if (!g_option_context_parse_strv(context, &words, &why))
        return usage("%s", why->message);
    if (help)
        return print_help(stdout, SX_EXIT_DONE);
    if (version) {
        printf("syncox %s\n", PACKAGE_VERSION);
        return SX_EXIT_DONE;
    }
    if (what != NULL)
        return generate(what);
    if (words[0] == NULL || words[1] == NULL)
        return print_help(stderr, SX_EXIT_USAGE);
    curl_global_init(CURL_GLOBAL_DEFAULT);
    int code = command_main(words + 1, mount, json);
    curl_global_cleanup();
    return code;
}
