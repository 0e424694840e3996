/* The lines of an ini file.
 *
 * Why not a library: iniparser forgets line numbers, lower-cases section names and merges sections that occur twice, and
 * inih as distributions build it cuts lines at 200 bytes without a word. Our contract with the user is a FILE:LINE for
 * every mistake, names as they were written, and nothing dropped; both libraries make that impossible. */
#include "conf/conf_i.h"

#include <string.h>

typedef struct Reader {
    const char *file;
    guint line;
    GPtrArray *items;
    GError **error;
} Reader;

static void
item_free(void *p)
{
    SxIniItem *i = p;
    g_free(i->section);
    g_free(i->name);
    g_free(i->key);
    if (i->value != NULL)
        explicit_bzero(i->value, strlen(i->value)); /* may be a password */
    g_free(i->value);
    g_free(i);
}

static bool
wrong(const Reader *r, const char *what)
{
    return sx_fail(r->error, SX_ERR_CONFIG, "%s:%u: %s", r->file, r->line, what);
}

static void
add(Reader *r, SxIniItem item)
{
    SxIniItem *i = g_new(SxIniItem, 1);
    *i = item;
    i->line = r->line;
    g_ptr_array_add(r->items, i);
}

static bool
only_comment(const char *p)
{
    while (g_ascii_isspace(*p))
        p++;
    return *p == '\0' || *p == ';' || *p == '#';
}

/* [section] or [section NAME]; the name is all between the first blank and the last bracket, without blanks around. */
static bool
head(Reader *r, char *text)
{
    char *end = strchr(text, ']');
    if (end == NULL)
        return wrong(r, "']' is missing; allowed: [syncoxfs] or [provider NAME]");
    if (!only_comment(end + 1))
        return wrong(r, "something follows the ']'; allowed there: a comment");
    *end = '\0';
    char *section = g_strstrip(text + 1);
    size_t n = strcspn(section, " \t");
    if (n == 0)
        return wrong(r, "a section without a name; allowed: [syncoxfs] or [provider NAME]");
    char *name = section[n] != '\0' ? g_strstrip(section + n + 1) : NULL;
    section[n] = '\0';
    add(r, (SxIniItem){.section = g_strdup(section), .name = g_strdup(name)});
    return true;
}

/* "..." with \" and \\ inside; then at most a comment. NULL with *error set when it is not that. */
static char *
quoted(Reader *r, const char *p)
{
    g_autoptr(GString) out = g_string_new(NULL);
    for (p++; *p != '"'; p++) {
        if (*p == '\\' && p[1] != '"' && p[1] != '\\') {
            wrong(r, "a backslash in a quoted value; allowed: \\\" and \\\\");
            return NULL;
        }
        if (*p == '\\')
            p++;
        if (*p == '\0') {
            wrong(r, "the closing '\"' is missing");
            return NULL;
        }
        g_string_append_c(out, *p);
    }
    if (!only_comment(p + 1)) {
        wrong(r, "something follows the quoted value; allowed there: a comment");
        return NULL;
    }
    return g_strdup(out->str);
}

/* Ends at blank + ';'. Without the blank it is part of the value, as in a password. */
static char *
unquoted(char *p)
{
    for (char *c = p; *c != '\0'; c++)
        if (*c == ';' && (c == p || g_ascii_isspace(c[-1]))) {
            *c = '\0';
            break;
        }
    return g_strdup(g_strchomp(p));
}

static bool
assignment(Reader *r, char *text)
{
    char *eq = strchr(text, '=');
    if (eq == NULL)
        return wrong(r, "neither a section nor 'key = value' nor a comment");
    *eq = '\0';
    const char *key = g_strchomp(text);
    if (*key == '\0')
        return wrong(r, "the key before '=' is missing");
    char *value = g_strchug(eq + 1);
    char *clean = *value == '"' ? quoted(r, value) : unquoted(value);
    if (clean == NULL)
        return false;
    add(r, (SxIniItem){.key = g_strdup(key), .value = clean});
    return true;
}

static bool
one_line(Reader *r, const char *start, gsize len)
{
    if (len > SX_INI_LINE_MAX)
        return sx_fail(r->error, SX_ERR_CONFIG, "%s:%u: the line has %" G_GSIZE_FORMAT " bytes; allowed: %d", r->file, r->line,
                       len, SX_INI_LINE_MAX);
    if (memchr(start, '\0', len) != NULL)
        return wrong(r, "a NUL byte; this is not a text file");
    char line[SX_INI_LINE_MAX + 1];
    memcpy(line, start, len);
    line[len] = '\0';
    char *p = g_strchug(line); /* a CR at the end goes with the blanks there */
    bool good = only_comment(p) || (*p == '[' ? head(r, p) : assignment(r, p));
    explicit_bzero(line, sizeof line);
    return good;
}

GPtrArray *
sx_ini_parse(const char *text, gsize len, const char *file, GError **error)
{
    if (len > SX_INI_FILE_MAX) {
        sx_fail(error, SX_ERR_CONFIG, "%s: the file has %" G_GSIZE_FORMAT " bytes; allowed: %d", file, len, SX_INI_FILE_MAX);
        return NULL;
    }
    g_autoptr(GPtrArray) items = g_ptr_array_new_with_free_func(item_free);
    Reader r = {.file = file, .items = items, .error = error};
    if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) { /* byte order mark of editors elsewhere */
        text += 3;
        len -= 3;
    }
    for (const char *p = text, *end = text + len; p < end;) {
        const char *nl = memchr(p, '\n', (gsize)(end - p));
        const char *stop = nl != NULL ? nl : end;
        r.line++;
        if (!one_line(&r, p, (gsize)(stop - p)))
            return NULL;
        p = stop + 1;
    }
    return g_steal_pointer(&items);
}
