/* The fault filter: the inner provider as a bad network and a careless server would show it. For tests.
 *
 * What happens to call number n is a function of the plan's seed and n alone (SplitMix64), so a run with one thread repeats
 * exactly. The order of one call: crash hook (before), offline, delay, error, then the inner call with its cut, stale or
 * partial form, then lost, then the crash hook (after). A cut upload reaches the inner provider as a source that breaks
 * in the middle, so it is the inner provider's duty, and is tested, that nothing is published. */
#include "provider/provider_i.h"

#include <errno.h>
#include <string.h>

#define STALE_DIRS_MAX 10000 /* directories whose last listing is kept */

typedef struct Fault {
    SxProviderType type;
    SxProvider *inner; /* the instance around us holds the ref */
    SxFaultPlan *plan;
    gint crashed;      /* atomic */
    GMutex lock;
    GCond woken;          /* only cancellation signals it: ends a delay */
    guint64 n_calls;      /* guarded by lock */
    GHashTable *listings; /* path -> GPtrArray of SxRemote; guarded by lock */
} Fault;

/* The dice of one call. */
typedef struct Dice {
    guint64 state;
} Dice;

static guint64
roll(Dice *d)
{
    guint64 z = (d->state += 0x9e3779b97f4a7c15ULL);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

static guint64
below(Dice *d, guint64 n)
{
    return n > 0 ? roll(d) % n : 0;
}

static bool
chance(Dice *d, unsigned per_mille)
{
    return below(d, 1000) < per_mille; /* rolls also for 0, so that one knob does not shift the others */
}

static bool
asked_to_crash(Fault *f, SxCall call, bool after, GError **error)
{
    if (!g_atomic_int_get(&f->crashed) && f->plan->crash != NULL && f->plan->crash(f->plan->data, sx_call_name(call), after))
        g_atomic_int_set(&f->crashed, 1);
    if (!g_atomic_int_get(&f->crashed))
        return false;
    sx_fail(error, SX_ERR_FAILED, "crashed");
    return true;
}

static bool
delay(Fault *f, guint64 ms, GCancellable *cancel, GError **error)
{
    gint64 until = g_get_monotonic_time() + (gint64)ms * 1000;
    SxWaker waker;
    sx_waker_init(&waker, &f->lock, &f->woken, cancel);
    g_mutex_lock(&f->lock);
    while (!g_cancellable_is_cancelled(cancel) && g_cond_wait_until(&f->woken, &f->lock, until))
        ;
    g_mutex_unlock(&f->lock);
    sx_waker_clear(&waker);
    return !g_cancellable_is_cancelled(cancel) || sx_fail_cancelled(error);
}

static bool
before(Fault *f, SxCall call, Dice *d, GCancellable *cancel, GError **error)
{
    static const SxErrorCode errors[] = {SX_ERR_OFFLINE, SX_ERR_SERVER, SX_ERR_TIMEOUT};
    g_mutex_lock(&f->lock);
    d->state = f->plan->seed ^ (++f->n_calls * 0xd1342543de82ef95ULL);
    g_mutex_unlock(&f->lock);
    if (asked_to_crash(f, call, false, error))
        return false;
    if (__atomic_load_n(&f->plan->offline, __ATOMIC_RELAXED))
        return sx_fail(error, SX_ERR_OFFLINE, "the network is down (fault)");
    guint64 ms = below(d, (guint64)f->plan->max_delay_ms + 1);
    if (ms > 0 && !delay(f, ms, cancel, error))
        return false;
    SxErrorCode code = errors[below(d, G_N_ELEMENTS(errors))];
    if (chance(d, f->plan->per_mille_error))
        return sx_fail(error, code, "%s (fault)", sx_error_code_name(code));
    return true;
}

static bool
after(Fault *f, SxCall call, Dice *d, bool ok, GError **error)
{
    bool lost = chance(d, f->plan->per_mille_lost);
    GError *why = NULL;
    if (!asked_to_crash(f, call, true, &why)) {
        if (!ok || !lost)
            return ok;
        sx_fail(&why, SX_ERR_LOST, "the answer was lost (fault)");
    }
    if (error != NULL)
        g_clear_error(error);
    g_propagate_error(error, why);
    return false;
}

/* ---- list ---- */

static bool
keep_entry(void *data, const SxRemote *entry)
{
    g_ptr_array_add(data, sx_remote_copy(entry));
    return true;
}

static GPtrArray *
previous(Fault *f, const char *path)
{
    g_mutex_lock(&f->lock);
    GPtrArray *old = g_hash_table_lookup(f->listings, path);
    if (old != NULL)
        g_ptr_array_ref(old);
    g_mutex_unlock(&f->lock);
    return old;
}

static GPtrArray *
list_now(Fault *f, const char *path, GCancellable *cancel, GError **error)
{
    g_autoptr(GPtrArray) now = g_ptr_array_new_with_free_func((GDestroyNotify)sx_remote_free);
    if (!sx_provider_list(f->inner, path, keep_entry, now, cancel, error))
        return NULL;
    g_mutex_lock(&f->lock);
    if (g_hash_table_size(f->listings) < STALE_DIRS_MAX || g_hash_table_contains(f->listings, path))
        g_hash_table_replace(f->listings, g_strdup(path), g_ptr_array_ref(now));
    g_mutex_unlock(&f->lock);
    return g_steal_pointer(&now);
}

static bool
fault_list(void *self, const char *path, SxListFn fn, void *data, GCancellable *cancel, GError **error)
{
    Fault *f = self;
    Dice d;
    if (!before(f, SX_CALL_LIST, &d, cancel, error))
        return false;
    bool stale = chance(&d, f->plan->per_mille_stale_list), cut = chance(&d, f->plan->per_mille_cut);
    bool partial = chance(&d, f->plan->per_mille_partial_list);
    g_autoptr(GPtrArray) entries = stale ? previous(f, path) : NULL;
    if (entries == NULL)
        entries = list_now(f, path, cancel, error);
    if (entries == NULL)
        return after(f, SX_CALL_LIST, &d, false, error);
    guint end = cut ? (guint)below(&d, entries->len + 1) : entries->len;
    for (guint i = 0; i < end; i++) {
        bool left_out = partial && (roll(&d) & 3) == 0;
        if (!left_out && !fn(data, g_ptr_array_index(entries, i)))
            return sx_fail_cancelled(error);
    }
    bool ok = !cut || sx_fail(error, SX_ERR_LOST, "the listing ended after %u entries (fault)", end);
    return after(f, SX_CALL_LIST, &d, ok, error);
}

/* ---- read and write ---- */

typedef struct Cut {
    gint64 at; /* no byte at or after this offset passes */
    bool done; /* it was reached */
    SxSinkFn sink;
    void *data;
    const SxSource *source;
} Cut;

static int
cut_sink(void *data, gint64 off, const void *buf, gsize n)
{
    Cut *c = data;
    gint64 room = CLAMP(c->at - off, 0, (gint64)n);
    int r = room > 0 ? c->sink(c->data, off, buf, (gsize)room) : 0;
    if (r == 0 && room < (gint64)n) {
        c->done = true;
        return -EIO;
    }
    return r;
}

static bool
fail_cut(GError **error, gint64 at)
{
    if (error != NULL)
        g_clear_error(error);
    return sx_fail(error, SX_ERR_LOST, "the connection broke at byte %" G_GINT64_FORMAT " (fault)", at);
}

static bool
fault_read(void *self, const char *path, const SxCond *cond, gint64 off, gint64 len, SxSinkFn sink, void *data,
           GCancellable *cancel, GError **error)
{
    Fault *f = self;
    Dice d;
    if (!before(f, SX_CALL_READ, &d, cancel, error))
        return false;
    bool cut = chance(&d, f->plan->per_mille_cut);
    gint64 span = len >= 0 ? len : cond->kind == SX_IF_VERSION && cond->size > off ? cond->size - off : 4096;
    Cut c = {.at = off + (gint64)below(&d, (guint64)MAX(span, 1)), .sink = sink, .data = data};
    bool ok = sx_provider_read(f->inner, path, cond, off, len, cut ? cut_sink : sink, cut ? (void *)&c : data, cancel, error);
    if (cut && (ok || c.done))
        ok = fail_cut(error, c.at);
    return after(f, SX_CALL_READ, &d, ok, error);
}

static gssize
cut_read(void *data, gint64 off, void *buf, gsize n)
{
    Cut *c = data;
    if (off + (gint64)n > c->at) {
        c->done = true;
        return -EIO;
    }
    return c->source->read(c->source->data, off, buf, n);
}

static bool
fault_write(void *self, const char *path, const SxUpload *upload, SxRemote **ret, GCancellable *cancel, GError **error)
{
    Fault *f = self;
    Dice d;
    if (!before(f, SX_CALL_WRITE, &d, cancel, error))
        return false;
    bool cut = chance(&d, f->plan->per_mille_cut);
    gint64 size = upload->source.size;
    Cut c = {.at = (gint64)below(&d, (guint64)size), .source = &upload->source};
    SxUpload up = *upload;
    if (cut && size == 0) /* nothing to break in: the connection is lost before the request */
        return after(f, SX_CALL_WRITE, &d, fail_cut(error, 0), error);
    if (cut)
        up.source = (SxSource){.size = size, .read = cut_read, .fd = -1, .data = &c};
    SxRemote *r = NULL;
    bool ok = sx_provider_write(f->inner, path, &up, &r, cancel, error);
    if (c.done)
        ok = fail_cut(error, c.at);
    ok = after(f, SX_CALL_WRITE, &d, ok, error);
    if (ok)
        *ret = r;
    else
        sx_remote_free(r);
    return ok;
}

/* ---- the others: before, the inner call, after ---- */

static bool
fault_probe(void *self, SxCaps *caps, GCancellable *cancel, GError **error)
{
    Fault *f = self;
    Dice d;
    if (!before(f, SX_CALL_PROBE, &d, cancel, error))
        return false;
    bool ok = sx_provider_probe(f->inner, cancel, error);
    sx_provider_caps(f->inner, caps);
    return after(f, SX_CALL_PROBE, &d, ok, error);
}

/* An answer that is lost is not given. */
static bool
after_remote(Fault *f, SxCall call, Dice *d, bool ok, SxRemote *r, SxRemote **ret, GError **error)
{
    ok = after(f, call, d, ok, error);
    if (ok)
        *ret = r;
    else
        sx_remote_free(r);
    return ok;
}

static bool
fault_stat(void *self, const char *path, SxRemote **ret, GCancellable *cancel, GError **error)
{
    Fault *f = self;
    Dice d;
    SxRemote *r = NULL;
    if (!before(f, SX_CALL_STAT, &d, cancel, error))
        return false;
    bool ok = sx_provider_stat(f->inner, path, &r, cancel, error);
    return after_remote(f, SX_CALL_STAT, &d, ok, r, ret, error);
}

static bool
fault_mkdir(void *self, const char *path, SxRemote **ret, GCancellable *cancel, GError **error)
{
    Fault *f = self;
    Dice d;
    SxRemote *r = NULL;
    if (!before(f, SX_CALL_MKDIR, &d, cancel, error))
        return false;
    bool ok = sx_provider_mkdir(f->inner, path, &r, cancel, error);
    return after_remote(f, SX_CALL_MKDIR, &d, ok, r, ret, error);
}

static bool
fault_symlink(void *self, const char *path, const char *target, SxRemote **ret, GCancellable *cancel, GError **error)
{
    Fault *f = self;
    Dice d;
    SxRemote *r = NULL;
    if (!before(f, SX_CALL_SYMLINK, &d, cancel, error))
        return false;
    bool ok = sx_provider_symlink(f->inner, path, target, &r, cancel, error);
    return after_remote(f, SX_CALL_SYMLINK, &d, ok, r, ret, error);
}

static bool
fault_remove(void *self, const char *path, SxKind kind, const SxCond *cond, GCancellable *cancel, GError **error)
{
    Fault *f = self;
    Dice d;
    return before(f, SX_CALL_REMOVE, &d, cancel, error) &&
           after(f, SX_CALL_REMOVE, &d, sx_provider_remove(f->inner, path, kind, cond, cancel, error), error);
}

static bool
fault_move(void *self, const char *from, const char *to, SxKind kind, GCancellable *cancel, GError **error)
{
    Fault *f = self;
    Dice d;
    return before(f, SX_CALL_MOVE, &d, cancel, error) &&
           after(f, SX_CALL_MOVE, &d, sx_provider_move(f->inner, from, to, kind, cancel, error), error);
}

static bool
fault_copy(void *self, const char *from, const char *to, GCancellable *cancel, GError **error)
{
    Fault *f = self;
    Dice d;
    return before(f, SX_CALL_COPY, &d, cancel, error) &&
           after(f, SX_CALL_COPY, &d, sx_provider_copy(f->inner, from, to, cancel, error), error);
}

static bool
fault_set_attr(void *self, const char *path, gint64 mtime_ns, int mode, SxRemote **ret, GCancellable *cancel, GError **error)
{
    Fault *f = self;
    Dice d;
    SxRemote *r = NULL;
    if (!before(f, SX_CALL_SET_ATTR, &d, cancel, error))
        return false;
    bool ok = sx_provider_set_attr(f->inner, path, mtime_ns, mode, &r, cancel, error);
    return after_remote(f, SX_CALL_SET_ATTR, &d, ok, r, ret, error);
}

static bool
fault_watch(void *self, SxChangedFn fn, void *data, GCancellable *cancel, GError **error)
{
    Fault *f = self;
    Dice d;
    return before(f, SX_CALL_WATCH, &d, cancel, error) && sx_provider_watch(f->inner, fn, data, cancel, error);
}

static bool
fault_quota(void *self, SxQuota *ret, GCancellable *cancel, GError **error)
{
    Fault *f = self;
    Dice d;
    return before(f, SX_CALL_QUOTA, &d, cancel, error) &&
           after(f, SX_CALL_QUOTA, &d, sx_provider_quota(f->inner, ret, cancel, error), error);
}

static int
fault_lend_fd(void *self, const char *path, const SxCond *cond, GError **error)
{
    Fault *f = self;
    Dice d;
    return before(f, SX_CALL_LEND_FD, &d, NULL, error) ? sx_provider_lend_fd(f->inner, path, cond, error) : -1;
}

static void
fault_discard(void *self, const char *path, const char *resume)
{
    Fault *f = self;
    Dice d;
    if (before(f, SX_CALL_DISCARD, &d, NULL, NULL))
        sx_provider_discard(f->inner, path, resume);
}

static void
fault_watch_dir(void *self, const char *path)
{
    sx_provider_watch_dir(((Fault *)self)->inner, path);
}

static void
fault_close(void *self)
{
    Fault *f = self;
    g_hash_table_unref(f->listings);
    g_mutex_clear(&f->lock);
    g_cond_clear(&f->woken);
    g_free(f);
}

static const SxProviderType layer = {
    .close = fault_close, .probe = fault_probe, .list = fault_list, .stat = fault_stat, .read = fault_read,
    .write = fault_write, .discard = fault_discard, .mkdir = fault_mkdir, .symlink = fault_symlink,
    .remove = fault_remove, .move = fault_move, .copy = fault_copy, .set_attr = fault_set_attr, .watch = fault_watch,
    .watch_dir = fault_watch_dir, .quota = fault_quota, .lend_fd = fault_lend_fd,
};

SxProvider *
sx_fault_wrap(SxProvider *inner, SxFaultPlan *plan)
{
    Fault *f = g_new0(Fault, 1);
    f->inner = inner;
    f->plan = plan;
    g_mutex_init(&f->lock);
    g_cond_init(&f->woken);
    f->listings = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)g_ptr_array_unref);
    sx_provider_layer_type(inner, &layer, &f->type);
    return sx_provider_wrap(inner, &f->type, f);
}

void
sx_fault_set_offline(SxFaultPlan *plan, bool offline)
{
    __atomic_store_n(&plan->offline, offline, __ATOMIC_RELAXED);
}
