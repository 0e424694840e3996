#include "conf/conf.h"

#include <glib/gstdio.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <cmocka.h>

static const SxOption local_options[] = {
    {.key = "path", .type = SX_OPT_PATH, .required = true, .doc = "The folder."},
    {0},
};
static const SxOption dav_options[] = {
    {.key = "url", .type = SX_OPT_URL, .required = true, .doc = "The collection's address."},
    SX_OPTIONS_LOGIN,
    {.key = "flavour", .type = SX_OPT_ENUM, .def = "auto", .allowed = "auto plain nextcloud", .doc = "Which server it is."},
    {.key = "retries", .type = SX_OPT_INT, .def = "3", .allowed = "0 9", .doc = "How often."},
    {0},
};

static const SxOption *
types(const char *type, void *data)
{
    if (strcmp(type, "local") == 0)
        return local_options;
    return strcmp(type, "webdav") == 0 ? dav_options : NULL;
}

static SxConf *
parse(const char *text, GError **error)
{
    return sx_conf_parse(text, strlen(text), "t.conf", types, NULL, error);
}

#define DAV "[provider nas]\ntype = webdav\nurl = https://nas.example/dav/\n"

static void
a_whole_file_is_read(void **state)
{
    g_autoptr(GError) e = NULL;
    g_autoptr(SxConf) c = parse("\xef\xbb\xbf# comment\r\n[syncoxfs] ; ours\r\n cache-size = 5G ; five\r\nbandwidth-up = 08:00-18:00 1M, 0\n"
                                "upload-threads=3\nlog-level = debug\nkeep-local = \"*.x ; \\\"y\\\\\" # end\nfile-mode = 0600\n\n"
                                "[provider nas]\ntype = webdav\nname = My NAS\nurl = https://nas.example/dav/?a=b;c#d\nread-only = yes\n"
                                "password = a;b#c=d ; literal\npoll = 5m\ndownload-threads = 2\n"
                                "[provider  two words ]\npath = ~/x\ntype = local", &e);
    assert_null(e);
    const SxSection *g = sx_conf_global(c);
    assert_string_equal(sx_section_where(g), "t.conf:2");
    assert_string_equal(sx_section_name(g), "");
    assert_int_equal(sx_section_int(g, "cache-size"), G_GINT64_CONSTANT(5) << 30);
    assert_string_equal(sx_section_string(g, "bandwidth-up"), "08:00-18:00 1M, 0");
    assert_string_equal(sx_section_string(g, "log-level"), "debug");
    assert_string_equal(sx_section_string(g, "keep-local"), "*.x ; \"y\\");
    assert_int_equal(sx_section_int(g, "file-mode"), 0600);
    assert_true(sx_section_is_set(g, "cache-size"));
    assert_false(sx_section_is_set(g, "min-free"));
    assert_false(sx_section_is_set(g, "no-such-key"));

    assert_int_equal(sx_conf_n_providers(c), 2);
    const SxSection *nas = sx_conf_provider(c, 0), *two = sx_conf_provider(c, 1);
    assert_string_equal(sx_section_name(nas), "nas");
    assert_string_equal(sx_section_string(nas, "name"), "My NAS");
    assert_string_equal(sx_section_string(nas, "url"), "https://nas.example/dav/?a=b;c#d");
    assert_string_equal(sx_section_string(nas, "password"), "a;b#c=d");
    assert_string_equal(sx_section_string(nas, "flavour"), "auto");
    assert_null(sx_section_string(nas, "user"));
    assert_true(sx_section_bool(nas, "read-only"));
    assert_int_equal(sx_section_int(nas, "poll"), 300000);
    assert_int_equal(sx_section_int(nas, "retries"), 3);
    assert_int_equal(sx_section_int(nas, "upload-threads"), 3); /* from [syncoxfs] */
    assert_int_equal(sx_section_int(nas, "download-threads"), 2);
    assert_string_equal(sx_section_name(two), "two words");
    assert_string_equal(sx_section_string(two, "name"), "two words");
    g_autofree char *x = g_strconcat(g_get_home_dir(), "/x", NULL);
    assert_string_equal(sx_section_string(two, "path"), x);
}

static void
the_embedded_default_and_the_defaults(void **state)
{
    g_autoptr(SxConf) c = parse(sx_conf_embedded_default(), NULL);
    assert_non_null(c);
    assert_int_equal(sx_conf_n_providers(c), 1);
    const SxSection *g = sx_conf_global(c), *files = sx_conf_provider(c, 0);
    assert_string_equal(sx_section_name(files), "Files");
    assert_true(g_str_has_suffix(sx_section_string(files, "path"), "/Files"));
    assert_false(sx_section_bool(files, "read-only"));
    assert_int_equal(sx_section_int(files, "poll"), 60000);
    assert_int_equal(sx_section_int(files, "timeout"), 30000);
    assert_int_equal(sx_section_int(g, "memory"), 128 << 20);
    assert_int_equal(sx_section_int(g, "min-free"), G_GINT64_CONSTANT(2) << 30);
    assert_int_equal(sx_section_int(g, "write-back-delay"), 2000);
    assert_int_equal(sx_section_int(g, "dir-mode"), 0755);
    assert_non_null(strchr(sx_section_string(g, "who"), '@'));
    assert_string_equal(sx_section_string(g, "cache-dir"), "/xdg/cache/syncoxfs");
    assert_string_equal(sx_section_string(g, "state-dir"), "/xdg/state/syncoxfs");
    assert_non_null(strstr(sx_section_string(g, "keep-local"), "*.tmp"));
    assert_string_equal(sx_section_where(g), "t.conf");
    g_autofree char *path = sx_conf_default_path();
    assert_string_equal(path, "/xdg/config/syncoxfs/syncoxfs.conf");
}

/* What is wrong, what the message must begin with, and what else must stand in it. */
static const struct {
    const char *text, *begins, *holds;
} bad[] = {
    {"x = 1\n", "t.conf:1: ", "before the first section"},
    {"[syncoxfs]\ncache-sise = 1G\n", "t.conf:2: unknown key 'cache-sise'", "did you mean 'cache-size'?; allowed: cache-dir"},
    {"[syncoxfs]\nCache-Size = 1G\n", "t.conf:2: unknown key", "did you mean 'cache-size'"},
    {"[syncoxfs]\nzzzzzzzzzzzz = 1\n", "t.conf:2: unknown key 'zzzzzzzzzzzz'; allowed: ", "log-level"},
    {"[syncoxfs]\ncache-size = big\n", "t.conf:2: cache-size: ", "allowed: a number with K"},
    {"[syncoxfs]\ncache-size = 10\n", "t.conf:2: cache-size: 10 is out of range", "allowed: 1M to 1024P"},
    {"[syncoxfs]\ncache-size =\n", "t.conf:2: cache-size: ", "not a size"},
    {"[syncoxfs]\nwrite-back-delay = soon\n", "t.conf:2: write-back-delay: ", "not a duration"},
    {"[syncoxfs]\nwrite-back-delay = 2d\n", "t.conf:2: write-back-delay: ", "0 to 1d"},
    {"[syncoxfs]\nupload-threads = 0\n", "t.conf:2: upload-threads: ", "1 to 64"},
    {"[syncoxfs]\nupload-threads = 4x\n", "t.conf:2: upload-threads: ", "a whole number"},
    {"[syncoxfs]\nbandwidth-up = fast\n", "t.conf:2: bandwidth-up: ", "not a bandwidth"},
    {"[syncoxfs]\nlog-level = debgu\n", "t.conf:2: log-level: ", "did you mean 'debug'?; allowed: error warn info debug"},
    {"[syncoxfs]\ncache-dir = here\n", "t.conf:2: cache-dir: ", "absolute path"},
    {"[syncoxfs]\ncache-dir = ~bob/x\n", "t.conf:2: cache-dir: ", "absolute path"},
    {"[syncoxfs]\nfile-mode = 0888\n", "t.conf:2: file-mode: ", "octal"},
    {"[syncoxfs]\nfile-mode = 4755\n", "t.conf:2: file-mode: ", "octal"},
    {"[syncoxfs]\nwho =\n", "t.conf:2: who: ", "empty"},
    {"[syncoxfs]\nmemory = 8M\nmemory = 9M\n", "t.conf:3: the key 'memory' occurs twice", "line 2"},
    {"[syncoxfs]\n\n[syncoxfs]\n", "t.conf:3: section [syncoxfs] occurs twice", "t.conf:1"},
    {"[syncoxfs me]\n", "t.conf:1: unknown section [syncoxfs me]", "[provider NAME]"},
    {"[SyncoxFS]\n", "t.conf:1: unknown section [SyncoxFS], did you mean [syncoxfs]?", "allowed"},
    {"[provder x]\n", "t.conf:1: unknown section [provder x], did you mean [provider]?", "allowed"},
    {"[sync docs]\n", "t.conf:1: section [sync docs] is not part of this version", "[syncoxfs] and [provider NAME]"},
    {"[share]\n", "t.conf:1: section [share] is not part of this version", "allowed"},
    {"[mail]\n", "t.conf:1: section [mail] is not part of this version", "allowed"},
    {"[peer bob]\n", "t.conf:1: section [peer bob] is not part of this version", "allowed"},
    {"[syncoxfs\n", "t.conf:1: ']' is missing", "allowed"},
    {"[syncoxfs] x\n", "t.conf:1: something follows the ']'", "comment"},
    {"[]\n", "t.conf:1: a section without a name", "allowed"},
    {"[syncoxfs]\nnonsense\n", "t.conf:2: neither a section", "key = value"},
    {"[syncoxfs]\n= 3\n", "t.conf:2: the key before '='", "missing"},
    {"[syncoxfs]\nwho = \"a\n", "t.conf:2: the closing '\"'", "missing"},
    {"[syncoxfs]\nwho = \"a\\\n", "t.conf:2: a backslash", "allowed"},
    {"[syncoxfs]\nwho = \"a\\n\"\n", "t.conf:2: a backslash", "allowed"},
    {"[syncoxfs]\nwho = \"a\" b\n", "t.conf:2: something follows the quoted value", "comment"},
    {"[provider]\n", "t.conf:1: '' cannot be a provider's name", "[provider NAME]"},
    {"[provider a/b]\n", "t.conf:1: 'a/b' cannot be a provider's name", "no '/'"},
    {"[provider ..]\n", "t.conf:1: '..' cannot be", "allowed"},
    {DAV DAV, "t.conf:4: section [provider nas] occurs twice", "t.conf:1"},
    {"[provider x]\npath = /x\n", "t.conf:1: [provider x] has no 'type'", "one of local webdav"},
    {"[provider x]\ntype = webdaf\n", "t.conf:2: type: 'webdaf' is unknown, did you mean 'webdav'?", "allowed: local webdav"},
    {"[provider x]\ntype = s3\n", "t.conf:2: type: 's3' is unknown", "allowed: local webdav"},
    {"[provider x]\ntype = local\n", "t.conf:1: [provider x] has no 'path'", "path = PATH"},
    {"[provider x]\ntype = webdav\n", "t.conf:1: [provider x] has no 'url'", "url = URL"},
    {"[provider x]\ntype = local\npath = /x\nurl = http://a/\n", "t.conf:4: unknown key 'url'", "path"},
    {"[provider x]\ntype = local\npath = /x\ncache-size = 1G\n", "t.conf:4: unknown key 'cache-size'", "allowed"},
    {"[provider x]\ntype = local\npath = /x\nread-only = maybe\n", "t.conf:4: read-only: ", "yes no"},
    {"[provider x]\ntype = local\npath = /x\npoll = 8d\n", "t.conf:4: poll: ", "0 to 7d"},
    {"[provider x]\ntype = local\npath = /x\ntimeout = 0\n", "t.conf:4: timeout: ", "100ms to 1h"},
    {"[provider x]\ntype = webdav\nurl = nas.example\n", "t.conf:3: url: ", "https://HOST"},
    {"[provider x]\ntype = webdav\nurl = ftp://nas.example/\n", "t.conf:3: url: ", "https://HOST"},
    {"[provider x]\ntype = webdav\nurl = https:///path\n", "t.conf:3: url: ", "https://HOST"},
    {"[provider x]\ntype = webdav\nurl = https://u:geheim@h/\n", "t.conf:3: url: an address with a password", "keys of their own"},
    {DAV "password =\n", "t.conf:4: password: ", "keyring"},
    {DAV "flavour = nextclod\n", "t.conf:4: flavour: ", "did you mean 'nextcloud'"},
    {DAV "retries = 10\n", "t.conf:4: retries: ", "0 to 9"},
    {DAV "name = a/b\n", "t.conf:1: name: 'a/b' cannot be a directory's name", "no '/'"},
    {DAV "name = .syncox\n", "t.conf:1: the name '.syncox' is used by the mount itself", "allowed"},
    {DAV "[provider x]\ntype = local\npath = /x\nname = nas\n", "t.conf:4: the name 'nas' is also that of [provider nas]", "t.conf:1"},
};

static void
everything_wrong_is_told_with_file_and_line(void **state)
{
    for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) e = NULL;
        g_autoptr(SxConf) c = parse(bad[i].text, &e);
        if (c != NULL || !g_str_has_prefix(e->message, bad[i].begins) || strstr(e->message, bad[i].holds) == NULL)
            fail_msg("case %u:\n%s-> %s", i, bad[i].text, e != NULL ? e->message : "accepted");
        assert_true(sx_error_is(e, SX_ERR_CONFIG));
        assert_null(strstr(e->message, "geheim"));
        assert_null(parse(bad[i].text, NULL)); /* a caller that wants no reason */
    }
}

static void
limits_of_the_text(void **state)
{
    g_autoptr(GError) e1 = NULL, e2 = NULL, e3 = NULL;
    g_autofree char *x = g_strnfill(9000, 'x');
    g_autofree char *line = g_strconcat("[syncoxfs]\n# ", x, "\n", NULL);
    assert_null(parse(line, &e1));
    assert_true(g_str_has_prefix(e1->message, "t.conf:2: the line has 9002 bytes; allowed: 8192"));
    g_autofree char *huge = g_strnfill(1024 * 1024 + 1, '\n');
    assert_null(parse(huge, &e2));
    assert_non_null(strstr(e2->message, "allowed: 1048576"));
    static const char nul[] = "[syncoxfs]\nwho = a\0b\n";
    assert_null(sx_conf_parse(nul, sizeof nul - 1, "t.conf", types, NULL, &e3));
    assert_true(g_str_has_prefix(e3->message, "t.conf:2: a NUL byte"));

    g_autofree char *value = g_strnfill(4000, 'v');
    g_autofree char *fits = g_strconcat("[syncoxfs]\nwho = ", value, "\n", NULL);
    g_autoptr(SxConf) c = parse(fits, NULL);
    assert_string_equal(sx_section_string(sx_conf_global(c), "who"), value); /* not cut at 200 bytes */
}

static SxConf *
load(const char *file, const char *text, int mode, GError **error)
{
    assert_true(g_file_set_contents(file, text, -1, NULL));
    assert_int_equal(g_chmod(file, mode), 0);
    return sx_conf_load(file, types, NULL, error);
}

static void
a_password_needs_a_private_file(void **state)
{
    g_autofree char *dir = g_dir_make_tmp("sx-conf-XXXXXX", NULL);
    g_autofree char *file = g_build_filename(dir, "it's.conf", NULL);
    static const int open_modes[] = {0644, 0640, 0604, 0620};
    for (guint i = 0; i < G_N_ELEMENTS(open_modes); i++) {
        g_autoptr(GError) e = NULL;
        assert_null(load(file, DAV "user = alice\npassword = geheim\n", open_modes[i], &e));
        g_autofree char *quoted = g_shell_quote(file);
        g_autofree char *where = g_strconcat(file, ":5: a password in a file that others can read", NULL);
        g_autofree char *remedy = g_strconcat("run: chmod 600 ", quoted, NULL);
        assert_true(g_str_has_prefix(e->message, where));
        assert_true(g_str_has_suffix(e->message, remedy));
        assert_null(strstr(e->message, "geheim"));
    }
    g_autoptr(SxConf) private = load(file, DAV "password = geheim\n", 0600, NULL);
    assert_non_null(private);
    g_autoptr(SxConf) keyring = load(file, DAV "password = keyring\n", 0644, NULL);
    assert_non_null(keyring);
    g_autoptr(SxConf) command = load(file, DAV "password-command = pass nas\n", 0644, NULL);
    assert_non_null(command);
    g_remove(file);
    g_rmdir(dir);
}

static void
files_that_cannot_be_read(void **state)
{
    g_autoptr(GError) missing = NULL, folder = NULL, device = NULL;
    assert_null(sx_conf_load("/nonexistent/x.conf", types, NULL, &missing));
    assert_true(sx_error_is(missing, SX_ERR_NOT_FOUND));
    assert_non_null(strstr(missing->message, "/nonexistent/x.conf"));
    assert_null(sx_conf_load("/", types, NULL, &folder));
    assert_true(sx_error_is(folder, SX_ERR_CONFIG));
    assert_null(sx_conf_load("/dev/zero", types, NULL, &device));
    assert_true(sx_error_is(device, SX_ERR_CONFIG));
}

static char *
uncommented(const char *sample)
{
    g_auto(GStrv) lines = g_strsplit(sample, "\n", -1);
    for (char **l = lines; *l != NULL; l++) {
        const char *eq = strstr(*l, " = ");
        bool placeholder = eq != NULL && g_ascii_isupper(eq[3]);
        if (**l == ';' && !placeholder)
            (*l)[0] = ' ';
        if (g_str_has_prefix(*l, ";url = ")) {
            g_free(*l);
            *l = g_strdup("url = http://x/");
        }
    }
    /* the section of type local would be there twice */
    return g_strjoinv("\n", lines);
}

static void
the_sample_is_valid_and_names_every_key(void **state)
{
    static const char *const names[] = {"webdav", NULL};
    g_autofree char *sample = sx_conf_sample(types, names, NULL, false);
    g_autoptr(GError) e = NULL;
    g_autoptr(SxConf) c = parse(sample, &e);
    assert_null(e);
    assert_int_equal(sx_conf_n_providers(c), 1);
    const SxOption *const tables[] = {sx_options_global, sx_options_provider, dav_options};
    g_autofree char *man = sx_conf_sample(types, names, NULL, true);
    for (guint t = 0; t < G_N_ELEMENTS(tables); t++)
        for (const SxOption *o = tables[t]; o->key != NULL; o++) {
            g_autofree char *key = g_strconcat(o->key, " = ", NULL);
            g_autofree char *item = g_strconcat(".It Cm ", o->key, " No = Ar ", NULL);
            assert_non_null(strstr(sample, key));
            assert_non_null(strstr(man, item));
            assert_true(o->doc != NULL && g_str_has_suffix(o->doc, ".") | (o->doc[strlen(o->doc) - 1] == '0'));
        }
    g_autofree char *full = uncommented(sample);
    g_autoptr(SxConf) d = parse(full, &e);
    assert_null(e);
    assert_int_equal(sx_conf_n_providers(d), 2);
    assert_string_equal(sx_section_string(sx_conf_global(d), "keep-local"), sx_section_string(sx_conf_global(c), "keep-local"));
}

int
main(void)
{
    g_setenv("XDG_CACHE_HOME", "/xdg/cache", TRUE);
    g_setenv("XDG_STATE_HOME", "/xdg/state", TRUE);
    g_setenv("XDG_CONFIG_HOME", "/xdg/config", TRUE);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_file_is_read),
        cmocka_unit_test(the_embedded_default_and_the_defaults),
        cmocka_unit_test(everything_wrong_is_told_with_file_and_line),
        cmocka_unit_test(limits_of_the_text),
        cmocka_unit_test(a_password_needs_a_private_file),
        cmocka_unit_test(files_that_cannot_be_read),
        cmocka_unit_test(the_sample_is_valid_and_names_every_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
