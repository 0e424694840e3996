/* The commented sample file and the man page's tables, both from the option tables, so that neither can be out of date. */
#include "conf/conf_i.h"

#include <string.h>

#define SAMPLE_WIDTH 100

/* Comment lines of at most SAMPLE_WIDTH columns. */
static void
comment(GString *out, const char *text)
{
    g_auto(GStrv) words = g_strsplit(text, " ", -1);
    gsize column = 0;
    for (char **w = words; *w != NULL; w++) {
        if (column == 0 || column + strlen(*w) + 1 > SAMPLE_WIDTH) {
            g_string_append(out, column == 0 ? "#" : "\n#");
            column = 1;
        }
        g_string_append_printf(out, " %s", *w);
        column += strlen(*w) + 1;
    }
    g_string_append_c(out, '\n');
}

static void
sample_option(GString *out, const SxOption *o)
{
    g_autofree char *range = o->type == SX_OPT_ENUM ? g_strdup_printf(" One of: %s.", o->allowed) : g_strdup("");
    g_autofree char *doc = g_strconcat(o->doc, o->required ? " Required." : "", range, NULL);
    comment(out, doc);
    bool text = o->def != NULL && strpbrk(o->def, ";\"") != NULL;
    g_string_append_printf(out, ";%s = %s%s%s\n\n", o->key, text ? "\"" : "", o->def != NULL ? o->def : sx_option_placeholder(o),
                           text ? "\"" : "");
}

static void
sample_table(GString *out, const SxOption *table)
{
    for (const SxOption *o = table; o != NULL && o->key != NULL; o++)
        sample_option(out, o);
}

static char *
sample(SxTypeOptionsFn types, const char *const *type_names, void *data)
{
    GString *out = g_string_new(NULL);
    comment(out, "Sample of ~/.config/syncoxfs/syncoxfs.conf; see syncoxfs.conf(5). What is commented out shows the default, or "
                 "in capitals what may stand there. Behind a blank, ';' begins a comment; double quotes keep it.");
    g_string_append(out, "\n[syncoxfs]\n\n");
    sample_table(out, sx_options_global);
    comment(out, "One section for each directory of the mount. This one is what you get without a file of settings.");
    g_string_append(out, "[provider Files]\ntype = local\npath = ~/Files\n\n");
    comment(out, "What every provider's section may hold:");
    g_string_append_c(out, '\n');
    for (const SxOption *o = sx_options_provider; o->key != NULL; o++)
        if (strcmp(o->key, "type") != 0)
            sample_option(out, o);
    for (; *type_names != NULL; type_names++) {
        g_autofree char *title = g_strdup_printf("A provider of type %s:", *type_names);
        comment(out, title);
        g_string_append_printf(out, "\n;[provider my-%s]\n;type = %s\n\n", *type_names, *type_names);
        sample_table(out, types(*type_names, data));
    }
    return g_string_free(out, FALSE);
}

/* roff reads a backslash, and a dot or quote at the beginning of a line, as its own. A sentence begins a line, as mdoc wants it. */
static void
roff_text(GString *out, const char *text)
{
    if (*text == '.' || *text == '\'')
        g_string_append(out, "\\&");
    for (; *text != '\0'; text++)
        if (*text == '\\')
            g_string_append(out, "\\e");
        else if (*text == '~')
            g_string_append(out, "\\(ti");
        else if (*text == '-')
            g_string_append(out, "\\-");
        else if (*text == ' ' && out->str[out->len - 1] == '.' && text[1] != '.' && text[1] != '\'')
            g_string_append_c(out, '\n');
        else
            g_string_append_c(out, *text);
    g_string_append_c(out, '\n');
}

static void
man_table(GString *out, const char *title, const SxOption *table)
{
    g_string_append(out, ".Ss ");
    roff_text(out, title);
    g_string_append(out, ".Bl -tag -width Ds\n");
    for (const SxOption *o = table; o != NULL && o->key != NULL; o++) {
        g_string_append_printf(out, ".It Cm %s No = Ar %s\n", o->key, sx_option_placeholder(o));
        roff_text(out, o->doc);
        if (o->required)
            g_string_append(out, "Required.\n");
        if (o->type == SX_OPT_ENUM)
            g_string_append_printf(out, "One of: %s.\n", o->allowed);
        if (o->def != NULL) {
            g_string_append(out, "Default:\n");
            roff_text(out, o->def);
        }
    }
    g_string_append(out, ".El\n");
}

static char *
man_tables(SxTypeOptionsFn types, const char *const *type_names, void *data)
{
    GString *out = g_string_new(NULL);
    man_table(out, "[syncoxfs]", sx_options_global);
    man_table(out, "[provider NAME]", sx_options_provider);
    for (; *type_names != NULL; type_names++) {
        g_autofree char *title = g_strdup_printf("[provider NAME] with type = %s", *type_names);
        man_table(out, title, types(*type_names, data));
    }
    return g_string_free(out, FALSE);
}

char *
sx_conf_sample(SxTypeOptionsFn types, const char *const *type_names, void *data, bool man)
{
    return man ? man_tables(types, type_names, data) : sample(types, type_names, data);
}
