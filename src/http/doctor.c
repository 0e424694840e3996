/* The checks of `syncox doctor`: a table; each says ok, warn or fail in one sentence, with a remedy where there is one. */
#include "http/api_i.h"

#include <errno.h>
#include <fcntl.h>
#include <gio/gunixmounts.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define SX_DOCTOR_WATCHES 65536 /* fewer inotify watches than this are soon used up by a folder of some size */
#define SX_DOCTOR_BUS_MS 3000

typedef struct Doctor {
    const SxDoctorOptions *o;
    const SxConf *conf; /* NULL: not readable, or not wanted */
    json_t *list;
} Doctor;

typedef enum Result { OK, WARN, FAIL } Result;

static void report(Doctor *d, const char *check, Result result, const char *remedy, const char *format, ...) G_GNUC_PRINTF(5, 6);

static void
report(Doctor *d, const char *check, Result result, const char *remedy, const char *format, ...)
{
    static const char *const words[] = {[OK] = "ok", [WARN] = "warn", [FAIL] = "fail"};
    va_list ap;
    va_start(ap, format);
    g_autofree char *raw = g_strdup_vprintf(format, ap);
    va_end(ap);
    g_autofree char *text = g_utf8_make_valid(raw, -1);
    json_t *doc = json_pack("{s:s, s:s, s:s}", "check", check, "result", words[result], "message", text);
    if (remedy != NULL && result != OK)
        json_object_set_new(doc, "remedy", json_string(remedy));
    json_array_append_new(d->list, doc);
}

/* ---- the machine ---- */

static void
check_fuse(Doctor *d, const char *check)
{
    g_auto(SxFd) fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    if (fd >= 0)
        report(d, check, OK, NULL, "/dev/fuse can be opened");
    else
        report(d, check, FAIL, errno == ENOENT ? "load the kernel module: modprobe fuse; in a container: give it --device /dev/fuse"
                                               : "let your user open /dev/fuse (on most systems its mode is 0666)",
               "/dev/fuse: %s", g_strerror(errno));
}

static void
check_fusermount(Doctor *d, const char *check)
{
    g_autofree char *path = g_find_program_in_path("fusermount3");
    struct stat st;
    if (path == NULL)
        report(d, check, geteuid() == 0 ? WARN : FAIL, "install the package fuse3", "fusermount3 is not in PATH");
    else if (geteuid() != 0 && (stat(path, &st) != 0 || (st.st_mode & S_ISUID) == 0))
        report(d, check, FAIL, "chmod u+s it, or install the package fuse3 again", "%s is not setuid root: users cannot mount", path);
    else
        report(d, check, OK, NULL, "%s", path);
}

static gint64
read_number(const char *file)
{
    g_autofree char *text = NULL;
    return g_file_get_contents(file, &text, NULL, NULL) ? g_ascii_strtoll(text, NULL, 10) : -1;
}

static void
check_inotify(Doctor *d, const char *check)
{
    gint64 watches = read_number("/proc/sys/fs/inotify/max_user_watches");
    gint64 instances = read_number("/proc/sys/fs/inotify/max_user_instances");
    if (watches < 0)
        report(d, check, WARN, NULL, "the kernel does not tell its inotify limits");
    else if (watches < SX_DOCTOR_WATCHES)
        report(d, check, WARN, "sysctl fs.inotify.max_user_watches=524288 (keep it in /etc/sysctl.d)",
               "%" G_GINT64_FORMAT " watches a user: large local folders are then polled instead", watches);
    else
        report(d, check, OK, NULL, "%" G_GINT64_FORMAT " watches, %" G_GINT64_FORMAT " instances a user", watches, instances);
}

static void
check_mounts(Doctor *d, const char *check)
{
    GList *mounts = g_unix_mounts_get(NULL);
    guint live = 0, stale = 0;
    for (GList *l = mounts; l != NULL; l = l->next) {
        const char *path = g_unix_mount_get_mount_path(l->data);
        struct statvfs fs; /* the kernel answers stat() from its cache, also for the dead */
        if (strcmp(g_unix_mount_get_fs_type(l->data), "fuse.syncoxfs") != 0)
            continue;
        if (statvfs(path, &fs) == 0 || errno != ENOTCONN) {
            live++;
            continue;
        }
        stale++;
        g_autofree char *remedy = g_strdup_printf("mount again there, or: fusermount3 -u %s", path);
        report(d, check, FAIL, remedy, "%s: the process behind it has died", path);
    }
    g_list_free_full(mounts, (GDestroyNotify)g_unix_mount_free);
    if (stale == 0)
        report(d, check, OK, NULL, "%u syncoxfs mounted, none of them dead", live);
}

/* An address is made only where a bus is: asking GDBus without one would start a daemon. */
static GDBusConnection *
session_bus(GError **error)
{
    g_autofree char *path = g_build_filename(g_get_user_runtime_dir(), "bus", NULL);
    g_autofree char *address = g_strdup(g_getenv("DBUS_SESSION_BUS_ADDRESS"));
    if (address == NULL && g_file_test(path, G_FILE_TEST_EXISTS))
        address = g_strdup_printf("unix:path=%s", path);
    if (address == NULL) {
        sx_fail(error, SX_ERR_NOT_FOUND, "there is none");
        return NULL;
    }
    return g_dbus_connection_new_for_address_sync(
        address, G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_CLIENT | G_DBUS_CONNECTION_FLAGS_MESSAGE_BUS_CONNECTION, NULL, NULL, error);
}

static bool
bus_has(GDBusConnection *bus, const char *name)
{
    static const char *const lists[] = {"ListNames", "ListActivatableNames"};
    for (guint i = 0; i < G_N_ELEMENTS(lists); i++) {
        g_autoptr(GVariant) r = g_dbus_connection_call_sync(bus, "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus",
                                                            lists[i], NULL, G_VARIANT_TYPE("(as)"), G_DBUS_CALL_FLAGS_NONE,
                                                            SX_DOCTOR_BUS_MS, NULL, NULL);
        g_autofree const char **names = NULL;
        if (r != NULL)
            g_variant_get(r, "(^a&s)", &names);
        if (names != NULL && g_strv_contains(names, name))
            return true;
    }
    return false;
}

static void
check_bus(Doctor *d, const char *check)
{
    g_autoptr(GError) why = NULL;
    g_autoptr(GDBusConnection) bus = session_bus(&why);
    if (bus == NULL) {
        report(d, check, WARN, "log in through a desktop or a systemd user session", "no session bus (%s): no notifications, no keyring", why->message);
        return;
    }
    bool notify = bus_has(bus, "org.freedesktop.Notifications"), keyring = bus_has(bus, "org.freedesktop.secrets");
    if (notify && keyring)
        report(d, check, OK, NULL, "session bus with notifications and keyring");
    else
        report(d, check, WARN, keyring ? NULL : "install gnome-keyring or KWallet, or use password-command",
               "session bus without %s%s%s", notify ? "" : "notifications", notify || keyring ? "" : " and ", keyring ? "" : "keyring");
    g_dbus_connection_close_sync(bus, NULL, NULL);
}

/* ---- the configuration ---- */

/* Returns a configuration that the caller frees, or NULL. */
static SxConf *
check_config(Doctor *d, const char *check)
{
    g_autofree char *file = d->o->config_file != NULL ? g_strdup(d->o->config_file) : sx_conf_default_path();
    g_autoptr(GError) why = NULL;
    SxConf *conf;
    if (d->o->config_file == NULL && !g_file_test(file, G_FILE_TEST_EXISTS)) {
        const char *text = sx_conf_embedded_default();
        conf = sx_conf_parse(text, strlen(text), "embedded default", sx_registry_options, (void *)d->o->registry, &why);
        if (conf != NULL)
            report(d, check, OK, NULL, "%s is not there: the embedded default is used (one local provider, Files)", file);
    } else {
        conf = sx_conf_load(file, sx_registry_options, (void *)d->o->registry, &why);
        if (conf != NULL)
            report(d, check, OK, NULL, "%s: %u providers", file, sx_conf_n_providers(conf));
    }
    if (conf == NULL)
        report(d, check, FAIL, "mend that line; man syncoxfs.conf explains every key", "%s", why->message);
    return conf;
}

/* The nearest part of a path that exists: where a directory would be made. */
static char *
existing_part(const char *path)
{
    g_autofree char *p = g_strdup(path);
    while (!g_file_test(p, G_FILE_TEST_EXISTS) && strcmp(p, "/") != 0 && strcmp(p, ".") != 0) {
        char *up = g_path_get_dirname(p);
        g_free(p);
        p = up;
    }
    return g_steal_pointer(&p);
}

static void
check_dir(Doctor *d, const char *check, const char *dir, gint64 min_free)
{
    g_autofree char *there = existing_part(dir);
    struct statvfs fs;
    if (!g_file_test(there, G_FILE_TEST_IS_DIR))
        report(d, check, FAIL, "remove it, or name another directory in the configuration", "%s: %s is not a directory", dir, there);
    else if (access(there, R_OK | W_OK | X_OK) != 0)
        report(d, check, FAIL, "make it yours (chown, chmod), or name another directory in the configuration", "%s: %s", there, g_strerror(errno));
    else if (statvfs(there, &fs) != 0)
        report(d, check, FAIL, NULL, "%s: %s", there, g_strerror(errno));
    else {
        gint64 left = (gint64)fs.f_bavail * (gint64)fs.f_frsize;
        g_autofree char *free_text = sx_format_size(left), *min_text = sx_format_size(min_free);
        if (left < min_free)
            report(d, check, FAIL, "free some space, or lower min-free", "%s: %s free, less than min-free (%s): writes fail", dir, free_text, min_text);
        else
            report(d, check, OK, NULL, "%s: %s free", dir, free_text);
    }
}

static void
check_dirs(Doctor *d, const char *check)
{
    const SxSection *g = sx_conf_global(d->conf);
    const char *cache = d->o->cache_dir != NULL ? d->o->cache_dir : sx_section_string(g, "cache-dir");
    const char *state = d->o->state_dir != NULL ? d->o->state_dir : sx_section_string(g, "state-dir");
    check_dir(d, "cache-dir", cache, sx_section_int(g, "min-free"));
    check_dir(d, "state-dir", state, 0);
}

/* ---- the providers ---- */

static void
report_probe(Doctor *d, const char *check, SxProvider *p, const GError *why)
{
    if (why == NULL)
        report(d, check, OK, NULL, "%s (%s) answers", sx_provider_name(p), sx_provider_type_name(p));
    else
        report(d, check, FAIL, sx_error_remedy(why), "%s", why->message);
}

static void
probe_mounted(void *data, int id, SxProvider *p, gint64 root)
{
    Doctor *d = data;
    g_autoptr(GError) why = NULL;
    sx_transfer_probe(sx_vfs_transfer(d->o->vfs), id, d->o->cancel, &why);
    report_probe(d, "provider", p, why);
    g_autofree char *held = NULL;
    if (sx_transfer_held(sx_vfs_transfer(d->o->vfs), id, &held))
        report(d, "provider", WARN, "look at the provider; if it is right: syncox refresh --accept PATH", "%s: %s", sx_provider_name(p), held);
}

static void
probe_configured(Doctor *d, const SxSection *section)
{
    g_autoptr(GError) why = NULL;
    g_autoptr(SxProvider) p = sx_provider_open(d->o->registry, section, NULL, sx_sys_default(), sx_clock_default(), &why);
    if (p == NULL) {
        report(d, "provider", FAIL, sx_error_remedy(why), "%s", why->message);
        return;
    }
    sx_provider_probe(p, d->o->cancel, &why);
    report_probe(d, "provider", p, why);
}

static void
check_providers(Doctor *d, const char *check)
{
    if (d->o->vfs != NULL)
        sx_transfer_each_provider(sx_vfs_transfer(d->o->vfs), probe_mounted, d);
    else
        for (guint i = 0; d->conf != NULL && i < sx_conf_n_providers(d->conf); i++)
            probe_configured(d, sx_conf_provider(d->conf, i));
}

/* ---- the running mount ---- */

static void
check_store(Doctor *d, const char *check)
{
    g_autoptr(GError) why = NULL;
    if (sx_tree_check(sx_vfs_tree(d->o->vfs), &why))
        report(d, check, OK, NULL, "the store of the mount is sound");
    else
        report(d, check, FAIL, "please report this with the text; nothing has been deleted", "%s", why->message);
}

static void
check_pending(Doctor *d, const char *check)
{
    SxCounts n;
    sx_tree_counts(sx_vfs_tree(d->o->vfs), 0, &n);
    if (n.parked > 0)
        report(d, check, FAIL, "syncox status says which and why; syncox flush tries again", "%" G_GINT64_FORMAT " changes cannot be uploaded", n.parked);
    else if (n.conflicts > 0)
        report(d, check, WARN, "syncox conflicts lists them: keep what you want, delete the copy", "%" G_GINT64_FORMAT " conflict copies", n.conflicts);
    else
        report(d, check, OK, NULL, "%" G_GINT64_FORMAT " changes on their way", n.pending);
}

static void
check_absent(Doctor *d, const char *check)
{
    g_autoptr(GPtrArray) absent = sx_tree_absent(sx_vfs_tree(d->o->vfs));
    for (guint i = 0; i < absent->len; i++) {
        const SxAbsent *a = absent->pdata[i];
        g_autofree char *remedy = g_strdup_printf("put [provider %s] back into the configuration and mount again", a->name);
        report(d, check, WARN, remedy, "%s is no longer in the configuration: %" G_GINT64_FORMAT " changes for it are kept and wait", a->name, a->pending);
    }
}

static void
check_no_mount(Doctor *d)
{
    report(d, "mount", WARN, "syncoxfs MOUNTPOINT, or contrib/setup mount", "no syncoxfs is running");
}

json_t *
sx_doctor(const SxDoctorOptions *options)
{
    static const struct {
        const char *name;
        void (*fn)(Doctor *d, const char *check);
        enum { ALWAYS, WITH_CONF, WITH_MOUNT } when;
    } checks[] = {
        {"fuse", check_fuse, ALWAYS},           {"fusermount3", check_fusermount, ALWAYS}, {"inotify", check_inotify, ALWAYS},
        {"mounts", check_mounts, ALWAYS},       {"session-bus", check_bus, ALWAYS},        {"directories", check_dirs, WITH_CONF},
        {"providers", check_providers, ALWAYS}, {"store", check_store, WITH_MOUNT},        {"changes", check_pending, WITH_MOUNT},
        {"provider", check_absent, WITH_MOUNT},
    };
    Doctor d = {.o = options, .conf = options->conf, .list = json_array()};
    g_autoptr(SxConf) own = options->conf == NULL && options->registry != NULL ? check_config(&d, "configuration") : NULL;
    if (own != NULL)
        d.conf = own;
    for (guint i = 0; i < G_N_ELEMENTS(checks); i++)
        if (checks[i].when == ALWAYS || (checks[i].when == WITH_CONF && d.conf != NULL) ||
            (checks[i].when == WITH_MOUNT && options->vfs != NULL))
            checks[i].fn(&d, checks[i].name);
    if (options->vfs == NULL)
        check_no_mount(&d);
    return d.list;
}
