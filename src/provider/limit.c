/* The limit filter: bandwidth by token buckets, and how many calls run at once.
 *
 * The waiting is done where the bytes pass: in the source of an upload, after each slice was read, and in the sink of a
 * download, before the slice is handed on; TCP slows the other side down. Both the provider's own and the process's buckets
 * are asked, one after the other; nobody waits with a lock held. */
#include "provider/provider_i.h"

#include <errno.h>
#include <time.h>

#define BUCKET_BURST_MS 250 /* so much may pass at once after a pause */
#define SLICE (16 * 1024)   /* bytes between two looks at the buckets */
#define WAIT_MAX_MS 1000    /* then the bucket is asked again: the time of day may have changed the rate */

/* ---- buckets ---- */

gint64
sx_bucket_take(SxBucket *b, gint64 bytes_per_s, gint64 now_ms, gint64 n)
{
    gint64 passed = CLAMP(now_ms - b->last_ms, 0, 3600 * 1000);
    b->last_ms = now_ms;
    if (bytes_per_s <= 0) {
        b->level = 0;
        return 0;
    }
    gint64 burst = MAX(bytes_per_s / 1000 * BUCKET_BURST_MS, 1);
    gint64 gained = (gint64)((double)bytes_per_s * (double)passed / 1000.0);
    if (gained == 0 && passed > 0)
        b->last_ms -= passed; /* a slow rate must not lose its fractions */
    b->level = MIN(b->level + gained, burst);
    if (b->level > 0) {
        b->level -= n;
        return 0;
    }
    double wait = (double)(1 - b->level) * 1000.0 / (double)bytes_per_s;
    return (gint64)wait + 1;
}

struct SxBandwidth {
    gatomicrefcount ref;
    const SxClock *clock;
    SxRate *rates[2]; /* [up]; NULL: no limit */
    bool limits[2];
    GMutex lock;
    SxBucket buckets[2]; /* guarded by lock */
};

static SxRate *
parse_rate(const char *text, bool *ret_limits, GError **error)
{
    g_autoptr(SxRate) rate = sx_rate_parse(text, error);
    if (rate == NULL)
        return NULL;
    for (int minute = 0; minute < 24 * 60; minute++)
        *ret_limits |= sx_rate_at(rate, minute) > 0;
    return g_steal_pointer(&rate);
}

SxBandwidth *
sx_bandwidth_new(const char *up, const char *down, const SxClock *clock, GError **error)
{
    g_autoptr(SxBandwidth) b = g_new0(SxBandwidth, 1);
    g_atomic_ref_count_init(&b->ref);
    g_mutex_init(&b->lock);
    b->clock = clock;
    const char *texts[2] = {down, up};
    for (int i = 0; i < 2; i++) {
        b->buckets[i].last_ms = sx_clock_mono_ms(clock);
        if (texts[i] != NULL && (b->rates[i] = parse_rate(texts[i], &b->limits[i], error)) == NULL)
            return NULL;
    }
    return g_steal_pointer(&b);
}

SxBandwidth *
sx_bandwidth_ref(SxBandwidth *b)
{
    g_atomic_ref_count_inc(&b->ref);
    return b;
}

void
sx_bandwidth_unref(SxBandwidth *b)
{
    if (b == NULL || !g_atomic_ref_count_dec(&b->ref))
        return;
    sx_rate_free(b->rates[0]);
    sx_rate_free(b->rates[1]);
    g_mutex_clear(&b->lock);
    g_free(b);
}

bool
sx_bandwidth_limits(const SxBandwidth *b, bool up)
{
    return b != NULL && b->limits[up];
}

static int
minute_of_day(const SxClock *clock)
{
    time_t secs = (time_t)(sx_clock_real_ms(clock) / 1000);
    struct tm tm;
    localtime_r(&secs, &tm);
    return tm.tm_hour * 60 + tm.tm_min;
}

gint64
sx_bandwidth_take(SxBandwidth *b, bool up, gint64 n)
{
    if (!sx_bandwidth_limits(b, up))
        return 0;
    gint64 rate = sx_rate_at(b->rates[up], minute_of_day(b->clock)), now = sx_clock_mono_ms(b->clock);
    g_mutex_lock(&b->lock);
    gint64 wait = sx_bucket_take(&b->buckets[up], rate, now, n);
    g_mutex_unlock(&b->lock);
    return wait;
}

/* ---- the filter ---- */

typedef struct Limit {
    SxProviderType type;
    SxProvider *inner; /* the instance around us holds the ref */
    SxBandwidth *own, *shared;
    unsigned max_calls;
    GMutex lock;
    GCond freed; /* also where waiting for bytes sleeps */
    unsigned running, writing; /* guarded by lock */
} Limit;

static void
limit_close(void *self)
{
    Limit *l = self;
    sx_bandwidth_unref(l->own);
    sx_bandwidth_unref(l->shared);
    g_mutex_clear(&l->lock);
    g_cond_clear(&l->freed);
    g_free(l);
}

/* lock is held */
static bool
has_room(const Limit *l, bool write)
{
    if (l->running >= l->max_calls)
        return false;
    return !write || l->max_calls == 1 || l->writing + 1 < l->max_calls;
}

static bool
enter(Limit *l, bool write, GCancellable *cancel, GError **error)
{
    if (l->max_calls == 0)
        return true;
    SxWaker waker;
    sx_waker_init(&waker, &l->lock, &l->freed, cancel);
    g_mutex_lock(&l->lock);
    while (!has_room(l, write) && !g_cancellable_is_cancelled(cancel))
        g_cond_wait(&l->freed, &l->lock);
    bool ok = has_room(l, write);
    if (ok) {
        l->running++;
        l->writing += write;
    }
    g_mutex_unlock(&l->lock);
    sx_waker_clear(&waker);
    return ok || sx_fail_cancelled(error);
}

static bool
leave(Limit *l, bool write, bool ok)
{
    if (l->max_calls == 0)
        return ok;
    g_mutex_lock(&l->lock);
    l->running--;
    l->writing -= write;
    g_cond_broadcast(&l->freed);
    g_mutex_unlock(&l->lock);
    return ok;
}

static int
wait_ms(Limit *l, gint64 ms, GCancellable *cancel)
{
    gint64 until = g_get_monotonic_time() + MIN(ms, WAIT_MAX_MS) * 1000;
    SxWaker waker;
    sx_waker_init(&waker, &l->lock, &l->freed, cancel);
    g_mutex_lock(&l->lock);
    while (!g_cancellable_is_cancelled(cancel) && g_cond_wait_until(&l->freed, &l->lock, until))
        ;
    g_mutex_unlock(&l->lock);
    sx_waker_clear(&waker);
    return g_cancellable_is_cancelled(cancel) ? -ECANCELED : 0;
}

static int
pass(Limit *l, bool up, gint64 n, GCancellable *cancel)
{
    SxBandwidth *both[] = {l->own, l->shared};
    for (gsize i = 0; i < G_N_ELEMENTS(both); i++)
        for (gint64 wait; both[i] != NULL && (wait = sx_bandwidth_take(both[i], up, n)) > 0;) {
            int r = wait_ms(l, wait, cancel);
            if (r != 0)
                return r;
        }
    return 0;
}

/* A source or sink whose bytes are counted out. */
typedef struct Metered {
    Limit *l;
    GCancellable *cancel;
    const SxSource *source;
    SxSinkFn sink;
    void *data;
} Metered;

static gssize
metered_read(void *data, gint64 off, void *buf, gsize n)
{
    Metered *m = data;
    gsize done = 0;
    while (done < n) {
        gsize want = MIN(n - done, SLICE);
        gssize k = m->source->read(m->source->data, off + (gint64)done, (char *)buf + done, want);
        if (k < 0)
            return k;
        int r = pass(m->l, true, k, m->cancel);
        if (r != 0)
            return r;
        done += (gsize)k;
        if ((gsize)k < want)
            break;
    }
    return (gssize)done;
}

static int
metered_sink(void *data, gint64 off, const void *buf, gsize n)
{
    Metered *m = data;
    for (gsize done = 0; done < n;) {
        gsize k = MIN(n - done, SLICE);
        int r = pass(m->l, false, (gint64)k, m->cancel);
        if (r == 0)
            r = m->sink(m->data, off + (gint64)done, (const char *)buf + done, k);
        if (r != 0)
            return r;
        done += k;
    }
    return 0;
}

static bool
limits(const Limit *l, bool up)
{
    return sx_bandwidth_limits(l->own, up) || sx_bandwidth_limits(l->shared, up);
}

static bool
limit_probe(void *self, SxCaps *caps, GCancellable *cancel, GError **error)
{
    Limit *l = self;
    if (!sx_provider_probe(l->inner, cancel, error))
        return false;
    sx_provider_caps(l->inner, caps);
    return true;
}

static bool
limit_list(void *self, const char *path, SxListFn fn, void *data, GCancellable *cancel, GError **error)
{
    Limit *l = self;
    return enter(l, false, cancel, error) && leave(l, false, sx_provider_list(l->inner, path, fn, data, cancel, error));
}

static bool
limit_stat(void *self, const char *path, SxRemote **ret, GCancellable *cancel, GError **error)
{
    Limit *l = self;
    return enter(l, false, cancel, error) && leave(l, false, sx_provider_stat(l->inner, path, ret, cancel, error));
}

static bool
limit_read(void *self, const char *path, const SxCond *cond, gint64 off, gint64 len, SxSinkFn sink, void *data,
           GCancellable *cancel, GError **error)
{
    Limit *l = self;
    if (!enter(l, false, cancel, error))
        return false;
    Metered m = {.l = l, .cancel = cancel, .sink = sink, .data = data};
    bool slow = limits(l, false);
    bool ok = sx_provider_read(l->inner, path, cond, off, len, slow ? metered_sink : sink, slow ? (void *)&m : data, cancel, error);
    return leave(l, false, ok);
}

static bool
limit_write(void *self, const char *path, const SxUpload *upload, SxRemote **ret, GCancellable *cancel, GError **error)
{
    Limit *l = self;
    if (!enter(l, true, cancel, error))
        return false;
    Metered m = {.l = l, .cancel = cancel, .source = &upload->source};
    SxUpload slow = *upload;
    if (limits(l, true))
        slow.source = (SxSource){.size = upload->source.size, .read = metered_read, .fd = -1, .data = &m};
    return leave(l, true, sx_provider_write(l->inner, path, &slow, ret, cancel, error));
}

static void
limit_discard(void *self, const char *path, const char *resume)
{
    sx_provider_discard(((Limit *)self)->inner, path, resume);
}

static bool
limit_mkdir(void *self, const char *path, SxRemote **ret, GCancellable *cancel, GError **error)
{
    Limit *l = self;
    return enter(l, false, cancel, error) && leave(l, false, sx_provider_mkdir(l->inner, path, ret, cancel, error));
}

static bool
limit_symlink(void *self, const char *path, const char *target, SxRemote **ret, GCancellable *cancel, GError **error)
{
    Limit *l = self;
    return enter(l, false, cancel, error) && leave(l, false, sx_provider_symlink(l->inner, path, target, ret, cancel, error));
}

static bool
limit_remove(void *self, const char *path, SxKind kind, const SxCond *cond, GCancellable *cancel, GError **error)
{
    Limit *l = self;
    return enter(l, false, cancel, error) && leave(l, false, sx_provider_remove(l->inner, path, kind, cond, cancel, error));
}

static bool
limit_move(void *self, const char *from, const char *to, SxKind kind, GCancellable *cancel, GError **error)
{
    Limit *l = self;
    return enter(l, false, cancel, error) && leave(l, false, sx_provider_move(l->inner, from, to, kind, cancel, error));
}

static bool
limit_copy(void *self, const char *from, const char *to, GCancellable *cancel, GError **error)
{
    Limit *l = self;
    return enter(l, false, cancel, error) && leave(l, false, sx_provider_copy(l->inner, from, to, cancel, error));
}

static bool
limit_set_attr(void *self, const char *path, gint64 mtime_ns, int mode, SxRemote **ret, GCancellable *cancel, GError **error)
{
    Limit *l = self;
    return enter(l, false, cancel, error) &&
           leave(l, false, sx_provider_set_attr(l->inner, path, mtime_ns, mode, ret, cancel, error));
}

static bool
limit_watch(void *self, SxChangedFn fn, void *data, GCancellable *cancel, GError **error)
{
    return sx_provider_watch(((Limit *)self)->inner, fn, data, cancel, error); /* would hold its place for ever */
}

static void
limit_watch_dir(void *self, const char *path)
{
    sx_provider_watch_dir(((Limit *)self)->inner, path);
}

static bool
limit_quota(void *self, SxQuota *ret, GCancellable *cancel, GError **error)
{
    Limit *l = self;
    return enter(l, false, cancel, error) && leave(l, false, sx_provider_quota(l->inner, ret, cancel, error));
}

static int
limit_lend_fd(void *self, const char *path, const SxCond *cond, GError **error)
{
    return sx_provider_lend_fd(((Limit *)self)->inner, path, cond, error);
}

static const SxProviderType layer = {
    .close = limit_close, .probe = limit_probe, .list = limit_list, .stat = limit_stat, .read = limit_read,
    .write = limit_write, .discard = limit_discard, .mkdir = limit_mkdir, .symlink = limit_symlink,
    .remove = limit_remove, .move = limit_move, .copy = limit_copy, .set_attr = limit_set_attr, .watch = limit_watch,
    .watch_dir = limit_watch_dir, .quota = limit_quota, .lend_fd = limit_lend_fd,
};

static void
set_shared(Limit *l, SxBandwidth *shared)
{
    SxCaps caps;
    sx_provider_caps(l->inner, &caps);
    g_clear_pointer(&l->shared, sx_bandwidth_unref);
    if (shared != NULL && !caps.lend_fd)
        l->shared = sx_bandwidth_ref(shared);
}

SxProvider *
sx_limit_wrap(SxProvider *inner, SxBandwidth *own, SxBandwidth *shared, unsigned max_calls)
{
    Limit *l = g_new0(Limit, 1);
    l->inner = inner;
    l->own = own != NULL ? sx_bandwidth_ref(own) : NULL;
    l->max_calls = max_calls;
    g_mutex_init(&l->lock);
    g_cond_init(&l->freed);
    set_shared(l, shared);
    sx_provider_layer_type(inner, &layer, &l->type);
    return sx_provider_wrap(inner, &l->type, l);
}

void
sx_provider_share_bandwidth(SxProvider *p, SxBandwidth *shared)
{
    for (; p != NULL; p = p->inner)
        if (p->type->close == limit_close) {
            set_shared(p->self, shared);
            return;
        }
}
