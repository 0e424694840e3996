/* The webdav provider's own parts, without a server: names, hrefs, versions, conditions, multistatus. */
#include "providers/webdav/webdav_i.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

static void
every_byte_round_trips(void **state)
{
    char all[256];
    for (int i = 1; i < 256; i++)
        all[i - 1] = (char)i;
    all[255] = 0;
    g_autofree char *encoded = sx_dav_encode(all);
    for (const char *s = encoded; *s != 0; s++)
        assert_true(g_ascii_isalnum(*s) || strchr("-._~/%", *s) != NULL);
    g_autofree char *back = sx_dav_decode(encoded, strlen(encoded));
    assert_string_equal(back, all);
    static const char *const wrong[] = {"%", "%4", "%zz", "a%0", "%00", "x%00y", "%4", "%-1"};
    for (gsize i = 0; i < G_N_ELEMENTS(wrong); i++)
        assert_null(sx_dav_decode(wrong[i], strlen(wrong[i])));
    g_autofree char *cut = sx_dav_decode("a%41b", 3); /* the length counts */
    assert_null(cut);
}

static void
hrefs(void **state)
{
    const struct { const char *href, *dir; SxDavHref is; const char *name; } rows[] = {
        {"/dav/a/", "/dav/a", SX_DAV_HREF_SELF, NULL},
        {"/dav/a", "/dav/a", SX_DAV_HREF_SELF, NULL},
        {"/d%61v/%61", "/dav/a", SX_DAV_HREF_SELF, NULL},
        {"https://host:1/dav/a/", "/dav/a", SX_DAV_HREF_SELF, NULL},
        {"/", "", SX_DAV_HREF_SELF, NULL},
        {"https://host", "", SX_DAV_HREF_SELF, NULL},
        {"/dav/a/b", "/dav/a", SX_DAV_HREF_CHILD, "b"},
        {"/dav/a/b/", "/dav/a", SX_DAV_HREF_CHILD, "b"},
        {"http://host/dav/a/b%20c", "/dav/a", SX_DAV_HREF_CHILD, "b c"},
        {"/x", "", SX_DAV_HREF_CHILD, "x"},
        {"/dav/a/b%2Fc", "/dav/a", SX_DAV_HREF_CHILD, "b/c"}, /* refused later as a name, not taken for b in a/b */
        {"/dav/a/..", "/dav/a", SX_DAV_HREF_CHILD, ".."},
        {"/dav/a/b/c", "/dav/a", SX_DAV_HREF_OTHER, NULL},
        {"/dav/ab", "/dav/a", SX_DAV_HREF_OTHER, NULL},
        {"/dav", "/dav/a", SX_DAV_HREF_OTHER, NULL},
        {"/dav/a/b%zz", "/dav/a", SX_DAV_HREF_OTHER, NULL},
        {"/dav/a/%00", "/dav/a", SX_DAV_HREF_OTHER, NULL},
        {"", "/dav/a", SX_DAV_HREF_OTHER, NULL},
        {"relative", "/dav/a", SX_DAV_HREF_OTHER, NULL},
        {"/a%20b/c://d", "/a b/c:", SX_DAV_HREF_OTHER, NULL},
        {"/p/x://y", "/p/x:/", SX_DAV_HREF_CHILD, "y"}, /* "://" in a path is no scheme */
    };
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *name = NULL;
        SxDavHref is = sx_dav_href(rows[i].href, rows[i].dir, &name);
        if (is != rows[i].is)
            fail_msg("%s in %s: %d", rows[i].href, rows[i].dir, (int)is);
        if (rows[i].name != NULL)
            assert_string_equal(name, rows[i].name);
        else
            assert_null(name);
    }
}

static void
versions(void **state)
{
    const char *rows[][2] = {{"\"abc\"", "abc"}, {"W/\"abc\"", "abc"}, {"abc", "abc"}, {"", ""}, {"\"\"", ""}, {"\"", "\""}, {"W/", ""}, {"\"a\"b\"", "a\"b"},
                             {"\"a\r\nX: y\"", ""}, {"\"a b\"", "a b"}};
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *v = sx_dav_version(rows[i][0]);
        assert_string_equal(v, rows[i][1]);
    }
    assert_true(sx_dav_is_size_mtime("5 1700000000") && sx_dav_is_size_mtime("0 0"));
    static const char *const etags[] = {"", "5", "5 ", " 5", "5 x", "a b", "5 1 2", "-5 1"};
    for (gsize i = 0; i < G_N_ELEMENTS(etags); i++)
        assert_false(sx_dav_is_size_mtime(etags[i]));
    g_autofree char *none = sx_dav_version(NULL);
    assert_string_equal(none, "");
}

static void
conditions(void **state)
{
    g_autoptr(SxRemote) r = sx_remote_new("f", SX_KIND_FILE);
    g_free(r->version);
    r->version = g_strdup("v1");
    r->size = 5;
    r->mtime_ns = G_GINT64_CONSTANT(7000000000);
    SxCond v = {.kind = SX_IF_VERSION, .version = "v1", .size = 5, .mtime_ns = SX_TIME_UNKNOWN};
    assert_true(sx_dav_cond_holds(&v, r));
    assert_false(sx_dav_cond_holds(&v, NULL));
    v.version = "v2";
    assert_false(sx_dav_cond_holds(&v, r));
    v.version = ""; /* our upload, version not told: its end is known, and the content is not younger */
    assert_true(sx_dav_cond_holds(&v, r));
    v.mtime_ns = G_GINT64_CONSTANT(7999999999);
    assert_true(sx_dav_cond_holds(&v, r));
    v.mtime_ns = G_GINT64_CONSTANT(9000000000);
    assert_true(sx_dav_cond_holds(&v, r));
    v.mtime_ns = G_GINT64_CONSTANT(6999999999);
    assert_false(sx_dav_cond_holds(&v, r));
    v.mtime_ns = SX_TIME_UNKNOWN;
    v.size = 6;
    assert_false(sx_dav_cond_holds(&v, r));
    SxCond absent = {.kind = SX_IF_ABSENT}, any = {.kind = SX_IF_ANY};
    assert_true(sx_dav_cond_holds(&absent, NULL) && !sx_dav_cond_holds(&absent, r));
    assert_true(sx_dav_cond_holds(&any, NULL) && sx_dav_cond_holds(&any, r));
}

typedef struct Seen {
    int entries, stop_after;
    char *last_href, *last_etag;
    gint64 last_size;
    bool last_dir;
} Seen;

static bool
see(void *data, const SxDavEntry *e, GError **error)
{
    Seen *s = data;
    s->entries++;
    g_free(s->last_href);
    g_free(s->last_etag);
    s->last_href = g_strdup(e->href);
    s->last_etag = g_strdup(e->etag);
    s->last_size = e->size;
    s->last_dir = e->is_dir;
    return s->entries != s->stop_after || sx_fail(error, SX_ERR_CANCELLED, "enough");
}

static void
seen_clear(Seen *s)
{
    g_free(s->last_href);
    g_free(s->last_etag);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Seen, seen_clear)

/* In pieces of `piece` bytes. */
static bool
parse(Seen *s, const char *text, gsize piece, GError **error)
{
    g_autoptr(SxDavXml) x = sx_dav_xml_new(see, s);
    gsize n = strlen(text);
    for (gsize i = 0; i < n; i += piece)
        if (!sx_dav_xml_feed(x, text + i, MIN(piece, n - i), error))
            return false;
    return sx_dav_xml_end(x, error);
}

static const char good[] =
    "<?xml version=\"1.0\"?><m:multistatus xmlns:m=\"DAV:\" xmlns:x=\"urn:other\"><m:response><m:href>\n /a%20b \n</m:href><m:propstat><m:prop>"
    "<m:getetag>\"bad\"</m:getetag><m:resourcetype><m:collection/></m:resourcetype></m:prop><m:status>HTTP/1.1 404 Not Found</m:status></m:propstat>"
    "<m:propstat><m:prop><m:getcontentlength>12</m:getcontentlength><m:resourcetype/><x:getetag>other</x:getetag>"
    "<m:getetag>&quot;e&amp;1&quot;</m:getetag></m:prop><m:status>HTTP/1.1 200 OK</m:status></m:propstat></m:response></m:multistatus>";

static void
multistatus_in_any_pieces(void **state)
{
    for (gsize piece = 1; piece <= sizeof good; piece += piece < 40 ? 1 : 37) {
        g_auto(Seen) s = {0};
        GError *error = NULL;
        assert_true(parse(&s, good, piece, &error));
        assert_int_equal(s.entries, 1);
        assert_string_equal(s.last_href, "/a%20b");
        assert_string_equal(s.last_etag, "\"e&1\"");
        assert_int_equal(s.last_size, 12);
        assert_false(s.last_dir); /* the 404 block does not count */
    }
}

static void
every_cut_is_noticed(void **state)
{
    for (gsize n = 0; n < sizeof good - 1; n++) {
        g_auto(Seen) s = {0};
        g_autofree char *cut = g_strndup(good, n);
        g_autoptr(GError) error = NULL;
        assert_false(parse(&s, cut, 4096, &error));
        assert_true(sx_error_is(error, SX_ERR_PROTOCOL));
    }
}

static void
the_receiver_can_stop(void **state)
{
    g_auto(Seen) s = {.stop_after = 1};
    g_autoptr(GError) error = NULL;
    assert_false(parse(&s, good, 10, &error));
    assert_true(sx_error_is(error, SX_ERR_CANCELLED));
}

static void
what_is_refused(void **state)
{
    static const char *const bad[] = {
        "<a/>", "", "x", "<!DOCTYPE html><html/>", "<!DOCTYPE m [<!ENTITY e \"x\">]><m:multistatus xmlns:m=\"DAV:\"/>",
        "<multistatus/>", "<m:multistatus xmlns:m=\"DAV:\"><m:response/></m:multistatus>", "<m:multistatus xmlns:m=\"DAV:\">&e;</m:multistatus>",
        "<m:multistatus xmlns:m=\"DAV:\"/><more/>"};
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_auto(Seen) s = {0};
        g_autoptr(GError) error = NULL;
        if (parse(&s, bad[i], 7, &error))
            fail_msg("taken: %s", bad[i]);
        assert_true(sx_error_is(error, SX_ERR_PROTOCOL));
    }
    g_auto(Seen) s = {0};
    assert_true(parse(&s, "<m:multistatus xmlns:m=\"DAV:\"/>", 7, NULL)); /* empty is fine as XML; a listing then lacks its directory */
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_byte_round_trips),
        cmocka_unit_test(hrefs),
        cmocka_unit_test(versions),
        cmocka_unit_test(conditions),
        cmocka_unit_test(multistatus_in_any_pieces),
        cmocka_unit_test(every_cut_is_noticed),
        cmocka_unit_test(the_receiver_can_stop),
        cmocka_unit_test(what_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
