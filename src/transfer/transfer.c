#include "transfer/transfer_i.h"

#include "base/log.h"

#include <errno.h>
#include <stdarg.h>

#define SX_DEFAULT_THREADS 8
#define SX_DEFAULT_POLL_MS 60000
#define SX_DEFAULT_TIMEOUT_MS 30000
#define SX_QUOTA_FRESH_MS 60000

/* ---- providers ---- */

SxProv *
sx_transfer_prov(SxTransfer *t, int id)
{
    for (guint i = 0; i < t->provs->len; i++) {
        SxProv *v = t->provs->pdata[i];
        if (v->id == id)
            return v;
    }
    return NULL;
}

SxProv *
sx_transfer_prov_of(SxTransfer *t, gint64 ino)
{
    SxAttr attr;
    return sx_tree_getattr(t->tree, ino, &attr) == 0 ? sx_transfer_prov(t, attr.provider) : NULL;
}

static void
prov_free(gpointer data)
{
    SxProv *v = data;
    for (SxRun *run; (run = g_queue_pop_head(&v->ready)) != NULL;)
        sx_schedule_run_free(run);
    g_hash_table_unref(v->wants);
    g_hash_table_unref(v->verify_wait);
    g_hash_table_unref(v->held);
    g_hash_table_unref(v->failing);
    sx_provider_unref(v->p);
    g_free(v->name);
    g_free(v);
}

static gint64
section_int(const SxProvider *p, const char *key, gint64 def)
{
    const SxSection *s = sx_provider_section(p);
    return s != NULL && sx_section_is_set(s, key) ? sx_section_int(s, key) : def;
}

bool
sx_transfer_add_provider(SxTransfer *t, SxProvider *p, int *ret_id, gint64 *ret_root, GError **error)
{
    SxCaps caps;
    int id;
    gint64 root;
    sx_provider_caps(p, &caps);
    if (!sx_tree_add_provider(t->tree, sx_provider_name(p), sx_provider_label(p), &caps, &id, &root, error))
        return false;
    SxProv *v = g_new0(SxProv, 1);
    v->t = t;
    v->id = id;
    v->root = root;
    v->p = sx_provider_ref(p);
    v->name = g_strdup(sx_provider_name(p));
    sx_provider_share_bandwidth(p, t->bandwidth);
    v->poll_ms = section_int(p, "poll", SX_DEFAULT_POLL_MS);
    v->timeout_ms = section_int(p, "timeout", SX_DEFAULT_TIMEOUT_MS);
    v->lanes[SX_LANE_UP].limit = (int)section_int(p, "upload-threads", t->threads[SX_LANE_UP]);
    v->lanes[SX_LANE_DOWN].limit = (int)section_int(p, "download-threads", t->threads[SX_LANE_DOWN]);
    v->lanes[SX_LANE_LIST].limit = SX_LANE_LIST_LIMIT;
    v->batch = SX_BATCH_MIN;
    v->replan = true;
    v->wants = g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL, g_free);
    v->verify_wait = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, g_free);
    v->held = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, g_free);
    v->failing = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, sx_failing_free);
    v->quota_at_ms = G_MININT64;
    g_ptr_array_add(t->provs, v);
    if (ret_id != NULL)
        *ret_id = id;
    if (ret_root != NULL)
        *ret_root = root;
    return true;
}

SxProvider *
sx_transfer_provider(SxTransfer *t, int id)
{
    SxProv *v = sx_transfer_prov(t, id);
    return v != NULL ? v->p : NULL;
}

void
sx_transfer_each_provider(SxTransfer *t, void (*fn)(void *data, int id, SxProvider *p, gint64 root), void *data)
{
    for (guint i = 0; i < t->provs->len; i++) {
        SxProv *v = t->provs->pdata[i];
        fn(data, v->id, v->p, v->root);
    }
}

/* ---- making and ending ---- */

SxTransfer *
sx_transfer_new(const SxTransferOptions *o, GError **error)
{
    g_autoptr(SxBandwidth) bandwidth = sx_bandwidth_new(o->bandwidth_up, o->bandwidth_down, o->clock, error);
    if (bandwidth == NULL)
        return NULL;
    SxTransfer *t = g_new0(SxTransfer, 1);
    t->tree = o->tree;
    t->cache = o->cache;
    t->events = o->events;
    t->clock = o->clock;
    if (o->notify != NULL)
        t->notify = *o->notify;
    t->executor = o->executor;
    t->threads[SX_LANE_UP] = o->upload_threads > 0 ? o->upload_threads : SX_DEFAULT_THREADS;
    t->threads[SX_LANE_DOWN] = o->download_threads > 0 ? o->download_threads : SX_DEFAULT_THREADS;
    t->write_back_delay_ms = o->write_back_delay_ms;
    t->memory_budget = MAX(o->memory_budget, SX_FIRST_WINDOW);
    t->who = g_strdup(o->who != NULL ? o->who : "syncoxfs");
    t->provs = g_ptr_array_new_with_free_func(prov_free);
    t->cancel = g_cancellable_new();
    t->bandwidth = g_steal_pointer(&bandwidth);
    g_mutex_init(&t->lock);
    g_cond_init(&t->cond);
    g_cond_init(&t->wake);
    t->running = g_hash_table_new(g_int64_hash, g_int64_equal);
    t->holds = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, g_free);
    t->touched = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    t->moved = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, g_free);
    t->flights = g_hash_table_new(g_int64_hash, g_int64_equal);
    t->fetches = g_hash_table_new(g_int64_hash, g_int64_equal);
    t->kept = g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL, sx_download_kept_free);
    t->used = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, g_free);
    return t;
}

void
sx_transfer_free(SxTransfer *t)
{
    if (t == NULL)
        return;
    sx_transfer_stop(t);
    sx_cache_set_hurry(t->cache, NULL, NULL);
    g_ptr_array_unref(t->provs);
    g_hash_table_unref(t->running);
    g_hash_table_unref(t->holds);
    g_hash_table_unref(t->touched);
    g_hash_table_unref(t->moved);
    g_hash_table_unref(t->flights);
    g_hash_table_unref(t->fetches);
    g_hash_table_unref(t->kept);
    g_hash_table_unref(t->used);
    sx_bandwidth_unref(t->bandwidth);
    g_object_unref(t->cancel);
    g_free(t->who);
    g_mutex_clear(&t->lock);
    g_cond_clear(&t->cond);
    g_cond_clear(&t->wake);
    g_free(t);
}

/* A write that the last run did not finish: the cache file knows its size and when it was last written. */
static void
finish_write(SxTransfer *t, gint64 ino)
{
    SxAttr attr;
    if (sx_tree_getattr(t->tree, ino, &attr) != 0)
        return;
    gint64 size = attr.size, mtime_ns = SX_TIME_UNKNOWN;
    g_autoptr(GError) error = NULL;
    g_autoptr(SxContent) content = sx_content_open(t->cache, &attr, &error);
    if (content != NULL) {
        size = sx_content_size(content);
        mtime_ns = sx_content_disk_mtime_ns(content);
    } else {
        sx_warn("%s", error->message);
    }
    if (mtime_ns == SX_TIME_UNKNOWN)
        mtime_ns = attr.mtime_ns;
    gint64 due = sx_clock_real_ms(t->clock) + t->write_back_delay_ms;
    sx_tree_write_end(t->tree, ino, size, mtime_ns, true, due, &attr);
}

static void
recover(SxTransfer *t)
{
    g_autoptr(GArray) unfinished = sx_tree_unfinished(t->tree);
    for (guint i = 0; unfinished != NULL && i < unfinished->len; i++)
        finish_write(t, g_array_index(unfinished, gint64, i));
    g_autoptr(GArray) orphans = sx_tree_orphans(t->tree);
    for (guint i = 0; orphans != NULL && i < orphans->len; i++)
        sx_tree_drop_orphan(t->tree, g_array_index(orphans, gint64, i));
}

static void
pool_run(gpointer data, gpointer user)
{
    SxTask *task = data;
    task->fn(task);
}

static bool
start_threads(SxTransfer *t, GError **error)
{
    /* Each lane keeps its own limit, so that a provider that hangs takes no thread from the others. */
    for (int i = 0; i < SX_N_LANES; i++) {
        t->pools[i] = g_thread_pool_new(pool_run, t, -1, FALSE, error);
        if (t->pools[i] == NULL)
            return false;
    }
    t->scheduler = g_thread_try_new("sx-schedule", sx_schedule_thread, t, error);
    if (t->scheduler == NULL)
        return false;
    for (guint i = 0; i < t->provs->len; i++)
        sx_changes_watch(t->provs->pdata[i]);
    return true;
}

/* Called by the cache on a writer's thread. */
static void
hurry(void *data)
{
    SxTransfer *t = data;
    g_atomic_int_set(&t->hurried, 1);
    sx_transfer_kick(t);
}

bool
sx_transfer_start(SxTransfer *t, GError **error)
{
    sx_cache_set_hurry(t->cache, hurry, t);
    recover(t);
    g_mutex_lock(&t->lock);
    t->started = true;
    g_mutex_unlock(&t->lock);
    return t->executor != NULL || start_threads(t, error);
}

void
sx_transfer_stop(SxTransfer *t)
{
    g_mutex_lock(&t->lock);
    t->stopping = true;
    g_cond_broadcast(&t->cond);
    g_cond_broadcast(&t->wake);
    g_mutex_unlock(&t->lock);
    g_cancellable_cancel(t->cancel);
    g_clear_pointer(&t->scheduler, g_thread_join);
    for (guint i = 0; i < t->provs->len; i++)
        g_clear_pointer(&((SxProv *)t->provs->pdata[i])->watcher, g_thread_join);
    sx_download_stop(t);
    g_mutex_lock(&t->lock);
    while (t->executor == NULL && t->active > 0)
        g_cond_wait(&t->cond, &t->lock);
    g_mutex_unlock(&t->lock);
    for (int i = 0; i < SX_N_LANES; i++) {
        if (t->pools[i] != NULL)
            g_thread_pool_free(t->pools[i], FALSE, TRUE);
        t->pools[i] = NULL;
    }
}

bool
sx_transfer_step(SxTransfer *t)
{
    bool submitted;
    sx_schedule_run(t, &submitted);
    g_mutex_lock(&t->lock);
    bool active = t->active > 0;
    g_mutex_unlock(&t->lock);
    return submitted || active;
}

void
sx_transfer_kick(SxTransfer *t)
{
    if (g_atomic_int_exchange(&t->kicked, 1) != 0)
        return;
    g_mutex_lock(&t->lock);
    g_cond_signal(&t->wake);
    g_mutex_unlock(&t->lock);
}

/* ---- waiting ---- */

bool
sx_transfer_wait(SxTransfer *t, gint64 deadline_mono_ms)
{
    if (deadline_mono_ms == G_MAXINT64) {
        g_cond_wait(&t->cond, &t->lock);
        return true;
    }
    gint64 left = deadline_mono_ms - sx_clock_mono_ms(t->clock);
    return left > 0 && (g_cond_wait_until(&t->cond, &t->lock, g_get_monotonic_time() + left * 1000) || true);
}

typedef struct Left {
    SxTransfer *t;
    bool pending, parked, refused;
} Left;

/* Asked again when the flush began, and refused again: nothing will happen until the user does something. */
static bool
stays_refused(SxTransfer *t, int provider)
{
    SxProv *v = sx_transfer_prov(t, provider);
    g_mutex_lock(&t->lock);
    bool yes = v != NULL && v->refused && !v->probing && v->probe_at_ms != 0;
    g_mutex_unlock(&t->lock);
    return yes;
}

static bool
note_left(void *data, const SxRow *row)
{
    Left *left = data;
    bool refused = !row->parked && !left->pending && stays_refused(left->t, row->provider);
    left->refused |= refused;
    left->pending |= !row->parked && !refused;
    left->parked |= row->parked;
    return !(left->pending && left->parked);
}

#define SX_FLUSH_LOOK_MS 250 /* rows also become clean by other ways than an operation that ends */

int
sx_transfer_flush(SxTransfer *t, gint64 dir, gint64 timeout_ms, GCancellable *cancel)
{
    gint64 deadline = timeout_ms < 0 ? G_MAXINT64 : sx_clock_mono_ms(t->clock) + timeout_ms;
    sx_tree_hurry(t->tree, dir, sx_clock_real_ms(t->clock));
    for (guint i = 0; i < t->provs->len; i++)
        sx_health_probe_now(t->provs->pdata[i]);
    sx_transfer_kick(t);
    SxWaker waker;
    sx_waker_init(&waker, &t->lock, &t->cond, cancel);
    int ret = -EAGAIN;
    while (ret == -EAGAIN) {
        Left left = {.t = t};
        gint64 began = sx_clock_mono_ms(t->clock);
        sx_tree_each_pending(t->tree, dir, G_MAXUINT, note_left, &left);
        gint64 now = sx_clock_mono_ms(t->clock);
        gint64 look_ms = MAX(SX_FLUSH_LOOK_MS, 4 * (now - began)); /* with many rows looking is work */
        g_mutex_lock(&t->lock);
        if (!left.pending)
            ret = left.refused ? -EACCES : left.parked ? -EIO : 0;
        else if (t->stopping || g_cancellable_is_cancelled(cancel))
            ret = -EINTR;
        else if (now >= deadline || t->executor != NULL)
            ret = -ETIMEDOUT;
        else
            sx_transfer_wait(t, MIN(deadline, now + look_ms));
        g_mutex_unlock(&t->lock);
    }
    sx_waker_clear(&waker);
    return ret;
}

/* ---- bytes ---- */

void
sx_transfer_moved_bytes(SxTransfer *t, bool up, gint64 n)
{
    gint64 sec = sx_clock_mono_ms(t->clock) / 1000;
    g_mutex_lock(&t->lock);
    guint i = (guint)(sec % (SX_RATE_BINS + 1));
    if (t->bins[i].sec != sec) {
        t->bins[i].sec = sec;
        t->bins[i].up = t->bins[i].down = 0;
    }
    if (up) {
        t->bins[i].up += (guint64)n;
        t->up_total += (guint64)n;
    } else {
        t->bins[i].down += (guint64)n;
        t->down_total += (guint64)n;
    }
    g_mutex_unlock(&t->lock);
}

void
sx_transfer_rates(SxTransfer *t, SxRates *ret)
{
    gint64 sec = sx_clock_mono_ms(t->clock) / 1000;
    *ret = (SxRates){0};
    g_mutex_lock(&t->lock);
    for (guint i = 0; i <= SX_RATE_BINS; i++) {
        if (t->bins[i].sec >= sec || t->bins[i].sec < sec - SX_RATE_BINS)
            continue; /* the second that runs is not whole */
        ret->up += (double)t->bins[i].up / SX_RATE_BINS;
        ret->down += (double)t->bins[i].down / SX_RATE_BINS;
    }
    ret->up_total = t->up_total;
    ret->down_total = t->down_total;
    g_mutex_unlock(&t->lock);
}

/* ---- telling ---- */

void
sx_transfer_event(SxTransfer *t, SxProv *v, gint64 ino, const char *kind, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    g_autofree char *text = g_strdup_vprintf(format, ap);
    va_end(ap);
    g_autofree char *path = ino != 0 ? sx_tree_path(t->tree, ino) : NULL;
    if (t->events != NULL)
        sx_events_emit(t->events, sx_clock_real_ns(t->clock), kind, v->name, path, "%s", text);
}

void
sx_transfer_tell(SxTransfer *t, SxChanges *changes)
{
    const SxNotify *n = &t->notify;
    for (guint i = 0; i < sx_changes_len(changes); i++) {
        const SxChange *c = sx_changes_get(changes, i);
        switch (c->kind) {
        case SX_CHANGE_ENTRY_NEW:
            if (n->inval_entry != NULL)
                n->inval_entry(n->data, c->parent, c->name);
            break;
        case SX_CHANGE_ENTRY_GONE:
            if (n->gone_entry != NULL)
                n->gone_entry(n->data, c->parent, c->ino, c->name);
            break;
        case SX_CHANGE_CONTENT: {
            g_autoptr(SxContent) content = sx_cache_peek(t->cache, c->ino);
            if (content != NULL)
                sx_content_replace(content, c->cver, c->size);
            else
                sx_cache_discard(t->cache, c->ino, c->cver - 1);
            if (n->inval_inode != NULL)
                n->inval_inode(n->data, c->ino, true);
            break;
        }
        case SX_CHANGE_ATTR:
            if (n->inval_inode != NULL)
                n->inval_inode(n->data, c->ino, false);
            break;
        }
    }
}

void
sx_transfer_tell_name(SxTransfer *t, gint64 parent, const char *name)
{
    if (t->notify.inval_entry != NULL)
        t->notify.inval_entry(t->notify.data, parent, name);
}

/* ---- looking in ---- */

void
sx_job_free(SxJob *job)
{
    if (job == NULL)
        return;
    g_free(job->path);
    g_free(job);
}

GPtrArray *
sx_transfer_jobs(SxTransfer *t)
{
    GPtrArray *jobs = g_ptr_array_new_with_free_func((GDestroyNotify)sx_job_free);
    g_mutex_lock(&t->lock);
    GHashTableIter iter;
    gpointer value;
    g_hash_table_iter_init(&iter, t->running);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const SxRun *run = value;
        SxJob *job = g_new0(SxJob, 1);
        *job = (SxJob){.provider = run->task.v->id, .ino = run->ino, .what = sx_op_name(run->kind), .done = run->done,
                       .total = run->total, .started_mono_ms = run->started_mono_ms};
        if (run->ino == 0) /* deleted here: the name is all that is left */
            job->path = g_strdup(run->from_name);
        g_ptr_array_add(jobs, job);
    }
    g_mutex_unlock(&t->lock);
    sx_download_jobs(t, jobs);
    for (guint i = 0; i < jobs->len; i++) {
        SxJob *job = jobs->pdata[i];
        if (job->path == NULL)
            job->path = sx_tree_path(t->tree, job->ino);
        if (job->path == NULL)
            job->path = g_strdup("");
    }
    return jobs;
}

bool
sx_transfer_progress(SxTransfer *t, gint64 ino, bool *ret_upload, int *ret_percent)
{
    gint64 done = 0, total = 0;
    bool up = false;
    g_mutex_lock(&t->lock);
    GHashTableIter iter;
    gpointer value;
    g_hash_table_iter_init(&iter, t->running);
    while (!up && g_hash_table_iter_next(&iter, NULL, &value)) {
        const SxRun *run = value;
        bool content = run->kind == SX_OP_UPLOAD || run->kind == SX_OP_UPLOAD_NEW;
        up = run->ino == ino && run->begun && content;
        done = run->done;
        total = run->total;
    }
    g_mutex_unlock(&t->lock);
    if (!up && !sx_download_progress(t, ino, &done, &total))
        return false;
    *ret_upload = up;
    *ret_percent = total > 0 ? (int)CLAMP(done * 100 / total, 0, 100) : 0;
    return true;
}

/* ---- quota and probe ---- */

static void
quota_run(SxTask *task)
{
    SxProv *v = task->v;
    SxTransfer *t = task->t;
    g_free(task);
    SxQuota quota = {-1, -1, -1};
    bool ok = sx_provider_quota(v->p, &quota, t->cancel, NULL);
    g_mutex_lock(&t->lock);
    if (ok) {
        v->quota = quota;
        v->quota_known = true;
    }
    v->quota_at_ms = sx_clock_mono_ms(t->clock);
    v->quota_asked = false;
    g_mutex_unlock(&t->lock);
    sx_lane_end(v, SX_LANE_LIST);
}

int
sx_transfer_quota(SxTransfer *t, int provider, SxQuota *ret)
{
    SxProv *v = sx_transfer_prov(t, provider);
    if (v == NULL)
        return -ENODEV;
    gint64 now = sx_clock_mono_ms(t->clock);
    bool can = SX_CAN(v->p, quota);
    g_mutex_lock(&t->lock);
    bool stale = v->quota_at_ms == G_MININT64 || now - v->quota_at_ms > SX_QUOTA_FRESH_MS;
    bool ask = can && stale && !v->quota_asked && !v->offline && !v->refused && t->started && !t->stopping;
    v->quota_asked |= ask;
    *ret = v->quota_known ? v->quota : (SxQuota){-1, -1, -1};
    g_mutex_unlock(&t->lock);
    if (!ask)
        return 0;
    SxTask *task = g_new0(SxTask, 1);
    *task = (SxTask){.t = t, .v = v, .lane = SX_LANE_LIST, .fn = quota_run};
    sx_lane_submit(task, false);
    return 0;
}

bool
sx_transfer_probe(SxTransfer *t, int provider, GCancellable *cancel, GError **error)
{
    SxProv *v = sx_transfer_prov(t, provider);
    if (v == NULL)
        return sx_fail(error, SX_ERR_INVALID, "there is no provider with the number %d", provider);
    g_autoptr(GError) why = NULL;
    if (!sx_provider_probe(v->p, cancel, &why)) {
        if (!g_cancellable_is_cancelled(cancel))
            sx_health_error(v, why);
        g_propagate_error(error, g_steal_pointer(&why));
        return false;
    }
    SxCaps caps;
    sx_provider_caps(v->p, &caps);
    if (!sx_tree_set_caps(t->tree, v->id, &caps, error))
        return false;
    sx_health_ok(v);
    return true;
}

bool
sx_transfer_held(SxTransfer *t, int provider, char **ret_text)
{
    SxProv *v = sx_transfer_prov(t, provider);
    if (v == NULL)
        return false;
    g_mutex_lock(&t->lock);
    GHashTableIter iter;
    gpointer value = NULL;
    g_hash_table_iter_init(&iter, v->held);
    bool held = g_hash_table_iter_next(&iter, NULL, &value);
    if (held && ret_text != NULL)
        *ret_text = g_strdup(value);
    g_mutex_unlock(&t->lock);
    return held;
}
