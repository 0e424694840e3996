/* syncox without a mount: the table of commands, what is made from it, and how things are printed. */
#include "cli/cli.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static void
every_command_is_found_and_described(void **state)
{
    guint n, n_options, used;
    const SxCommand *c = sx_commands(&n);
    const SxCliOption *o = sx_cli_options(&n_options);
    for (guint i = 0; i < n; i++) {
        g_auto(GStrv) words = g_strsplit(c[i].name, " ", -1);
        assert_ptr_equal(sx_command_find(words, &used), &c[i]);
        assert_int_equal(used, g_strv_length(words));
        assert_true(g_ascii_islower(*c[i].doc) && !g_str_has_suffix(c[i].doc, "."));
        assert_true(c[i].min_args <= c[i].max_args && (c[i].max_args == 0) == (*c[i].args == '\0'));
        g_auto(GStrv) names = g_strsplit(c[i].options, " ", -1);
        guint taken = 0;
        for (guint k = 0; k < n_options; k++)
            taken += sx_command_takes(&c[i], &o[k]) ? 1 : 0;
        assert_int_equal(taken, 2 + (*c[i].options != '\0' ? g_strv_length(names) : 0)); /* no name without an option */
    }
    assert_null(sx_command_find((char *[]){(char *)"provider", NULL}, &used));
    assert_null(sx_command_find((char *[]){(char *)"provider", (char *)"nonsense", NULL}, &used));
    assert_null(sx_command_find((char *[]){(char *)"stat", NULL}, &used));
}

static void
all_that_is_generated_names_every_command(void **state)
{
    static const char *const kinds[] = {"bash-completion", "zsh-completion", "fish-completion", "man"};
    guint n;
    const SxCommand *c = sx_commands(&n);
    for (guint k = 0; k < G_N_ELEMENTS(kinds); k++) {
        g_autoptr(GString) text = g_string_new(NULL);
        assert_true(sx_generate(kinds[k], text, NULL));
        for (guint i = 0; i < n; i++) {
            const char *blank = strchr(c[i].name, ' ');
            if (strstr(text->str, blank != NULL ? blank + 1 : c[i].name) == NULL)
                fail_msg("%s lacks %s", kinds[k], c[i].name);
        }
    }
    g_autoptr(GString) text = g_string_new(NULL);
    g_autoptr(GError) e = NULL;
    assert_false(sx_generate("csh-completion", text, &e));
    assert_true(sx_error_is(e, SX_ERR_INVALID));
}

static void
names_cannot_command_the_terminal(void **state)
{
    static const struct {
        const char *raw, *shown;
    } cases[] = {
        {"plain ä \xf0\x9f\x90\x99", "plain ä \xf0\x9f\x90\x99"},
        {"a\033[2Jb", "a\\x1b[2Jb"},
        {"a\nb", "a\\x0ab"},
        {"\xff\xfe", "\\xff\\xfe"},
        {"cut \xe2\x82", "cut \\xe2\\x82"},
        {"rtl \xe2\x80\xae.txt", "rtl \\xe2\\x80\\xae.txt"}, /* the override that turns names round */
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *shown = sx_printable(cases[i].raw);
        assert_string_equal(shown, cases[i].shown);
    }
    assert_int_equal(sx_text_width("日本"), 4);
    assert_int_equal(sx_text_width("e\xcc\x81"), 1);
}

/* What an SxOutput on a file (no terminal) wrote. */
typedef struct Capture {
    FILE *file;
    SxOutput *out;
} Capture;

static Capture
capture(void)
{
    FILE *file = tmpfile();
    assert_non_null(file);
    return (Capture){.file = file, .out = sx_output_new(file)};
}

static char *
captured(Capture *c)
{
    sx_output_free(c->out);
    fflush(c->file);
    long n = ftell(c->file);
    char *text = g_malloc0((gsize)n + 1);
    rewind(c->file);
    assert_int_equal(fread(text, 1, (gsize)n, c->file), n);
    fclose(c->file);
    return text;
}

static void
columns_are_aligned(void **state)
{
    Capture c = capture();
    sx_row(c.out, SX_BOLD, "NAME", "SIZE", "X", NULL);
    sx_row(c.out, SX_RED, "日本", "1", "", NULL);
    sx_row(c.out, SX_PLAIN, "a\nb", "1000", "y", NULL);
    sx_table_end(c.out, "lrl");
    g_autofree char *text = captured(&c);
    assert_string_equal(text, "NAME    SIZE  X\n"
                              "日本       1\n"
                              "a\\x0ab  1000  y\n");
}

static void
quick_work_needs_no_progress(void **state)
{
    Capture c = capture();
    assert_false(sx_output_is_terminal(c.out));
    for (int i = 0; i <= 100; i++)
        sx_progress(c.out, i, 100, "now");
    sx_progress_end(c.out);
    sx_print(c.out, SX_GREEN, "done");
    g_autofree char *text = captured(&c);
    assert_string_equal(text, "done\n");
}

static void
a_screen_is_printed_when_it_changed(void **state)
{
    Capture c = capture();
    for (int i = 0; i < 3; i++) {
        sx_screen_begin(c.out);
        sx_print(c.out, SX_RED, "line %d", i / 2);
        sx_screen_end(c.out);
    }
    g_autofree char *text = captured(&c);
    assert_string_equal(text, "line 0\nline 1\n");
}

static void
paths_mean_what_the_user_typed(void **state)
{
    g_autofree char *dir = g_dir_make_tmp("sx-cli-XXXXXX", NULL), *real = realpath(dir, NULL);
    g_autofree char *link = g_build_filename(dir, "link", NULL), *real_link = g_build_filename(real, "link", NULL);
    g_autofree char *old = g_get_current_dir();
    g_setenv("XDG_RUNTIME_DIR", dir, TRUE);
    assert_int_equal(symlink("/", link), 0);
    g_autofree char *kept = sx_cli_path(link), *slash = g_strconcat(link, "///", NULL), *kept2 = sx_cli_path(slash);
    assert_string_equal(kept, real_link);
    assert_string_equal(kept2, real_link);
    assert_int_equal(chdir(dir), 0);
    g_autofree char *relative = sx_cli_path("nas/a"); /* no mount around here: from the mount's root */
    assert_string_equal(relative, "nas/a");
    assert_int_equal(chdir(old), 0);
    unlink(link);
    rmdir(dir);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_command_is_found_and_described),
        cmocka_unit_test(all_that_is_generated_names_every_command),
        cmocka_unit_test(names_cannot_command_the_terminal),
        cmocka_unit_test(columns_are_aligned),
        cmocka_unit_test(quick_work_needs_no_progress),
        cmocka_unit_test(a_screen_is_printed_when_it_changed),
        cmocka_unit_test(paths_mean_what_the_user_typed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
