#include "daemon/notify_desktop.h"

#include "base/log.h"

#include <gio/gio.h>
#include <string.h>

#define SX_DESKTOP_SHOWN 3 /* events named in one notification, the others are counted */
#define SX_DESKTOP_CALL_MS 5000

static const struct Kind {
    const char *kind;
    const char *one, *many; /* %u */
    const char *icon;
    guchar urgency;         /* 1 normal, 2 critical: stays until dismissed */
} kinds[] = {
    {"error", "A file could not be synchronised", "%u files could not be synchronised", "dialog-error", 1},
    {"conflict", "A file was changed on both sides", "%u files were changed on both sides", "dialog-warning", 1},
    {"held", "Many deletions are held back", "%u times many deletions are held back", "dialog-warning", 2},
    {"offline", "A provider is not reachable", "%u times a provider was not reachable", "network-offline", 0},
};
#define N_KINDS G_N_ELEMENTS(kinds)

struct SxDesktop {
    SxEvents *events;
    guint listener;
    char *address;
    gint64 window_ms;
    GThread *thread;
    GMutex lock;
    GCond cond;
    GPtrArray *texts[N_KINDS];   /* lock: at most SX_DESKTOP_QUEUE, of char* */
    guint count[N_KINDS];        /* lock: events since the last notification of the kind */
    bool stop;                   /* lock */
    gint64 next_ms[N_KINDS];     /* thread: not before */
    guint32 shown_id[N_KINDS];   /* thread: the server's, to be replaced while it is still shown */
    GDBusConnection *bus;        /* thread */
};

static int
find_kind(const char *kind)
{
    for (guint i = 0; i < N_KINDS; i++)
        if (strcmp(kinds[i].kind, kind) == 0)
            return (int)i;
    return -1;
}

bool
sx_desktop_wants(const char *kind)
{
    return find_kind(kind) >= 0;
}

void
sx_desktop_text(const char *kind, const char *const *texts, guint n_given, guint n, char **ret_title, char **ret_body)
{
    const struct Kind *k = &kinds[MAX(find_kind(kind), 0)];
    *ret_title = n == 1 ? g_strdup(k->one) : NULL;
    if (n != 1) {
        g_auto(GStrv) halves = g_strsplit(k->many, "%u", 2);
        *ret_title = g_strdup_printf("%s%u%s", halves[0], n, halves[1]);
    }
    GString *body = g_string_new(NULL);
    guint named = MIN(n_given, SX_DESKTOP_SHOWN);
    for (guint i = 0; i < named; i++) {
        g_autofree char *valid = g_utf8_make_valid(texts[i], -1);
        g_autofree char *escaped = g_markup_escape_text(valid, -1);
        g_string_append_printf(body, "%s%s", i > 0 ? "\n" : "", escaped);
    }
    if (n > named)
        g_string_append_printf(body, "\nand %u more: syncox status", n - named);
    *ret_body = g_string_free(body, FALSE);
}

/* On the emitting thread: takes note, nothing more. */
static void
on_event(const SxEvent *event, void *data)
{
    SxDesktop *d = data;
    int k = find_kind(event->kind);
    if (k < 0)
        return;
    g_mutex_lock(&d->lock);
    d->count[k]++;
    if (d->texts[k]->len < SX_DESKTOP_QUEUE)
        g_ptr_array_add(d->texts[k], g_strdup(event->text != NULL ? event->text : ""));
    g_cond_signal(&d->cond);
    g_mutex_unlock(&d->lock);
}

/* Only where a bus is: asking GDBus for one would start it. */
static char *
session_address(void)
{
    const char *address = g_getenv("DBUS_SESSION_BUS_ADDRESS");
    g_autofree char *path = g_build_filename(g_get_user_runtime_dir(), "bus", NULL);
    if (address != NULL)
        return g_strdup(address);
    return g_file_test(path, G_FILE_TEST_EXISTS) ? g_strdup_printf("unix:path=%s", path) : NULL;
}

static bool
connect_bus(SxDesktop *d)
{
    if (d->bus != NULL && !g_dbus_connection_is_closed(d->bus))
        return true;
    g_clear_object(&d->bus);
    g_autofree char *address = d->address != NULL ? g_strdup(d->address) : session_address();
    g_autoptr(GError) why = NULL;
    if (address != NULL)
        d->bus = g_dbus_connection_new_for_address_sync(
            address, G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_CLIENT | G_DBUS_CONNECTION_FLAGS_MESSAGE_BUS_CONNECTION, NULL, NULL, &why);
    if (d->bus == NULL)
        sx_debug("no desktop notification: %s", why != NULL ? why->message : "no session bus");
    return d->bus != NULL;
}

static void
show(SxDesktop *d, guint k, GPtrArray *texts, guint n)
{
    if (!connect_bus(d))
        return;
    g_autofree char *title = NULL, *body = NULL;
    sx_desktop_text(kinds[k].kind, (const char *const *)texts->pdata, texts->len, n, &title, &body);
    GVariantBuilder hints;
    g_variant_builder_init(&hints, G_VARIANT_TYPE_VARDICT);
    g_variant_builder_add(&hints, "{sv}", "urgency", g_variant_new_byte(kinds[k].urgency));
    g_variant_builder_add(&hints, "{sv}", "category", g_variant_new_string("transfer"));
    g_autoptr(GError) why = NULL;
    g_autoptr(GVariant) reply = g_dbus_connection_call_sync(
        d->bus, "org.freedesktop.Notifications", "/org/freedesktop/Notifications", "org.freedesktop.Notifications", "Notify",
        g_variant_new("(susssasa{sv}i)", "syncoxfs", d->shown_id[k], kinds[k].icon, title, body, NULL, &hints, -1),
        G_VARIANT_TYPE("(u)"), G_DBUS_CALL_FLAGS_NONE, SX_DESKTOP_CALL_MS, NULL, &why);
    if (reply != NULL)
        g_variant_get(reply, "(u)", &d->shown_id[k]);
    else
        sx_debug("no desktop notification: %s", why->message);
}

/* The kind that may be shown now, or -1 and when (monotonic us; G_MAXINT64: nothing waits). With lock. */
static int
due_kind(SxDesktop *d, gint64 *ret_until_us)
{
    gint64 now = g_get_monotonic_time();
    *ret_until_us = G_MAXINT64;
    for (guint k = 0; k < N_KINDS; k++) {
        if (d->count[k] == 0)
            continue;
        if (d->next_ms[k] * 1000 <= now)
            return (int)k;
        *ret_until_us = MIN(*ret_until_us, d->next_ms[k] * 1000);
    }
    return -1;
}

static void *
run(void *data)
{
    SxDesktop *d = data;
    g_mutex_lock(&d->lock);
    while (!d->stop) {
        gint64 until_us;
        int k = due_kind(d, &until_us);
        if (k < 0) {
            if (until_us == G_MAXINT64)
                g_cond_wait(&d->cond, &d->lock);
            else
                g_cond_wait_until(&d->cond, &d->lock, until_us);
            continue;
        }
        g_autoptr(GPtrArray) texts = d->texts[k];
        guint n = d->count[k];
        d->texts[k] = g_ptr_array_new_with_free_func(g_free);
        d->count[k] = 0;
        d->next_ms[k] = g_get_monotonic_time() / 1000 + d->window_ms;
        g_mutex_unlock(&d->lock);
        show(d, (guint)k, texts, n);
        g_mutex_lock(&d->lock);
    }
    g_mutex_unlock(&d->lock);
    return NULL;
}

SxDesktop *
sx_desktop_start(SxEvents *events, const SxDesktopOptions *o)
{
    SxDesktop *d = g_new0(SxDesktop, 1);
    d->events = events;
    d->address = g_strdup(o->bus_address);
    d->window_ms = o->window_ms > 0 ? o->window_ms : SX_DESKTOP_WINDOW_MS;
    g_mutex_init(&d->lock);
    g_cond_init(&d->cond);
    for (guint k = 0; k < N_KINDS; k++)
        d->texts[k] = g_ptr_array_new_with_free_func(g_free);
    d->thread = g_thread_new("sx-desktop", run, d);
    d->listener = sx_events_listen(events, on_event, d);
    return d;
}

void
sx_desktop_stop(SxDesktop *d)
{
    if (d == NULL)
        return;
    sx_events_unlisten(d->events, d->listener);
    g_mutex_lock(&d->lock);
    d->stop = true;
    g_cond_signal(&d->cond);
    g_mutex_unlock(&d->lock);
    g_thread_join(d->thread);
    for (guint k = 0; k < N_KINDS; k++)
        g_ptr_array_unref(d->texts[k]);
    if (d->bus != NULL)
        g_dbus_connection_close_sync(d->bus, NULL, NULL);
    g_clear_object(&d->bus);
    g_mutex_clear(&d->lock);
    g_cond_clear(&d->cond);
    g_free(d->address);
    g_free(d);
}
