/* The command line of syncoxfs, the place of a mount, the background, and notifications on a private session bus. */
#include "base/sys.h"
#include "daemon/args.h"
#include "daemon/background.h"
#include "daemon/notify_desktop.h"
#include "daemon/place.h"

#include <fcntl.h>
#include <gio/gio.h>
#include <glib/gstdio.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

/* ---- args ---- */

static bool
parse(SxArgs *args, GError **error, const char *line)
{
    g_auto(GStrv) argv = NULL;
    int argc;
    assert_true(g_shell_parse_argv(line, &argc, &argv, NULL));
    g_autofree char **moved = g_memdup2(argv, sizeof(char *) * (gsize)(argc + 1)); /* GOption reorders */
    return sx_args_parse(argc, moved, args, error);
}

static void
both_forms_of_the_command_line(void **state)
{
    g_auto(SxArgs) a = {0}, b = {0}, c = {0};
    g_autoptr(GError) e = NULL;
    assert_true(parse(&a, &e, "syncoxfs -f -c rel.conf /mnt -o allow_other,cache-dir=/c"));
    assert_true(a.foreground);
    assert_true(g_path_is_absolute(a.config_file) && g_str_has_suffix(a.config_file, "/rel.conf"));
    assert_string_equal(a.cache_dir, "/c");
    assert_string_equal(a.mountpoint, "/mnt");
    assert_null(a.source);
    assert_int_equal(a.fuse_options->len, 1);
    assert_string_equal(a.fuse_options->pdata[0], "allow_other");

    assert_true(parse(&b, &e, "syncoxfs cloud /mnt -o 'rw,noauto,user,_netdev,x-systemd.automount,config=/a\\,b.conf,state-dir=/s,nosuid'"));
    assert_string_equal(b.source, "cloud");
    assert_string_equal(b.mountpoint, "/mnt");
    assert_string_equal(b.config_file, "/a,b.conf");
    assert_string_equal(b.state_dir, "/s");
    assert_false(b.foreground);
    assert_int_equal(b.fuse_options->len, 6); /* all but config= and state-dir= */
    assert_string_equal(b.fuse_options->pdata[0], "rw");
    assert_string_equal(b.fuse_options->pdata[5], "nosuid");

    assert_true(parse(&c, &e, "syncoxfs --version"));
    assert_true(c.version);
}

static void
wrong_command_lines(void **state)
{
    static const struct {
        const char *line, *says;
    } bad[] = {
        {"syncoxfs", "mount point is missing"},   {"syncoxfs ''", "mount point is empty"}, {"syncoxfs a b c", "too many arguments: c"},
        {"syncoxfs --nonsense /m", "--nonsense"}, {"syncoxfs /m -o config=", "config=VALUE"}, {"syncoxfs /m -o log-level", "log-level=VALUE"},
        {"syncoxfs /m -c", "-c"},
    };
    for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_auto(SxArgs) a = {0};
        g_autoptr(GError) e = NULL;
        assert_false(parse(&a, &e, bad[i].line));
        assert_true(sx_error_is(e, SX_ERR_INVALID));
        if (strstr(e->message, bad[i].says) == NULL)
            fail_msg("%s: %s", bad[i].line, e->message);
    }
}

/* ---- place ---- */

static void
a_mount_point_must_be_a_directory(void **state)
{
    g_autofree char *dir = g_dir_make_tmp("sx-place-XXXXXX", NULL), *real = sx_place_check(dir, NULL);
    g_autofree char *link = g_build_filename(dir, "link", NULL), *file = g_build_filename(dir, "file", NULL);
    g_autofree char *mnt = g_build_filename(dir, "mnt", NULL), *none = g_build_filename(dir, "none", NULL);
    g_autoptr(GError) e = NULL;
    assert_int_equal(g_mkdir(mnt, 0700), 0);
    assert_int_equal(symlink("mnt", link), 0);
    assert_true(g_file_set_contents(file, "x", 1, NULL));

    g_autofree char *through_link = sx_place_check(link, &e), *expected = g_build_filename(real, "mnt", NULL);
    assert_string_equal(through_link, expected);
    assert_null(sx_place_check(file, &e));
    assert_true(sx_error_is(e, SX_ERR_NOT_DIR));
    g_clear_error(&e);
    assert_null(sx_place_check(none, &e));
    assert_true(sx_error_is(e, SX_ERR_NOT_FOUND));
    assert_non_null(strstr(e->message, none));

    g_unlink(link);
    g_unlink(file);
    g_rmdir(mnt);
    g_rmdir(dir);
}

static const SxOption local_options[] = {{.key = "path", .type = SX_OPT_PATH, .required = true, .doc = "folder"}, {0}};

static const SxOption *
types(const char *type, void *data)
{
    return strcmp(type, "local") == 0 ? local_options : NULL;
}

static bool
fits(const char *mountpoint, const char *folder, const char *cache_dir, GError **error)
{
    g_autofree char *text = g_strdup_printf("[syncoxfs]\ncache-dir=/c\nstate-dir=/s\n[provider a]\ntype = local\npath = %s\n", folder);
    g_autoptr(SxConf) conf = sx_conf_parse(text, strlen(text), "t.conf", types, NULL, NULL);
    assert_non_null(conf);
    return sx_place_check_conf(mountpoint, conf, cache_dir, NULL, error);
}

static void
a_mount_may_not_contain_itself(void **state)
{
    g_autoptr(GError) e = NULL;
    assert_true(fits("/m", "/mm", NULL, &e));
    assert_true(fits("/m/n", "/m/nn", NULL, &e));
    assert_false(fits("/m", "/m/a", NULL, &e));
    assert_true(sx_error_is(e, SX_ERR_CONFIG));
    assert_non_null(strstr(e->message, "t.conf:4"));
    g_clear_error(&e);
    assert_false(fits("/m", "/m", NULL, &e));
    g_clear_error(&e);
    assert_false(fits("/m/n", "/m", NULL, &e));
    g_clear_error(&e);
    assert_false(fits("/m", "/a", "/m/cache", &e));
    assert_non_null(strstr(e->message, "cache-dir"));
    g_clear_error(&e);
    assert_false(fits("/s/m", "/a", NULL, &e));
    assert_non_null(strstr(e->message, "state-dir"));
}

/* ---- background ---- */

/* What the shell sees: the exit status of the process that called sx_background_fork. */
static int
status_of(int (*child)(int fd, const char *log), const char *log)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        g_autoptr(GError) e = NULL;
        int fd = sx_background_fork(&e);
        _exit(child(fd, log));
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int
child_comes_up(int fd, const char *log)
{
    g_autoptr(GError) e = NULL;
    return sx_background_ready(fd, log, &e) ? 7 : 8; /* nobody sees it */
}

static int
child_fails(int fd, const char *log)
{
    return 3;
}

static int
child_has_no_log(int fd, const char *log)
{
    g_autoptr(GError) e = NULL;
    int keep = dup(STDERR_FILENO);
    bool ok = sx_background_ready(fd, "/nonexistent/log", &e);
    close(keep);
    return ok || !sx_error_is(e, SX_ERR_NOT_FOUND) ? 0 : 9;
}

static void
the_parent_tells_how_the_start_went(void **state)
{
    g_autofree char *dir = g_dir_make_tmp("sx-bg-XXXXXX", NULL), *log = g_build_filename(dir, "log", NULL);
    assert_int_equal(status_of(child_comes_up, log), 0);
    assert_int_equal(status_of(child_fails, log), 3);
    assert_int_equal(status_of(child_has_no_log, log), 9);
    struct stat st;
    assert_int_equal(stat(log, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    g_unlink(log);
    g_rmdir(dir);
}

static void
a_large_log_is_set_aside(void **state)
{
    g_autofree char *dir = g_dir_make_tmp("sx-log-XXXXXX", NULL), *log = g_build_filename(dir, "log", NULL);
    g_autofree char *old = g_strconcat(log, ".1", NULL);
    int keep = dup(STDERR_FILENO), fd = open(log, O_CREAT | O_WRONLY, 0600);
    assert_int_equal(ftruncate(fd, SX_LOG_FILE_MAX + 1), 0);
    close(fd);
    bool ok = sx_background_open_log(log, NULL) && sx_background_open_log(log, NULL);
    assert_int_equal(dup2(keep, STDERR_FILENO), STDERR_FILENO);
    close(keep);
    struct stat st;
    assert_true(ok);
    assert_int_equal(stat(old, &st), 0);
    assert_int_equal(st.st_size, SX_LOG_FILE_MAX + 1);
    assert_int_equal(stat(log, &st), 0);
    assert_int_equal(st.st_size, 0);
    g_unlink(log);
    g_unlink(old);
    g_rmdir(dir);
}

/* ---- notifications ---- */

static void
texts_are_counted_and_escaped(void **state)
{
    static const char *const texts[] = {"nas/a<b>: \xff", "two", "three", "four"};
    g_autofree char *title = NULL, *body = NULL, *title1 = NULL, *body1 = NULL;
    sx_desktop_text("error", texts, 4, 9, &title, &body);
    assert_string_equal(title, "9 files could not be synchronised");
    assert_string_equal(body, "nas/a&lt;b&gt;: \xef\xbf\xbd\ntwo\nthree\nand 6 more: syncox status");
    sx_desktop_text("conflict", texts + 1, 1, 1, &title1, &body1);
    assert_string_equal(title1, "A file was changed on both sides");
    assert_string_equal(body1, "two");
    assert_true(sx_desktop_wants("held"));
    assert_false(sx_desktop_wants("uploaded"));
}

typedef struct Fake {
    GTestDBus *bus;
    GThread *thread;
    GMainContext *context;
    GMainLoop *loop;
    GAsyncQueue *got;   /* of GVariant: the arguments of each Notify */
    GMutex lock;
    GCond cond;
    bool named;         /* lock */
    GDBusNodeInfo *info;
} Fake;

static void
on_call(GDBusConnection *c, const char *sender, const char *path, const char *interface, const char *method, GVariant *args,
        GDBusMethodInvocation *call, void *data)
{
    Fake *f = data;
    g_dbus_method_invocation_return_value(call, g_variant_new("(u)", 42));
    g_async_queue_push(f->got, g_variant_ref(args));
}

static void
on_bus(GDBusConnection *c, const char *name, void *data)
{
    static const GDBusInterfaceVTable vtable = {.method_call = on_call};
    Fake *f = data;
    g_dbus_connection_register_object(c, "/org/freedesktop/Notifications", f->info->interfaces[0], &vtable, f, NULL, NULL);
}

static void
on_name(GDBusConnection *c, const char *name, void *data)
{
    Fake *f = data;
    g_mutex_lock(&f->lock);
    f->named = true;
    g_cond_signal(&f->cond);
    g_mutex_unlock(&f->lock);
}

static void *
serve(void *data)
{
    Fake *f = data;
    g_main_context_push_thread_default(f->context);
    guint id = g_bus_own_name(G_BUS_TYPE_SESSION, "org.freedesktop.Notifications", G_BUS_NAME_OWNER_FLAGS_NONE, on_bus, on_name, NULL, f, NULL);
    g_main_loop_run(f->loop);
    g_bus_unown_name(id);
    while (g_main_context_iteration(f->context, FALSE))
        ;
    g_main_context_pop_thread_default(f->context);
    return NULL;
}

static int
start_fake(void **state)
{
    static const char xml[] = "<node><interface name='org.freedesktop.Notifications'><method name='Notify'>"
                              "<arg type='s' direction='in'/><arg type='u' direction='in'/><arg type='s' direction='in'/>"
                              "<arg type='s' direction='in'/><arg type='s' direction='in'/><arg type='as' direction='in'/>"
                              "<arg type='a{sv}' direction='in'/><arg type='i' direction='in'/><arg type='u' direction='out'/>"
                              "</method></interface></node>";
    g_autofree char *daemon = g_find_program_in_path("dbus-daemon");
    bool blind = false;
#ifdef __SANITIZE_THREAD__
    blind = true;
#endif
    *state = NULL;
    if (daemon == NULL || blind)
        return 0;
    Fake *f = g_new0(Fake, 1);
    f->info = g_dbus_node_info_new_for_xml(xml, NULL);
    f->bus = g_test_dbus_new(G_TEST_DBUS_NONE);
    g_test_dbus_up(f->bus);
    f->got = g_async_queue_new_full((GDestroyNotify)g_variant_unref);
    f->context = g_main_context_new();
    f->loop = g_main_loop_new(f->context, FALSE);
    g_mutex_init(&f->lock);
    g_cond_init(&f->cond);
    f->thread = g_thread_new("fake-notifications", serve, f);
    g_mutex_lock(&f->lock);
    while (!f->named)
        g_cond_wait(&f->cond, &f->lock);
    g_mutex_unlock(&f->lock);
    *state = f;
    return 0;
}

static int
stop_fake(void **state)
{
    Fake *f = *state;
    if (f == NULL)
        return 0;
    g_main_loop_quit(f->loop);
    g_thread_join(f->thread);
    g_test_dbus_stop(f->bus);
    g_object_unref(f->bus);
    g_main_loop_unref(f->loop);
    g_main_context_unref(f->context);
    g_async_queue_unref(f->got);
    g_dbus_node_info_unref(f->info);
    g_mutex_clear(&f->lock);
    g_cond_clear(&f->cond);
    g_free(f);
    return 0;
}

static void
a_burst_becomes_two_notifications(void **state)
{
    Fake *f = *state;
    if (f == NULL) {
        print_message("dbus-daemon is missing, or the sanitizer cannot see the locks in GDBus's own thread\n");
        skip();
    }
    g_autoptr(SxEvents) events = sx_events_new(NULL, NULL);
    const SxDesktopOptions options = {.bus_address = g_test_dbus_get_bus_address(f->bus), .window_ms = 300};
    SxDesktop *d = sx_desktop_start(events, &options);
    sx_events_emit(events, 0, "uploaded", "nas", "nas/x", "nobody wants to know");
    sx_events_emit(events, 0, "error", "nas", "nas/0", "nas/0: refused");
    g_autoptr(GVariant) first = g_async_queue_pop(f->got);
    for (int i = 1; i <= 50; i++)
        sx_events_emit(events, 0, "error", "nas", NULL, "nas/%d: refused", i);
    g_autoptr(GVariant) second = g_async_queue_pop(f->got);

    const char *app, *icon, *title, *body;
    guint32 replaces;
    g_variant_get(first, "(&su&s&s&sasa{sv}i)", &app, &replaces, &icon, &title, &body, NULL, NULL, NULL);
    assert_string_equal(app, "syncoxfs");
    assert_int_equal(replaces, 0);
    assert_string_equal(title, "A file could not be synchronised");
    assert_string_equal(body, "nas/0: refused");
    g_variant_get(second, "(&su&s&s&sasa{sv}i)", &app, &replaces, &icon, &title, &body, NULL, NULL, NULL);
    assert_int_equal(replaces, 42);
    assert_string_equal(title, "50 files could not be synchronised");
    assert_true(g_str_has_suffix(body, "and 47 more: syncox status"));

    sx_events_emit(events, 0, "conflict", "nas", "nas/c", "nas/c: both kept"); /* another kind does not wait for the first's window */
    g_autoptr(GVariant) third = g_async_queue_pop(f->got);
    g_variant_get(third, "(&su&s&s&sasa{sv}i)", &app, &replaces, &icon, &title, &body, NULL, NULL, NULL);
    assert_int_equal(replaces, 0);
    assert_string_equal(body, "nas/c: both kept");
    sx_desktop_stop(d);
    assert_int_equal(g_async_queue_length(f->got), 0);
}

/* Nothing listens there; the events go on and the end does not hang. */
static void
silent_without_a_bus(void **state)
{
    g_autoptr(SxEvents) events = sx_events_new(NULL, NULL);
    const SxDesktopOptions options = {.bus_address = "unix:path=/nonexistent/bus", .window_ms = 1};
    SxDesktop *d = sx_desktop_start(events, &options);
    for (int i = 0; i < 2 * SX_DESKTOP_QUEUE; i++)
        sx_events_emit(events, 0, "error", NULL, NULL, "x");
    sx_desktop_stop(d);
    sx_desktop_stop(NULL);
}

int
main(void)
{
    g_unsetenv("DBUS_SESSION_BUS_ADDRESS");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_forms_of_the_command_line),
        cmocka_unit_test(wrong_command_lines),
        cmocka_unit_test(a_mount_point_must_be_a_directory),
        cmocka_unit_test(a_mount_may_not_contain_itself),
        cmocka_unit_test(the_parent_tells_how_the_start_went),
        cmocka_unit_test(a_large_log_is_set_aside),
        cmocka_unit_test(texts_are_counted_and_escaped),
        cmocka_unit_test(silent_without_a_bus),
        cmocka_unit_test_setup_teardown(a_burst_becomes_two_notifications, start_fake, stop_fake),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
