#include "suite.h"

#include <string.h>

static const struct {
    const char *name;
    bool raw; /* not UTF-8 in NFC */
} names[] = {
    {"plain", false}, {" blank at both ends ", false}, {"tab\there", false}, {"100%", false}, {"%41%zz%2F", false},
    {"a#b?c&d=e;f", false}, {"quote\"apostrophe'", false}, {"<angle>&amp;", false}, {"back\\slash", false}, {"colon:pipe|star*", false},
    {"[brackets]{braces}^~`", false}, {"+plus,comma@at!$()", false}, {".hidden", false}, {"...", false}, {"-dash", false},
    {"\xc3\xa9 nfc", false}, {"e\xcc\x81 nfd", true}, {"\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e", false}, {"\xf0\x9f\x8e\x89 party", false},
    {"new\nline", false}, {"con", false}, {"CASE", false}, {"case", false},
    {"raw \xff\xfe bytes", true}, {"\x80", true},
};

static bool
can_hold(SxTarget *t, gsize i)
{
    return !(names[i].raw && t->utf8_only) && !(names[i].name[0] == '.' && t->no_dots) && sx_provider_check_name(t->p, names[i].name, NULL);
}

/* Every name: make, list, read, overwrite by version, move away and back, remove; as file and as directory. */
static void
names_round_trip(SxTarget *t, const char *dir)
{
    guint count = 0;
    SxCaps caps;
    sx_provider_caps(t->p, &caps);
    for (gsize i = 0; i < G_N_ELEMENTS(names); i++) {
        if (!can_hold(t, i))
            continue;
        g_autofree char *path = IN(dir, names[i].name), *inner = g_strconcat(path, ".d/", names[i].name, NULL);
        g_autofree char *sub = g_strconcat(path, ".d", NULL);
        g_autoptr(SxRemote) d = NULL, r = NULL;
        SxTestSource s = {.seed = (guint)i, .size = 10 + (gint64)i};
        SxUpload u = sx_test_upload(&s, sx_test_absent());
        OK(sx_provider_write(t->p, path, &u, &r, NULL, error));
        OK(sx_provider_mkdir(t->p, sub, &d, NULL, error));
        g_autoptr(SxRemote) f = sx_test_put(t, inner, 1, 1);
        assert_string_equal(f->name, names[i].name);
        sx_test_same(t, path, (guint)i, 10 + (gint64)i);
        count++;
    }
    g_autoptr(GHashTable) l = sx_test_list(t, dir);
    SxCond any = sx_test_any();
    for (gsize i = 0; i < G_N_ELEMENTS(names); i++) {
        if (!can_hold(t, i))
            continue;
        g_autofree char *path = IN(dir, names[i].name), *sub = g_strconcat(path, ".d", NULL), *away = IN(dir, "away");
        const SxRemote *e = g_hash_table_lookup(l, names[i].name);
        if (e == NULL)
            fail_msg("the listing lacks \"%s\"", names[i].name);
        assert_int_equal(e->kind, SX_KIND_FILE);
        assert_int_equal(e->size, 10 + (gint64)i);
        g_autoptr(GHashTable) below = sx_test_list(t, sub);
        assert_true(g_hash_table_contains(below, names[i].name));
        assert_int_equal(g_hash_table_size(below), 1);
        if (caps.server_move) {
            OK(sx_provider_move(t->p, path, away, SX_KIND_FILE, NULL, error));
            OK(sx_provider_move(t->p, away, path, SX_KIND_FILE, NULL, error));
            OK(sx_provider_move(t->p, sub, away, SX_KIND_DIR, NULL, error));
            OK(sx_provider_move(t->p, away, sub, SX_KIND_DIR, NULL, error));
        }
        OK(sx_provider_remove(t->p, path, SX_KIND_FILE, &any, NULL, error));
        FAILS(SX_ERR_NOT_EMPTY, sx_provider_remove(t->p, sub, SX_KIND_DIR, &any, NULL, error));
    }
    assert_int_equal(g_hash_table_size(l), 2 * count);
}

/* A name that the server cannot hold or would not show again: refused at once, nothing is left there. */
static void
refused_names(SxTarget *t, const char *dir)
{
    g_autofree char *dot = IN(dir, ".dot");
    SxTestSource s = {.seed = 1, .size = 1};
    SxUpload u = sx_test_upload(&s, sx_test_any());
    g_autoptr(SxRemote) r = NULL, d = NULL;
    if (t->no_dots) {
        FAILS(SX_ERR_NAME, sx_provider_write(t->p, dot, &u, &r, NULL, error));
        FAILS(SX_ERR_NAME, sx_provider_mkdir(t->p, dot, &d, NULL, error));
        sx_test_absent_now(t, dot);
    }
    for (gsize i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *path = IN(dir, names[i].name);
        if (names[i].raw && t->utf8_only)
            FAILS(SX_ERR_NAME, sx_provider_write(t->p, path, &u, &r, NULL, error));
        else if (!sx_provider_check_name(t->p, names[i].name, NULL))
            assert_false(sx_provider_write(t->p, path, &u, &r, NULL, NULL));
    }
    g_autoptr(GHashTable) l = sx_test_list(t, dir);
    assert_int_equal(g_hash_table_size(l), 0);
}

static void
longest_names(SxTarget *t, const char *dir)
{
    SxCaps caps;
    sx_provider_caps(t->p, &caps);
    g_autofree char *ascii = g_strnfill(caps.name_max, 'n'), *longer = g_strnfill(caps.name_max + 1, 'n');
    GString *wide = g_string_new(NULL);
    while (wide->len + 3 <= caps.name_max)
        g_string_append(wide, "\xe2\x82\xac"); /* escapes to nine bytes each */
    g_autofree char *euros = g_string_free(wide, FALSE);
    const char *both[] = {ascii, euros};
    for (gsize i = 0; i < 2; i++) {
        g_autofree char *path = IN(dir, both[i]);
        g_autoptr(SxRemote) r = sx_test_put(t, path, 1, 10);
        sx_test_same(t, path, 1, 10);
    }
    g_autoptr(GHashTable) l = sx_test_list(t, dir);
    assert_int_equal(g_hash_table_size(l), 2);
    assert_true(g_hash_table_contains(l, euros));
    g_autofree char *too_long = IN(dir, longer);
    SxTestSource s = {.seed = 1, .size = 1};
    SxUpload u = sx_test_upload(&s, sx_test_any());
    g_autoptr(SxRemote) r = NULL;
    g_autoptr(GError) why = NULL;
    assert_false(sx_provider_write(t->p, too_long, &u, &r, NULL, &why));
    assert_true(sx_error_is(why, SX_ERR_NAME_TOO_LONG) || sx_error_is(why, SX_ERR_NAME)); /* NAME: longer than any name */
}

const SxCheck sx_checks_names[] = {
    {"names_round_trip", names_round_trip},
    {"refused_names", refused_names},
    {"longest_names", longest_names},
    {0},
};
