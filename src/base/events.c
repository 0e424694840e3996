/* Two locks. `file_lock` is taken first and makes the lines of the file stand in the order of their numbers; `lock` guards
 * what is in memory and is never held across the write or a listener, so that a slow disk delays emitters only. */
#include "base/events.h"
#include "base/error.h"
#include "base/sys.h"
#include "base/units.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <string.h>
#include <unistd.h>

typedef struct Listener {
    guint id;
    SxEventFn fn;
    void *data;
    guint running; /* calls in progress (lock) */
} Listener;

struct SxEvents {
    GMutex lock;
    GCond changed;        /* an event came, or a listener's call ended */
    GQueue ring;          /* of SxEvent, oldest first, at most SX_EVENTS_RING (lock) */
    guint64 last_seq;     /* (lock) */
    GPtrArray *listeners; /* of Listener (lock) */
    guint last_id;        /* (lock) */

    GMutex file_lock;
    char *path;       /* NULL: memory only; constant */
    int fd;           /* -1: not open (file_lock) */
    gint64 file_size; /* (file_lock) */
};

static SxEvent *
event_copy(const SxEvent *e)
{
    SxEvent *c = g_new(SxEvent, 1);
    *c = (SxEvent){.seq = e->seq,
                   .real_ns = e->real_ns,
                   .kind = g_strdup(e->kind),
                   .provider = g_strdup(e->provider),
                   .path = g_strdup(e->path),
                   .text = g_strdup(e->text)};
    return c;
}

static void
event_free(void *p)
{
    SxEvent *e = p;
    g_free((char *)e->kind);
    g_free((char *)e->provider);
    g_free((char *)e->path);
    g_free((char *)e->text);
    g_free(e);
}

static bool
open_file(SxEvents *ev, GError **error)
{
    ev->fd = open(ev->path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    struct stat st;
    if (ev->fd < 0 || fstat(ev->fd, &st) != 0)
        return sx_fail_errno(error, errno, "%s", ev->path);
    ev->file_size = st.st_size;
    return true;
}

SxEvents *
sx_events_new(const char *state_dir, GError **error)
{
    g_autoptr(SxEvents) ev = g_new0(SxEvents, 1);
    g_mutex_init(&ev->lock);
    g_mutex_init(&ev->file_lock);
    g_cond_init(&ev->changed);
    ev->listeners = g_ptr_array_new_with_free_func(g_free);
    ev->fd = -1;
    if (state_dir != NULL) {
        int err = sx_sys_mkdirs(sx_sys_default(), state_dir);
        if (err != 0) {
            sx_fail_errno(error, -err, "%s", state_dir);
            return NULL;
        }
        ev->path = g_build_filename(state_dir, "events.jsonl", NULL);
        if (!open_file(ev, error))
            return NULL;
    }
    return g_steal_pointer(&ev);
}

void
sx_events_free(SxEvents *ev)
{
    if (ev == NULL)
        return;
    g_queue_clear_full(&ev->ring, event_free);
    g_ptr_array_unref(ev->listeners);
    if (ev->fd >= 0)
        close(ev->fd);
    g_free(ev->path);
    g_cond_clear(&ev->changed);
    g_mutex_clear(&ev->file_lock);
    g_mutex_clear(&ev->lock);
    g_free(ev);
}

/* One older file is kept. A file that cannot be renamed is written on: losing events would be worse than its size. */
static void
rotate(SxEvents *ev)
{
    g_autofree char *old = g_strconcat(ev->path, ".1", NULL);
    if (rename(ev->path, old) != 0)
        return;
    close(ev->fd);
    ev->fd = -1;
    open_file(ev, NULL);
}

/* A full disk must not stop the program: the event is still in memory, and the file goes on at the next one. */
static void
append(SxEvents *ev, const SxEvent *event)
{
    g_autofree char *json = sx_event_to_json(event);
    g_autofree char *line = g_strconcat(json, "\n", NULL);
    gsize n = strlen(line);
    if (ev->fd >= 0 && ev->file_size + (gint64)n > SX_EVENTS_FILE_MAX)
        rotate(ev);
    if (ev->fd < 0 && !open_file(ev, NULL))
        return;
    ssize_t w = write(ev->fd, line, n);
    if (w > 0)
        ev->file_size += w;
    if (w > 0 && (gsize)w < n && ftruncate(ev->fd, ev->file_size - w) == 0)
        ev->file_size -= w; /* no half line stays behind */
}

/* Calls the listeners that exist now, without the lock; `running` keeps unlisten from returning too early. */
static void
tell_listeners(SxEvents *ev, const SxEvent *event)
{
    g_autoptr(GPtrArray) now = g_ptr_array_new();
    g_mutex_lock(&ev->lock);
    for (guint i = 0; i < ev->listeners->len; i++) {
        Listener *l = ev->listeners->pdata[i];
        l->running++;
        g_ptr_array_add(now, l);
    }
    g_mutex_unlock(&ev->lock);
    for (guint i = 0; i < now->len; i++) {
        Listener *l = now->pdata[i];
        l->fn(event, l->data);
        g_mutex_lock(&ev->lock);
        l->running--;
        g_cond_broadcast(&ev->changed);
        g_mutex_unlock(&ev->lock);
    }
}

void
sx_events_emit(SxEvents *ev, gint64 real_ns, const char *kind, const char *provider, const char *path, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    g_autofree char *text = g_strdup_vprintf(format, ap);
    va_end(ap);
    SxEvent e = {.real_ns = real_ns, .kind = kind, .provider = provider, .path = path, .text = text};

    g_mutex_lock(&ev->file_lock);
    g_mutex_lock(&ev->lock);
    e.seq = ++ev->last_seq;
    g_queue_push_tail(&ev->ring, event_copy(&e));
    if (ev->ring.length > SX_EVENTS_RING)
        event_free(g_queue_pop_head(&ev->ring));
    g_cond_broadcast(&ev->changed);
    g_mutex_unlock(&ev->lock);
    if (ev->path != NULL)
        append(ev, &e);
    g_mutex_unlock(&ev->file_lock);

    tell_listeners(ev, &e);
}

guint
sx_events_listen(SxEvents *ev, SxEventFn fn, void *data)
{
    Listener *l = g_new0(Listener, 1);
    l->fn = fn;
    l->data = data;
    g_mutex_lock(&ev->lock);
    guint id = l->id = ++ev->last_id;
    g_ptr_array_add(ev->listeners, l);
    g_mutex_unlock(&ev->lock);
    return id;
}

void
sx_events_unlisten(SxEvents *ev, guint id)
{
    Listener *l = NULL;
    g_mutex_lock(&ev->lock);
    for (guint i = 0; i < ev->listeners->len && l == NULL; i++)
        if (((Listener *)ev->listeners->pdata[i])->id == id)
            l = g_ptr_array_steal_index(ev->listeners, i);
    while (l != NULL && l->running > 0)
        g_cond_wait(&ev->changed, &ev->lock);
    g_mutex_unlock(&ev->lock);
    g_free(l);
}

guint64
sx_events_since(SxEvents *ev, guint64 after, SxEventFn fn, void *data)
{
    g_autoptr(GPtrArray) found = g_ptr_array_new_with_free_func(event_free);
    g_mutex_lock(&ev->lock);
    guint64 newest = ev->last_seq;
    for (GList *i = ev->ring.tail; i != NULL && ((SxEvent *)i->data)->seq > after; i = i->prev)
        g_ptr_array_add(found, event_copy(i->data));
    g_mutex_unlock(&ev->lock);
    for (guint i = found->len; i > 0; i--)
        fn(found->pdata[i - 1], data);
    return newest;
}

bool
sx_events_wait(SxEvents *ev, guint64 after, gint64 timeout_ms)
{
    gint64 end = g_get_monotonic_time() + MAX(timeout_ms, 0) * 1000;
    g_mutex_lock(&ev->lock);
    while (ev->last_seq <= after && g_cond_wait_until(&ev->changed, &ev->lock, end))
        continue;
    bool newer = ev->last_seq > after;
    g_mutex_unlock(&ev->lock);
    return newer;
}

/* JSON holds text, a path holds bytes: what is not UTF-8 is shown with U+FFFD, and exactly in base 64 beside it. */
static void
set_bytes(json_t *o, const char *key, const char *value)
{
    if (value == NULL)
        return;
    g_autofree char *valid = g_utf8_make_valid(value, -1);
    json_object_set_new(o, key, json_string(valid));
    if (g_utf8_validate(value, -1, NULL))
        return;
    g_autofree char *b64 = g_base64_encode((const guchar *)value, strlen(value));
    g_autofree char *b64_key = g_strconcat(key, "_b64", NULL);
    json_object_set_new(o, b64_key, json_string(b64));
}

char *
sx_event_to_json(const SxEvent *e)
{
    g_autofree char *when = sx_format_time(e->real_ns);
    json_t *o = json_object();
    json_object_set_new(o, "seq", json_integer((json_int_t)e->seq));
    json_object_set_new(o, "time", json_string(when));
    set_bytes(o, "kind", e->kind);
    set_bytes(o, "provider", e->provider);
    set_bytes(o, "path", e->path);
    set_bytes(o, "text", e->text);
    char *dumped = json_dumps(o, JSON_COMPACT);
    json_decref(o);
    char *out = g_strdup(dumped);
    free(dumped);
    return out;
}
