/* From the table of commands: help, completions for three shells, the list in the man page. */
#include "cli/cli.h"

#include <string.h>

void
sx_help(GString *out)
{
    guint n;
    const SxCommand *c = sx_commands(&n);
    g_string_append(out, "Usage: syncox [--mount DIR] [--json] COMMAND [OPTION...] [ARGUMENT]\n"
                         "The command line to a running syncoxfs.\n\nCommands:\n");
    for (guint i = 0; i < n; i++) {
        g_autofree char *usage = g_strdup_printf("%s %s", c[i].name, c[i].args);
        g_string_append_printf(out, "  %-22s %s\n", usage, c[i].doc);
    }
    g_string_append(out, "\nOptions:\n"
                         "  --mount DIR            the mount to speak to; default: the one around PATH or the working\n"
                         "                         directory, else the newest\n"
                         "  --json                 print the answer as JSON\n"
                         "  --generate WHAT        print bash-completion, zsh-completion, fish-completion or man\n"
                         "  -h, --help             with a COMMAND before it: that command's options\n"
                         "  -V, --version          print the version\n\n"
                         "Exit status: 0 done, 1 failed, 2 wrong use.  See syncox(1).\n");
}

/* First words, each once. */
static void
words(GString *out, const char *separator)
{
    guint n;
    const SxCommand *c = sx_commands(&n);
    const char *last = "";
    for (guint i = 0; i < n; i++) {
        gsize len = strcspn(c[i].name, " ");
        if (strncmp(last, c[i].name, len) == 0 && last[len] == ' ')
            continue;
        g_string_append_printf(out, "%s%.*s", i > 0 ? separator : "", (int)len, c[i].name);
        last = c[i].name;
    }
}

static void
options_of(const SxCommand *command, GString *out)
{
    guint n;
    const SxCliOption *o = sx_cli_options(&n);
    for (guint i = 0; i < n; i++)
        if (sx_command_takes(command, &o[i])) {
            g_string_append_printf(out, " --%s", o[i].name);
            if (o[i].letter != 0)
                g_string_append_printf(out, " -%c", o[i].letter);
        }
    g_string_append(out, " --help");
}

/* Second words of a command that has them. */
static void
second_words(const char *first, GString *out)
{
    guint n;
    const SxCommand *c = sx_commands(&n);
    for (guint i = 0; i < n; i++) {
        const char *blank = strchr(c[i].name, ' ');
        if (blank != NULL && strncmp(c[i].name, first, (gsize)(blank - c[i].name)) == 0)
            g_string_append_printf(out, "%s%s", out->len > 0 ? " " : "", blank + 1);
    }
}

static void
bash_case(const SxCommand *c, GString *out)
{
    static const char *const completes[] = {[SX_ARG_NONE] = "", [SX_ARG_PATH] = "files=1", [SX_ARG_PROVIDER] = "words=$(_syncox_providers)"};
    g_autoptr(GString) flags = g_string_new(NULL);
    options_of(c, flags);
    g_autofree char *pattern = g_strdelimit(g_strdup(c->name), " ", '_');
    g_string_append_printf(out, "    %s) flags='%s'; %s ;;\n", pattern, g_strstrip(flags->str), *completes[c->arg] != '\0' ? completes[c->arg] : ":");
}

static void
bash_completion(GString *out)
{
    guint n;
    const SxCommand *c = sx_commands(&n);
    g_autoptr(GString) first = g_string_new(NULL), second = g_string_new(NULL);
    words(first, " ");
    second_words("provider", second);
    g_string_append(out, "# bash completion for syncox; made by: syncox --generate bash-completion\n"
                         "_syncox_providers() {\n"
                         "  syncox provider list --json 2>/dev/null | sed -n 's/^ *\"name\": \"\\([^\"]*\\)\",$/\\1/p'\n"
                         "}\n"
                         "_syncox() {\n"
                         "  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command= words= flags= files= i\n"
                         "  COMPREPLY=()\n"
                         "  [[ $prev == --mount ]] && { compopt -o filenames; mapfile -t COMPREPLY < <(compgen -d -- \"$cur\"); return; }\n"
                         "  for ((i = 1; i < COMP_CWORD; i++)); do\n"
                         "    case ${COMP_WORDS[i]} in\n"
                         "    --mount) ((i++)) ;;\n"
                         "    -*) ;;\n");
    g_string_append_printf(out, "    *) if [[ -z $command ]]; then command=${COMP_WORDS[i]}\n"
                                "       elif [[ $command == provider ]]; then command=provider_${COMP_WORDS[i]}; fi ;;\n"
                                "    esac\n  done\n  case $command in\n"
                                "    '') words='%s'; flags='--mount --json --help --version' ;;\n"
                                "    provider) words='%s' ;;\n",
                           first->str, second->str);
    for (guint i = 0; i < n; i++)
        bash_case(&c[i], out);
    g_string_append(out, "  esac\n"
                         "  if [[ $cur == -* ]]; then mapfile -t COMPREPLY < <(compgen -W \"$flags\" -- \"$cur\")\n"
                         "  elif [[ -n $files ]]; then compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- \"$cur\")\n"
                         "  else mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\"); fi\n"
                         "}\n"
                         "complete -F _syncox syncox\n");
}

/* Inside single quotes of a shell. */
static char *
quoted(const char *text)
{
    g_auto(GStrv) parts = g_strsplit(text, "'", -1);
    g_autofree char *inner = g_strjoinv("'\\''", parts);
    return g_strdup_printf("'%s'", inner);
}

/* One '...' word of zsh's _arguments for each option. */
static void
zsh_options(const SxCommand *c, GString *out)
{
    guint n;
    const SxCliOption *o = sx_cli_options(&n);
    for (guint i = 0; i < n; i++) {
        if (!sx_command_takes(c, &o[i]))
            continue;
        bool dir = o[i].value != NULL && strcmp(o[i].value, "DIR") == 0;
        g_autofree char *value = o[i].value != NULL ? g_strdup_printf(":%s:%s", o[i].value, dir ? "_files -/" : "") : g_strdup("");
        g_autofree char *text = g_strdup_printf("--%s[%s]%s", o[i].name, o[i].doc, value), *q = quoted(text);
        g_string_append_printf(out, " %s", q);
    }
}

static void
zsh_completion(GString *out)
{
    guint n;
    const SxCommand *c = sx_commands(&n);
    g_autoptr(GString) list = g_string_new(NULL), cases = g_string_new(NULL), second = g_string_new(NULL);
    second_words("provider", second);
    for (guint i = 0; i < n; i++) {
        if (strchr(c[i].name, ' ') != NULL)
            continue;
        g_autofree char *text = g_strdup_printf("%s:%s", c[i].name, c[i].doc), *q = quoted(text);
        g_string_append_printf(list, "    %s\n", q);
        g_string_append_printf(cases, "    %s) _arguments", c[i].name);
        zsh_options(&c[i], cases);
        g_string_append(cases, c[i].arg == SX_ARG_PATH ? " '*:path:_files' ;;\n" : " ;;\n");
    }
    g_string_append_printf(out,
                           "#compdef syncox\n# made by: syncox --generate zsh-completion\n"
                           "_syncox() {\n  local context state line\n  local -a commands\n  commands=(\n%s    'provider:%s'\n  )\n"
                           "  _arguments -C '--mount[the mount to speak to]:DIR:_files -/' '--json[print the answer as JSON]' "
                           "'--help' '--version' '1: :->command' '*:: :->rest'\n"
                           "  case $state in\n  command) _describe command commands ;;\n  rest)\n    case $words[1] in\n%s"
                           "    provider) _arguments '--json[print the answer as JSON]' '1:command:(%s)' ;;\n"
                           "    esac ;;\n  esac\n}\n_syncox \"$@\"\n",
                           list->str, second->str, cases->str, second->str);
}

static void
fish_option(const SxCommand *c, const SxCliOption *o, GString *out)
{
    g_autofree char *doc = quoted(o->doc);
    gsize len = strcspn(c->name, " ");
    g_string_append_printf(out, "complete -c syncox -n '__fish_seen_subcommand_from %.*s' -l %s", (int)len, c->name, o->name);
    if (o->letter != 0)
        g_string_append_printf(out, " -s %c", o->letter);
    g_string_append_printf(out, "%s -d %s\n", o->value != NULL ? " -r" : "", doc);
}

static void
fish_completion(GString *out)
{
    guint n, n_options;
    const SxCommand *c = sx_commands(&n);
    const SxCliOption *o = sx_cli_options(&n_options);
    g_string_append(out, "# made by: syncox --generate fish-completion\ncomplete -c syncox -f\n");
    for (guint i = 0; i < n; i++) {
        g_autofree char *doc = quoted(c[i].doc);
        const char *blank = strchr(c[i].name, ' ');
        if (blank == NULL)
            g_string_append_printf(out, "complete -c syncox -n __fish_use_subcommand -a %s -d %s\n", c[i].name, doc);
        else
            g_string_append_printf(out, "complete -c syncox -n __fish_use_subcommand -a %.*s\n"
                                        "complete -c syncox -n '__fish_seen_subcommand_from %.*s' -a %s -d %s\n",
                                   (int)(blank - c[i].name), c[i].name, (int)(blank - c[i].name), c[i].name, blank + 1, doc);
        if (c[i].arg == SX_ARG_PATH)
            g_string_append_printf(out, "complete -c syncox -n '__fish_seen_subcommand_from %s' -F\n", c[i].name);
        for (guint k = 0; k < n_options; k++)
            if (sx_command_takes(&c[i], &o[k]))
                fish_option(&c[i], &o[k], out);
    }
}

static void
man_arguments(const SxCommand *c, GString *out)
{
    guint n;
    const SxCliOption *o = sx_cli_options(&n);
    for (guint i = 2; i < n; i++) { /* json and mount, which all have, are in the page's own text */
        if (!sx_command_takes(c, &o[i]))
            continue;
        g_string_append_printf(out, " Oo Fl \\-%s", o[i].name);
        if (o[i].value != NULL)
            g_string_append_printf(out, " Ar %s", o[i].value);
        g_string_append(out, " Oc");
    }
    g_autofree char *name = g_strdup(c->args);
    g_strstrip(g_strdelimit(name, "[]", ' '));
    if (*name != '\0')
        g_string_append_printf(out, *c->args == '[' ? " Op Ar %s" : " Ar %s", name);
}

static void
man_command(const SxCommand *c, GString *out)
{
    guint n;
    const SxCliOption *o = sx_cli_options(&n);
    g_string_append_printf(out, ".It Xo Cm %s", c->name);
    man_arguments(c, out);
    g_string_append_printf(out, "\n.Xc\n%c%s.\n", g_ascii_toupper(*c->doc), c->doc + 1);
    for (const char *p = c->details; p != NULL && *p != '\0';) { /* a sentence a line, as mdoc wants it */
        const char *end = strstr(p, ". ");
        gsize len = end != NULL ? (gsize)(end - p) + 1 : strlen(p);
        g_string_append_printf(out, "%.*s\n", (int)len, p);
        p += end != NULL ? len + 1 : len;
    }
    for (guint i = 2; i < n; i++)
        if (sx_command_takes(c, &o[i]))
            g_string_append_printf(out, "With\n.Fl \\-%s :\n%s.\n", o[i].name, o[i].doc);
}

static void
man_list(GString *out)
{
    guint n;
    const SxCommand *c = sx_commands(&n);
    g_string_append(out, ".Bl -tag -width Ds\n");
    for (guint i = 0; i < n; i++)
        man_command(&c[i], out);
    g_string_append(out, ".El\n");
}

bool
sx_generate(const char *what, GString *out, GError **error)
{
    static const struct {
        const char *what;
        void (*fn)(GString *out);
    } kinds[] = {
        {"bash-completion", bash_completion}, {"zsh-completion", zsh_completion}, {"fish-completion", fish_completion}, {"man", man_list}};
    for (guint i = 0; i < G_N_ELEMENTS(kinds); i++)
        if (strcmp(kinds[i].what, what) == 0) {
            kinds[i].fn(out);
            return true;
        }
    return sx_fail(error, SX_ERR_INVALID, "--generate %s: must be bash-completion, zsh-completion, fish-completion or man", what);
}
