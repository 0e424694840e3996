#include "cli/output.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define SX_BAR_WIDTH 30
#define SX_PLAIN_EVERY_US (5 * G_USEC_PER_SEC)
#define SX_PLAIN_FIRST_US G_USEC_PER_SEC /* what is over sooner needs no line */

typedef struct Row {
    char *cells[SX_OUTPUT_COLUMNS];
    guint n;
    SxColour colour;
} Row;

struct SxOutput {
    FILE *file;
    bool terminal, colours;
    GPtrArray *rows;       /* of Row: the table under construction */
    GString *screen;       /* between screen_begin and _end: lines to come; NULL otherwise */
    char *last_screen;     /* what stands there now */
    guint screen_lines;
    char *last_progress;
    gint64 next_plain_us;  /* monotonic; 0: no progress is shown */
};

static void
row_free(void *data)
{
    Row *r = data;
    for (guint i = 0; i < r->n; i++)
        g_free(r->cells[i]);
    g_free(r);
}

SxOutput *
sx_output_new(FILE *file)
{
    SxOutput *o = g_new0(SxOutput, 1);
    const char *no_color = g_getenv("NO_COLOR"), *term = g_getenv("TERM");
    o->file = file;
    o->terminal = isatty(fileno(file)) && g_strcmp0(term, "dumb") != 0;
    o->colours = o->terminal && (no_color == NULL || *no_color == '\0');
    o->rows = g_ptr_array_new_with_free_func(row_free);
    return o;
}

void
sx_output_free(SxOutput *o)
{
    if (o == NULL)
        return;
    g_ptr_array_unref(o->rows);
    if (o->screen != NULL)
        g_string_free(o->screen, TRUE);
    g_free(o->last_screen);
    g_free(o->last_progress);
    g_free(o);
}

bool
sx_output_is_terminal(const SxOutput *o)
{
    return o->terminal;
}

char *
sx_printable(const char *bytes)
{
    GString *out = g_string_new(NULL);
    for (const char *p = bytes; *p != '\0';) {
        gunichar c = g_utf8_get_char_validated(p, -1);
        if (c == (gunichar)-1 || c == (gunichar)-2 || g_unichar_iscntrl(c) || g_unichar_type(c) == G_UNICODE_FORMAT) {
            gsize n = c == (gunichar)-1 || c == (gunichar)-2 ? 1 : (gsize)g_unichar_to_utf8(c, NULL);
            for (gsize i = 0; i < n; i++)
                g_string_append_printf(out, "\\x%02x", (guchar)p[i]);
            p += n;
            continue;
        }
        g_string_append_unichar(out, c);
        p = g_utf8_next_char(p);
    }
    return g_string_free(out, FALSE);
}

guint
sx_text_width(const char *utf8)
{
    guint width = 0;
    for (const char *p = utf8; *p != '\0'; p = g_utf8_next_char(p)) {
        gunichar c = g_utf8_get_char(p);
        width += g_unichar_iszerowidth(c) ? 0 : g_unichar_iswide(c) ? 2 : 1;
    }
    return width;
}

static const char *
colour_code(SxColour colour)
{
    static const char *const codes[] = {[SX_PLAIN] = "",          [SX_BOLD] = "\033[1m",    [SX_DIM] = "\033[2m", [SX_RED] = "\033[31m",
                                        [SX_GREEN] = "\033[32m", [SX_YELLOW] = "\033[33m", [SX_BLUE] = "\033[34m"};
    return codes[colour];
}

static void
emit(SxOutput *o, const char *text)
{
    if (o->screen != NULL)
        g_string_append(o->screen, text);
    else
        fputs(text, o->file);
}

static void
emit_coloured(SxOutput *o, SxColour colour, const char *text)
{
    bool on = o->colours && colour != SX_PLAIN;
    if (on)
        emit(o, colour_code(colour));
    emit(o, text);
    if (on)
        emit(o, "\033[0m");
}

void
sx_print(SxOutput *o, SxColour colour, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    g_autofree char *text = g_strdup_vprintf(format, ap);
    va_end(ap);
    emit_coloured(o, colour, text);
    emit(o, "\n");
}

void
sx_row(SxOutput *o, SxColour colour, ...)
{
    Row *r = g_new0(Row, 1);
    r->colour = colour;
    va_list ap;
    va_start(ap, colour);
    for (const char *cell; (cell = va_arg(ap, const char *)) != NULL && r->n < SX_OUTPUT_COLUMNS;)
        r->cells[r->n++] = sx_printable(cell);
    va_end(ap);
    g_ptr_array_add(o->rows, r);
}

static void
print_row(SxOutput *o, const Row *r, const guint *widths, const char *align)
{
    g_autoptr(GString) line = g_string_new(NULL);
    for (guint i = 0; i < r->n; i++) {
        guint pad = widths[i] - sx_text_width(r->cells[i]);
        bool right = i < strlen(align) && align[i] == 'r';
        g_string_append_printf(line, "%s%*s%s%*s", i > 0 ? "  " : "", right ? (int)pad : 0, "", r->cells[i], right ? 0 : (int)pad, "");
    }
    g_strchomp(line->str);
    emit_coloured(o, r->colour, line->str);
    emit(o, "\n");
}

void
sx_table_end(SxOutput *o, const char *align)
{
    guint widths[SX_OUTPUT_COLUMNS] = {0};
    for (guint i = 0; i < o->rows->len; i++) {
        const Row *r = g_ptr_array_index(o->rows, i);
        for (guint k = 0; k < r->n; k++)
            widths[k] = MAX(widths[k], sx_text_width(r->cells[k]));
    }
    for (guint i = 0; i < o->rows->len; i++)
        print_row(o, g_ptr_array_index(o->rows, i), widths, align);
    g_ptr_array_set_size(o->rows, 0);
}

static guint
terminal_width(const SxOutput *o)
{
    struct winsize size;
    return ioctl(fileno(o->file), TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

/* Cut to the terminal, so that it stays one line. Colours take no room. */
static char *
fit(const char *text, guint columns)
{
    guint width = 0;
    const char *p = text;
    for (; *p != '\0'; p = g_utf8_next_char(p)) {
        if (*p == '\033') {
            p += strcspn(p, "m");
            continue;
        }
        gunichar c = g_utf8_get_char(p);
        guint w = g_unichar_iszerowidth(c) ? 0 : g_unichar_iswide(c) ? 2 : 1;
        if (width + w > columns)
            break;
        width += w;
    }
    return g_strndup(text, (gsize)(p - text));
}

void
sx_progress(SxOutput *o, gint64 done, gint64 total, const char *text)
{
    g_autofree char *line = NULL;
    if (total > 0) {
        double part = CLAMP((double)done / (double)total, 0.0, 1.0);
        char bar[SX_BAR_WIDTH + 1];
        memset(bar, ' ', SX_BAR_WIDTH);
        memset(bar, '#', (gsize)(part * SX_BAR_WIDTH));
        bar[SX_BAR_WIDTH] = '\0';
        line = g_strdup_printf("[%s] %3d%%  %s", bar, (int)(part * 100), text);
    } else {
        line = g_strdup(text);
    }
    if (g_strcmp0(line, o->last_progress) == 0)
        return;
    if (o->terminal) {
        g_autofree char *cut = fit(line, terminal_width(o) - 1);
        fprintf(o->file, "\r%s\033[K", cut);
    } else {
        gint64 now = g_get_monotonic_time();
        if (o->next_plain_us == 0)
            o->next_plain_us = now + SX_PLAIN_FIRST_US;
        if (now < o->next_plain_us)
            return;
        o->next_plain_us = now + SX_PLAIN_EVERY_US;
        fprintf(o->file, "%s\n", text);
    }
    fflush(o->file);
    g_free(o->last_progress);
    o->last_progress = g_steal_pointer(&line);
}

void
sx_progress_end(SxOutput *o)
{
    if (o->terminal && o->last_progress != NULL)
        fputs("\r\033[K", o->file);
    g_clear_pointer(&o->last_progress, g_free);
    o->next_plain_us = 0;
    fflush(o->file);
}

void
sx_screen_begin(SxOutput *o)
{
    o->screen = g_string_new(NULL);
}

void
sx_screen_end(SxOutput *o)
{
    g_autofree char *text = g_string_free(o->screen, FALSE);
    o->screen = NULL;
    if (g_strcmp0(text, o->last_screen) == 0)
        return;
    g_free(o->last_screen);
    o->last_screen = g_strdup(text);
    if (o->terminal && o->screen_lines > 0)
        fprintf(o->file, "\033[%uA\033[J", o->screen_lines);
    o->screen_lines = 0;
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (char **l = lines; *l != NULL && l[1] != NULL; l++, o->screen_lines++) {
        g_autofree char *cut = o->terminal ? fit(*l, terminal_width(o) - 1) : g_strdup(*l);
        fprintf(o->file, "%s%s\n", cut, o->colours ? "\033[0m" : "");
    }
    fflush(o->file);
}
