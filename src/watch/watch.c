/* Directory changes by inotify(7), used directly.
 *
 * libinotifytools was meant to stand here, and proved unfit for a service (3.22.6, as shipped by Debian 12, and its newest
 * source of 2025 alike):
 *  - Its descriptor is a static variable that no function gives out, and inotifytools_next_events() waits for it in select() with
 *    a timeout in whole seconds. So the waiting thread cannot also wait for a cancellation or a new directory.
 *  - inotifytools_watch_files() and the event functions share static variables (the loop index, the buffer, the names by
 *    watch number) and no lock. With one thread waiting as above, the other cannot be let in to add a watch; waiting in
 *    short turns would delay every new directory by a second, in which changes are missed, and keep an idle machine awake.
 *  - A directory is added by path alone and then stat()ed again by path: a rename between gives it the wrong name. We add the
 *    descriptor that was opened below the provider's folder, through /proc/self/fd.
 *  - FD_SET() on that descriptor writes beyond its array when its number is 1024 or more. */
#include "watch/watch.h"

#include "base/log.h"
#include "base/sys.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <unistd.h>

#define BUFFER (64 * 1024)
#define MASK                                                                                                           \
    (IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_MODIFY | IN_CLOSE_WRITE | IN_ATTRIB | IN_DELETE_SELF |    \
     IN_MOVE_SELF | IN_ONLYDIR | IN_EXCL_UNLINK)

struct SxWatch {
    int fd;   /* inotify; the kernel makes adding and reading safe for several threads */
    int wake; /* eventfd: the runner must look at `limited` */
    GMutex lock;
    GHashTable *by_key; /* char* -> wd; owns the key; guarded by lock */
    GHashTable *by_wd;  /* wd -> char* (the same string); guarded by lock */
    bool limited;       /* max_user_watches was reached; guarded by lock */
};

SxWatch *
sx_watch_new(GError **error)
{
    int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    int wake = fd >= 0 ? eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC) : -1;
    if (wake < 0) {
        sx_fail_errno(error, errno, fd < 0 ? "inotify (fs.inotify.max_user_instances)" : "eventfd");
        if (fd >= 0)
            close(fd);
        return NULL;
    }
    SxWatch *w = g_new0(SxWatch, 1);
    w->fd = fd;
    w->wake = wake;
    g_mutex_init(&w->lock);
    w->by_key = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    w->by_wd = g_hash_table_new(g_direct_hash, g_direct_equal);
    return w;
}

void
sx_watch_free(SxWatch *w)
{
    if (w == NULL)
        return;
    close(w->fd);
    close(w->wake);
    g_hash_table_unref(w->by_wd);
    g_hash_table_unref(w->by_key);
    g_mutex_clear(&w->lock);
    g_free(w);
}

/* ---- which directories ---- */

/* lock is held */
static void
forget_wd(SxWatch *w, int wd)
{
    char *key = g_hash_table_lookup(w->by_wd, GINT_TO_POINTER(wd));
    if (key == NULL)
        return;
    g_hash_table_remove(w->by_wd, GINT_TO_POINTER(wd));
    g_hash_table_remove(w->by_key, key);
}

static bool
at_or_below(const char *key, const char *top)
{
    gsize n = strlen(top);
    return n == 0 || (strncmp(key, top, n) == 0 && (key[n] == '/' || key[n] == '\0'));
}

/* lock is held */
static void
drop_below(SxWatch *w, const char *top)
{
    GHashTableIter it;
    gpointer key, wd;
    g_hash_table_iter_init(&it, w->by_key);
    while (g_hash_table_iter_next(&it, &key, &wd))
        if (at_or_below(key, top)) {
            inotify_rm_watch(w->fd, GPOINTER_TO_INT(wd));
            g_hash_table_remove(w->by_wd, wd);
            g_hash_table_iter_remove(&it);
        }
}

/* lock is held */
static void
remember(SxWatch *w, int wd, const char *key)
{
    const char *old = g_hash_table_lookup(w->by_wd, GINT_TO_POINTER(wd));
    if (old != NULL && strcmp(old, key) == 0)
        return;
    forget_wd(w, wd); /* the same directory under another name: it was moved */
    gpointer other;
    if (g_hash_table_lookup_extended(w->by_key, key, NULL, &other)) { /* another directory had the name */
        inotify_rm_watch(w->fd, GPOINTER_TO_INT(other));
        forget_wd(w, GPOINTER_TO_INT(other));
    }
    char *own = g_strdup(key);
    g_hash_table_insert(w->by_key, own, GINT_TO_POINTER(wd));
    g_hash_table_insert(w->by_wd, GINT_TO_POINTER(wd), own);
}

/* lock is held */
static void
note_limit(SxWatch *w)
{
    if (w->limited)
        return;
    w->limited = true;
    sx_warn("too many directories to watch (fs.inotify.max_user_watches): changes are looked for by polling");
    if (eventfd_write(w->wake, 1) != 0)
        sx_warn("eventfd: %s", g_strerror(errno));
}

/* lock is held */
static void
rename_below(SxWatch *w, const char *from, const char *to)
{
    g_autoptr(GPtrArray) keys = g_ptr_array_new_with_free_func(g_free);
    GHashTableIter it;
    gpointer key;
    g_hash_table_iter_init(&it, w->by_key);
    while (g_hash_table_iter_next(&it, &key, NULL))
        if (at_or_below(key, from))
            g_ptr_array_add(keys, g_strdup(key));
    for (guint i = 0; i < keys->len; i++) {
        const char *old = g_ptr_array_index(keys, i);
        g_autofree char *new = g_strconcat(to, old + strlen(from), NULL);
        remember(w, GPOINTER_TO_INT(g_hash_table_lookup(w->by_key, old)), new);
    }
}

void
sx_watch_rename(SxWatch *w, const char *from, const char *to)
{
    g_mutex_lock(&w->lock);
    rename_below(w, from, to);
    g_mutex_unlock(&w->lock);
}

int
sx_watch_add(SxWatch *w, int dirfd, const char *key)
{
    char proc[64];
    g_snprintf(proc, sizeof proc, "/proc/self/fd/%d", dirfd);
    g_mutex_lock(&w->lock); /* the kernel never waits here; held so that an event finds its key */
    int wd = inotify_add_watch(w->fd, proc, MASK);
    int r = wd >= 0 ? 0 : -errno;
    if (r == 0)
        remember(w, wd, key);
    else if (r == -ENOSPC)
        note_limit(w);
    g_mutex_unlock(&w->lock);
    return r;
}

void
sx_watch_remove(SxWatch *w, const char *key)
{
    g_mutex_lock(&w->lock);
    drop_below(w, key);
    g_mutex_unlock(&w->lock);
}

guint
sx_watch_count(SxWatch *w)
{
    g_mutex_lock(&w->lock);
    guint n = g_hash_table_size(w->by_key);
    g_mutex_unlock(&w->lock);
    return n;
}

/* ---- events ---- */

typedef struct Change {
    SxWatchWhat what;
    char *key, *name;
} Change;

/* What will be told when the settling time is over. Only the runner's thread sees it. */
typedef struct Pending {
    GPtrArray *order; /* of Change */
    GHashTable *seen; /* the same, by value */
    bool rescan;
    gint64 tell_us;   /* monotonic; 0: nothing is pending */
    char *moved;      /* key of a directory that was moved away, while its new place may still be told; or NULL */
    guint32 cookie;   /* of that move */
} Pending;

static void
change_free(gpointer data)
{
    Change *c = data;
    g_free(c->key);
    g_free(c->name);
    g_free(c);
}

static guint
change_hash(gconstpointer data)
{
    const Change *c = data;
    return g_str_hash(c->key) * 31 + (c->name != NULL ? g_str_hash(c->name) : 7) + (guint)c->what;
}

static gboolean
change_equal(gconstpointer a, gconstpointer b)
{
    const Change *x = a, *y = b;
    return x->what == y->what && strcmp(x->key, y->key) == 0 && g_strcmp0(x->name, y->name) == 0;
}

static void
pending_clear(Pending *p)
{
    g_hash_table_remove_all(p->seen);
    g_ptr_array_set_size(p->order, 0);
    p->rescan = false;
    p->tell_us = 0;
}

static void
note(Pending *p, SxWatchWhat what, const char *key, const char *name)
{
    if (p->tell_us == 0)
        p->tell_us = g_get_monotonic_time() + SX_WATCH_SETTLE_MS * 1000;
    if (p->order->len >= SX_WATCH_PENDING_MAX)
        p->rescan = true;
    if (what == SX_WATCH_RESCAN || p->rescan) {
        p->rescan = true;
        return;
    }
    Change probe = {.what = what, .key = (char *)key, .name = (char *)name};
    if (g_hash_table_contains(p->seen, &probe))
        return;
    Change *c = g_new(Change, 1);
    *c = (Change){.what = what, .key = g_strdup(key), .name = g_strdup(name)};
    g_ptr_array_add(p->order, c);
    g_hash_table_add(p->seen, c);
}

/* Is the directory above also watched? Then its events tell the same and more. lock is held */
static bool
parent_watched(SxWatch *w, const char *key)
{
    const char *slash = strrchr(key, '/');
    g_autofree char *parent = slash != NULL ? g_strndup(key, (gsize)(slash - key)) : g_strdup("");
    return *key != '\0' && g_hash_table_contains(w->by_key, parent);
}

/* The directory itself. lock is held; may free key's string in the tables (the caller has a copy). */
static void
self_event(SxWatch *w, Pending *p, const struct inotify_event *e, const char *key)
{
    if (e->mask & IN_MOVE_SELF && parent_watched(w, key))
        return; /* the parent's IN_MOVED_FROM drops it, unless it is known under its new key already */
    if (e->mask & (IN_MOVE_SELF | IN_DELETE_SELF | IN_UNMOUNT)) {
        note(p, SX_WATCH_GONE, key, NULL);
        drop_below(w, key);
    } else if (e->mask & IN_ATTRIB) {
        note(p, SX_WATCH_CHANGED, key, NULL);
    }
}

/* The two halves of a move follow each other in the queue where both directories are watched; a half that stands alone (e
 * is another event, or NULL at the queue's end) went where nobody watches. lock is held */
static void
settle_move(SxWatch *w, Pending *p, const struct inotify_event *e, const char *path)
{
    if (p->moved != NULL && e != NULL && e->mask & IN_MOVED_TO && e->cookie == p->cookie)
        rename_below(w, p->moved, path);
    else if (p->moved != NULL)
        drop_below(w, p->moved);
    g_clear_pointer(&p->moved, g_free);
    if (e != NULL && e->mask & IN_MOVED_FROM && e->mask & IN_ISDIR) {
        p->moved = g_strdup(path);
        p->cookie = e->cookie;
    }
}

/* lock is held */
static void
take_event(SxWatch *w, Pending *p, const struct inotify_event *e)
{
    if (e->mask & IN_Q_OVERFLOW) {
        note(p, SX_WATCH_RESCAN, "", NULL);
        return;
    }
    g_autofree char *key = g_strdup(g_hash_table_lookup(w->by_wd, GINT_TO_POINTER(e->wd)));
    if (key == NULL) /* a watch that was dropped while its events waited */
        return;
    if (e->mask & IN_IGNORED) {
        forget_wd(w, e->wd);
        return;
    }
    if (e->len == 0) {
        self_event(w, p, e, key);
        return;
    }
    g_autofree char *path = *key != '\0' ? g_strconcat(key, "/", e->name, NULL) : g_strdup(e->name);
    settle_move(w, p, e, path);
    note(p, SX_WATCH_CHANGED, key, e->name);
}

/* Everything that waits in the kernel's queue. 0 or -errno. */
static int
drain(SxWatch *w, Pending *p)
{
    g_autofree char *buf = g_malloc(BUFFER);
    for (;;) {
        ssize_t n = read(w->fd, buf, BUFFER);
        if (n < 0) {
            int e = errno;
            g_mutex_lock(&w->lock);
            settle_move(w, p, NULL, NULL);
            g_mutex_unlock(&w->lock);
            return e == EAGAIN || e == EINTR ? 0 : -e;
        }
        g_mutex_lock(&w->lock);
        for (ssize_t i = 0; i < n;) {
            const struct inotify_event *e = (const void *)(buf + i);
            take_event(w, p, e);
            i += (ssize_t)(sizeof *e + e->len);
        }
        g_mutex_unlock(&w->lock);
        if (p->tell_us != 0 && g_get_monotonic_time() >= p->tell_us)
            return 0; /* a stream of events that never ends must not keep us from telling */
    }
}

static void
tell(Pending *p, SxWatchFn fn, void *data)
{
    if (p->rescan)
        fn(data, SX_WATCH_RESCAN, "", NULL);
    for (guint i = 0; !p->rescan && i < p->order->len; i++) {
        const Change *c = g_ptr_array_index(p->order, i);
        fn(data, c->what, c->key, c->name);
    }
    pending_clear(p);
}

static bool
is_limited(SxWatch *w)
{
    g_mutex_lock(&w->lock);
    bool limited = w->limited;
    g_mutex_unlock(&w->lock);
    return limited;
}

static bool
run(SxWatch *w, Pending *p, SxWatchFn fn, void *data, GCancellable *cancel, int cancel_fd, GError **error)
{
    while (!g_cancellable_is_cancelled(cancel)) {
        if (is_limited(w))
            return sx_fail(error, SX_ERR_UNSUPPORTED, "there are more directories than can be watched");
        gint64 now = g_get_monotonic_time();
        int timeout = p->tell_us == 0 ? -1 : (int)(MAX(p->tell_us - now, 0) / 1000 + 1);
        if (p->tell_us != 0 && now >= p->tell_us) {
            tell(p, fn, data);
            continue;
        }
        struct pollfd fds[] = {{.fd = w->fd, .events = POLLIN}, {.fd = w->wake, .events = POLLIN}, {.fd = cancel_fd, .events = POLLIN}};
        if (poll(fds, G_N_ELEMENTS(fds), timeout) < 0 && errno != EINTR)
            return sx_fail_errno(error, errno, "poll");
        int r = fds[0].revents != 0 ? drain(w, p) : 0;
        if (r != 0)
            return sx_fail_errno(error, -r, "inotify");
    }
    return sx_fail(error, SX_ERR_CANCELLED, "cancelled");
}

bool
sx_watch_run(SxWatch *w, SxWatchFn fn, void *data, GCancellable *cancel, GError **error)
{
    GPollFD cancel_fd = {.fd = -1};
    if (cancel != NULL && !g_cancellable_make_pollfd(cancel, &cancel_fd))
        return sx_fail(error, SX_ERR_FAILED, "no descriptor for cancelling");
    Pending p = {.order = g_ptr_array_new_with_free_func(change_free), .seen = g_hash_table_new(change_hash, change_equal)};
    bool ok = run(w, &p, fn, data, cancel, cancel_fd.fd, error);
    g_hash_table_unref(p.seen);
    g_ptr_array_unref(p.order);
    g_free(p.moved);
    if (cancel != NULL)
        g_cancellable_release_fd(cancel);
    return ok;
}
