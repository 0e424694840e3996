/* The scheduler: what runs when, and beside what.
 *
 * A plan is made from the rows that are due, sorted by a virtual deadline, and handed out as the lanes have room: by the
 * scheduler's thread, and by each worker that ends. The worker reads its row again and plans it alone before it acts,
 * so an entry of the queue that has become stale does nothing.
 * What excludes what: one operation a row; an operation that changes the place of a directory runs alone in its subtree
 * (on either side's path), and as soon as one is waiting for that, nothing new starts below it. */
#include "transfer/transfer_i.h"

#include "base/log.h"

#include <string.h>

void
sx_schedule_wake(SxTransfer *t)
{
    g_atomic_int_set(&t->kicked, 1);
    g_mutex_lock(&t->lock);
    g_cond_signal(&t->wake);
    g_mutex_unlock(&t->lock);
}

/* ---- directories that want a listing ---- */

void
sx_schedule_want(SxProv *v, gint64 dir, gint64 in_ms)
{
    SxTransfer *t = v->t;
    gint64 now = sx_clock_mono_ms(t->clock);
    g_mutex_lock(&t->lock);
    SxWant *w = g_hash_table_lookup(v->wants, &dir);
    bool new_ = w == NULL;
    if (new_ && g_hash_table_size(v->wants) < SX_LANE_QUEUE_MAX) {
        w = g_new0(SxWant, 1);
        *w = (SxWant){.dir = dir, .first_ms = now, .due_ms = now + in_ms};
        g_hash_table_insert(v->wants, &w->dir, w);
    }
    g_mutex_unlock(&t->lock);
    if (new_)
        sx_schedule_wake(t);
}

/* lock is held. Is an upload under way into that directory? One listing then serves them all. */
static bool
is_busy_dir(SxTransfer *t, gint64 dir)
{
    GHashTableIter iter;
    gpointer value;
    g_hash_table_iter_init(&iter, t->running);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const SxRun *run = value;
        if (run->from_dir == dir || run->to_dir == dir)
            return true;
    }
    return false;
}

#define SX_WANT_PATIENCE_MS 5000
#define SX_WANT_STEP_MS 200

static gint64
list_wanted(SxProv *v, gint64 now)
{
    SxTransfer *t = v->t;
    gint64 next = G_MAXINT64;
    g_autoptr(GArray) dirs = g_array_new(FALSE, FALSE, sizeof(gint64));
    g_mutex_lock(&t->lock);
    bool paused = v->offline || v->refused || now < v->pause_until_ms;
    GHashTableIter iter;
    gpointer value;
    g_hash_table_iter_init(&iter, v->wants);
    while (!paused && g_hash_table_iter_next(&iter, NULL, &value)) {
        SxWant *w = value;
        if (w->due_ms <= now && now < w->first_ms + SX_WANT_PATIENCE_MS && is_busy_dir(t, w->dir))
            w->due_ms = now + SX_WANT_STEP_MS;
        next = MIN(next, w->due_ms);
        if (w->due_ms > now)
            continue;
        g_array_append_val(dirs, w->dir);
        g_hash_table_iter_remove(&iter);
    }
    g_mutex_unlock(&t->lock);
    for (guint i = 0; i < dirs->len; i++)
        sx_changes_list_later(v, g_array_index(dirs, gint64, i));
    return dirs->len > 0 ? now : next;
}

/* ---- the queue of planned operations ---- */

void
sx_schedule_run_free(SxRun *run)
{
    if (run == NULL)
        return;
    if (run->above != NULL)
        g_array_unref(run->above);
    g_free(run->from_name);
    g_free(run->to_name);
    g_free(run);
}

void
sx_schedule_hold(SxTransfer *t, gint64 row, gint64 ms)
{
    gint64 *key = g_new(gint64, 1), *until = g_new(gint64, 1);
    *key = row;
    *until = sx_clock_mono_ms(t->clock) + MAX(ms, 1);
    g_mutex_lock(&t->lock);
    g_hash_table_replace(t->holds, key, until);
    g_mutex_unlock(&t->lock);
}

static void
add_above(SxTransfer *t, GArray *to, gint64 dir)
{
    g_autoptr(GArray) more = dir != 0 ? sx_tree_remote_ancestors(t->tree, dir) : NULL;
    if (more != NULL)
        g_array_append_vals(to, more->data, more->len);
}

static void run_op(SxTask *task);

/* Which names and paths an operation uses. */
static SxRun *
run_new(SxProv *v, const SxRow *row, SxOpKind kind)
{
    SxRun *run = g_new0(SxRun, 1);
    run->task = (SxTask){.t = v->t, .v = v, .lane = SX_LANE_UP, .fn = run_op};
    run->row = row->id;
    run->ino = row->ino;
    run->kind = kind;
    run->above = g_array_new(FALSE, FALSE, sizeof(gint64));
    bool content = kind == SX_OP_UPLOAD_NEW || kind == SX_OP_UPLOAD || kind == SX_OP_CONFLICT;
    run->size = content ? row->size : 0;
    run->total = run->size;
    /* Every MiB lets others overtake for 64 ms, up to a minute: small files first, and nothing waits for ever. */
    run->key = row->due_real_ms + MIN(run->size / 16384, 60000);
    if (row->r_parent != 0) {
        run->from_dir = row->r_parent;
        run->from_name = g_strdup(row->r_name);
        add_above(v->t, run->above, row->r_parent);
    }
    if (kind == SX_OP_SETTLE) {
        run->to_dir = row->t_parent;
        run->to_name = g_strdup(row->t_name);
        add_above(v->t, run->above, row->t_parent);
    } else if (row->r_parent == 0 || kind == SX_OP_MOVE) {
        run->to_dir = row->l_parent;
        run->to_name = g_strdup(row->l_name);
        add_above(v->t, run->above, row->l_parent);
    } else if (kind == SX_OP_MOVE_AWAY) {
        run->to_dir = row->r_parent;
        run->to_name = g_strdup_printf(SX_ASIDE_PREFIX "%" G_GINT64_FORMAT, row->id);
    }
    if (row->kind == SX_KIND_DIR && (kind == SX_OP_MOVE || kind == SX_OP_MOVE_AWAY || kind == SX_OP_REMOVE))
        run->dir_moved = row->ino;
    return run;
}

static bool
uses(const SxRun *run, gint64 dir)
{
    if (run->dir_moved == dir)
        return true;
    for (guint i = 0; i < run->above->len; i++)
        if (g_array_index(run->above, gint64, i) == dir)
            return true;
    return false;
}

static bool
exclude(const SxRun *a, const SxRun *b)
{
    return (a->dir_moved != 0 && uses(b, a->dir_moved)) || (b->dir_moved != 0 && uses(a, b->dir_moved));
}

/* lock is held. May it start beside what runs and what waits for its turn before it? */
static bool
is_free(SxTransfer *t, const SxRun *run, const GPtrArray *ahead)
{
    if (g_hash_table_contains(t->running, &run->row))
        return false;
    GHashTableIter iter;
    gpointer value;
    g_hash_table_iter_init(&iter, t->running);
    while (g_hash_table_iter_next(&iter, NULL, &value))
        if (exclude(run, value))
            return false;
    for (guint i = 0; i < ahead->len; i++)
        if (exclude(run, ahead->pdata[i]))
            return false;
    return true;
}

/* lock is held */
static int
large_running(SxProv *v)
{
    int n = 0;
    GHashTableIter iter;
    gpointer value;
    g_hash_table_iter_init(&iter, v->t->running);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const SxRun *run = value;
        n += run->task.v == v && run->size > SX_SMALL_FILE;
    }
    return n;
}

/* lock is held. The next operation that may start, taken out of the queue; NULL. */
static SxRun *
take_ready(SxProv *v)
{
    SxTransfer *t = v->t;
    SxLane *lane = &v->lanes[SX_LANE_UP];
    int large_limit = lane->limit > 1 ? lane->limit - MAX(1, lane->limit / 4) : 1;
    bool large_ok = large_running(v) < large_limit;
    g_autoptr(GPtrArray) ahead = g_ptr_array_new(); /* moves of directories that wait until their subtree is quiet */
    for (GList *l = v->ready.head; l != NULL; l = l->next) {
        SxRun *run = l->data;
        bool fits = run->size <= SX_SMALL_FILE || large_ok;
        if (fits && is_free(t, run, ahead)) {
            g_queue_delete_link(&v->ready, l);
            return run;
        }
        if (run->dir_moved != 0)
            g_ptr_array_add(ahead, run);
    }
    return NULL;
}

/* Hands out what may start now. */
static bool
dispatch(SxProv *v)
{
    SxTransfer *t = v->t;
    bool any = false;
    for (;;) {
        g_mutex_lock(&t->lock);
        SxLane *lane = &v->lanes[SX_LANE_UP];
        bool room = lane->running + (int)lane->urgent.length < lane->limit;
        bool paused = t->stopping || v->offline || v->refused || sx_clock_mono_ms(t->clock) < v->pause_until_ms;
        SxRun *run = room && !paused ? take_ready(v) : NULL;
        if (run != NULL) {
            g_hash_table_insert(t->running, &run->row, run);
            run->started_mono_ms = sx_clock_mono_ms(t->clock);
        }
        g_mutex_unlock(&t->lock);
        if (run == NULL)
            return any;
        sx_lane_submit(&run->task, true);
        any = true;
    }
}

/* ---- one operation on a worker ---- */

static void
park_or_retry(SxRun *run, SxRow *row, const GError *why)
{
    SxTransfer *t = run->task.t;
    SxRetry retry = sx_health_error(run->task.v, why);
    if (sx_error_is(why, SX_ERR_OFFLINE) || sx_error_is(why, SX_ERR_RATE) || retry == SX_RETRY_AUTH)
        return; /* the whole provider pauses; the row did nothing wrong */
    if (g_cancellable_is_cancelled(t->cancel))
        return;
    if (retry == SX_RETRY_REPLAN) { /* what is there is not what we thought: look */
        sx_schedule_want(run->task.v, run->from_dir != 0 ? run->from_dir : run->to_dir, 0);
        if (run->to_dir != 0 && run->to_dir != run->from_dir)
            sx_schedule_want(run->task.v, run->to_dir, 0);
    }
    bool park = retry == SX_RETRY_NEVER;
    gint64 wait = sx_plan_backoff_ms(row->tries, sx_clock_random(t->clock));
    wait = MAX(wait, sx_error_retry_after_ms(why));
    g_autoptr(GError) error = NULL;
    if (!sx_tree_failed(t->tree, row->id, why, sx_clock_real_ms(t->clock) + wait, park, &error)) {
        sx_schedule_hold(t, row->id, wait); /* a store that cannot be written must not make us spin */
        return;
    }
    bool tell = park || row->tries == 4 || (row->tries == 0 && (sx_error_is(why, SX_ERR_NO_SPACE) || sx_error_is(why, SX_ERR_QUOTA)));
    if (tell)
        sx_transfer_event(t, run->task.v, row->ino, "error", "%s", why->message);
}

static bool
op_of_row(SxRun *run, SxRow *row, SxOpKind kind, GError **error)
{
    switch (kind) {
    case SX_OP_UPLOAD_NEW:
    case SX_OP_UPLOAD:
    case SX_OP_CONFLICT: return sx_upload_op(run, row, kind, error);
    default: return sx_remote_op(run, row, kind, error);
    }
}

#define SX_KEPT_LOOK_MS 250

/* Somebody has the old content open and not all of it is here: it must be fetched before it is gone there. */
static bool
is_needed(SxRun *run, const SxRow *row)
{
    bool destroys = run->kind == SX_OP_REMOVE || run->kind == SX_OP_UPLOAD || run->kind == SX_OP_CONFLICT;
    if (!destroys || !sx_download_is_kept(run->task.v, row))
        return false;
    sx_schedule_hold(run->task.t, row->id, SX_KEPT_LOOK_MS);
    return true;
}

/* The row is read again: what was planned may have changed. A step aside was decided by looking at several rows, and is
 * still right while the row has a remote side to move. */
static void
run_row(SxRun *run)
{
    SxTransfer *t = run->task.t;
    g_autoptr(SxRow) row = sx_tree_row(t->tree, run->row);
    if (row == NULL || row->pending == 0 || row->parked || g_cancellable_is_cancelled(t->cancel))
        return;
    const SxRow *one = row;
    SxOp op;
    sx_plan(&one, 1, &op);
    bool away = run->kind == SX_OP_MOVE_AWAY && row->r_parent == run->from_dir && g_strcmp0(row->r_name, run->from_name) == 0;
    bool same_place = (row->r_parent == 0 || (row->r_parent == run->from_dir && g_strcmp0(row->r_name, run->from_name) == 0)) &&
                      (run->kind == SX_OP_MOVE_AWAY || run->kind == SX_OP_SETTLE || run->to_dir == 0 ||
                       (row->l_parent == run->to_dir && g_strcmp0(row->l_name, run->to_name) == 0));
    if (!same_place || (op.kind != run->kind && !away) || is_needed(run, row))
        return;
    /* A directory above may have been moved there by a try whose reply was lost: it has to be found first. */
    if (sx_tree_remote_unsettled(t->tree, run->from_dir) || sx_tree_remote_unsettled(t->tree, run->to_dir)) {
        sx_schedule_hold(t, row->id, SX_UNSETTLED_MS);
        return;
    }
    g_autoptr(GError) why = NULL;
    if (op_of_row(run, row, run->kind, &why))
        sx_health_ok(run->task.v);
    else if (why != NULL)
        park_or_retry(run, row, why);
}

static void
run_op(SxTask *task)
{
    SxRun *run = (SxRun *)task;
    SxTransfer *t = task->t;
    SxProv *v = task->v;
    g_mutex_lock(&t->lock);
    run->begun = true;
    sx_look_touch(t, run, 1);
    g_mutex_unlock(&t->lock);
    run_row(run);
    g_mutex_lock(&t->lock);
    sx_look_touch(t, run, -1);
    g_hash_table_remove(t->running, &run->row);
    bool low = (int)v->ready.length < v->lanes[SX_LANE_UP].limit;
    v->replan |= low || run->dir_moved != 0; /* paths of planned operations are stale after a move */
    bool replan = v->replan;
    g_cond_broadcast(&t->cond);
    g_mutex_unlock(&t->lock);
    sx_schedule_run_free(run);
    if (t->executor == NULL)
        dispatch(v);
    if (replan)
        sx_schedule_wake(t);
    sx_lane_end(v, SX_LANE_UP);
}

/* ---- planning ---- */

static gint
by_key(gconstpointer a, gconstpointer b, gpointer data)
{
    const SxRun *x = a, *y = b;
    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    return x->row < y->row ? -1 : x->row > y->row;
}

/* One listing a directory tells the versions of many uploads. While looking tells nothing it is done ever less often, while
 * uploads go on every two seconds at most; rows that come before the next look wait for that. */
static void
want_verify(SxProv *v, gint64 dir)
{
    SxTransfer *t = v->t;
    g_mutex_lock(&t->lock);
    gint64 now = sx_clock_mono_ms(t->clock);
    SxVerify *wait = g_hash_table_lookup(v->verify_wait, &dir);
    if (wait == NULL) {
        wait = g_new0(SxVerify, 1);
        g_hash_table_insert(v->verify_wait, g_memdup2(&dir, sizeof dir), wait);
    }
    if (wait->ms == 0 || now > wait->due_ms + SX_VERIFY_QUIET_MS)
        wait->ms = SX_VERIFY_MIN_MS;
    else if (now >= wait->due_ms)
        wait->ms = MIN(wait->ms * 2, wait->told ? SX_VERIFY_BUSY_MS : SX_VERIFY_MAX_MS);
    if (now >= wait->due_ms) {
        wait->due_ms = now + wait->ms;
        wait->told = false;
    }
    gint64 ms = wait->due_ms - now;
    g_mutex_unlock(&t->lock);
    sx_schedule_want(v, dir, ms);
}

void
sx_schedule_verified(SxProv *v, gint64 dir)
{
    g_mutex_lock(&v->t->lock);
    g_hash_table_remove(v->verify_wait, &dir);
    g_mutex_unlock(&v->t->lock);
}

/* lock is held. Is the row free to be planned? *next: when it will be. */
static bool
is_held(SxTransfer *t, gint64 row, gint64 now, gint64 *next)
{
    gint64 *until = g_hash_table_lookup(t->holds, &row);
    if (until == NULL)
        return false;
    if (*until > now) {
        *next = MIN(*next, *until);
        return true;
    }
    g_hash_table_remove(t->holds, &row);
    return false;
}

/* Turns rows into runs; *ret_left counts the rows that have to wait. */
static GQueue
plan_rows(SxProv *v, GPtrArray *rows, gint64 now, gint64 *next, guint *ret_left)
{
    SxTransfer *t = v->t;
    GQueue queue = G_QUEUE_INIT;
    g_autofree SxOp *ops = g_new(SxOp, rows->len + 1);
    g_autoptr(GHashTable) asked = g_hash_table_new(g_int64_hash, g_int64_equal);
    g_autoptr(GArray) verified_later = g_array_new(FALSE, FALSE, sizeof(gint64));
    sx_plan((const SxRow *const *)rows->pdata, rows->len, ops);
    for (guint i = 0; i < rows->len; i++) {
        SxRow *row = rows->pdata[i];
        g_mutex_lock(&t->lock);
        bool busy = g_hash_table_contains(t->running, &row->id) || is_held(t, row->id, now, next);
        g_mutex_unlock(&t->lock);
        if (busy || ops[i].kind == SX_OP_WAIT) {
            (*ret_left)++;
        } else if (ops[i].kind == SX_OP_VERIFY) {
            if (g_hash_table_add(asked, &row->r_parent))
                want_verify(v, row->r_parent);
            g_array_append_val(verified_later, row->id);
            (*ret_left)++;
        } else {
            g_queue_push_tail(&queue, run_new(v, row, ops[i].kind));
        }
    }
    /* The listing ends their wait. In every plan until then they would be read again, in front of what can run. */
    if (verified_later->len > 0)
        sx_tree_postpone(t->tree, (const gint64 *)(void *)verified_later->data, verified_later->len, SX_PENDING_VERIFY,
                         sx_clock_real_ms(t->clock) + SX_VERIFY_AGAIN_MS);
    g_queue_sort(&queue, by_key, NULL);
    return queue;
}

static void
replace_ready(SxProv *v, GQueue queue)
{
    g_mutex_lock(&v->t->lock);
    GQueue old = v->ready;
    v->ready = queue;
    g_mutex_unlock(&v->t->lock);
    for (SxRun *run; (run = g_queue_pop_head(&old)) != NULL;)
        sx_schedule_run_free(run);
}

/* So many rows wait that what they wait for is not in sight. */
static void
put_off(SxTransfer *t, GPtrArray *rows)
{
    g_autoptr(GArray) ids = g_array_new(FALSE, FALSE, sizeof(gint64));
    for (guint i = 0; i < rows->len; i++)
        g_array_append_val(ids, ((SxRow *)rows->pdata[i])->id);
    sx_tree_postpone(t->tree, (const gint64 *)(void *)ids->data, ids->len, 0,
                     sx_clock_real_ms(t->clock) + SX_PUT_OFF_MS);
}

/* Returns when to plan again if nothing happens before. */
static gint64
plan_provider(SxProv *v, gint64 now)
{
    SxTransfer *t = v->t;
    gint64 next = G_MAXINT64;
    for (;;) {
        g_autoptr(GPtrArray) rows = sx_tree_pending(t->tree, v->id, sx_clock_real_ms(t->clock), v->batch);
        guint left = 0;
        GQueue queue = plan_rows(v, rows, now, &next, &left);
        bool full = queue.length == 0 && rows->len >= v->batch;
        bool more = full && v->batch < SX_BATCH_MAX;
        if (full && !more)
            put_off(t, rows);
        if (queue.length > 0 || !more)
            v->batch = queue.length > 0 ? SX_BATCH_MIN : v->batch;
        replace_ready(v, queue);
        if (left > 0)
            next = MIN(next, now + SX_IDLE_MS);
        if (!more)
            return next;
        v->batch = MIN(v->batch * 4, SX_BATCH_MAX); /* all of them wait for something that is not among them */
    }
}

static gint64
work_provider(SxProv *v, gint64 now, bool *ret_submitted)
{
    SxTransfer *t = v->t;
    g_mutex_lock(&t->lock);
    /* Before the probe nobody knows what the other side can do, and what an upload may rely on. */
    bool paused = !v->caps_told || v->offline || v->refused || now < v->pause_until_ms;
    gint64 next = v->pause_until_ms > now ? v->pause_until_ms : G_MAXINT64;
    bool plan = !paused && (v->replan || now >= v->plan_at_ms || v->ready.length == 0);
    if (plan)
        v->replan = false;
    g_mutex_unlock(&t->lock);
    if (plan)
        v->plan_at_ms = plan_provider(v, now);
    if (!paused) {
        *ret_submitted |= dispatch(v);
        next = MIN(next, v->plan_at_ms);
    }
    return next;
}

/* Mono ms at which the earliest row becomes due. Rows that are due already wait for something, and are looked at by plan_at_ms. */
static gint64
next_due(SxTransfer *t, gint64 now)
{
    gint64 due = sx_tree_next_due(t->tree);
    if (due == G_MAXINT64)
        return due;
    gint64 in = due - sx_clock_real_ms(t->clock);
    return in <= 0 ? now + SX_IDLE_MS : now + MIN(in, SX_SLEEP_MAX_MS);
}

/* A writer waits for room in the cache: what is pending goes out now, whatever its quiet time. */
static gint64
housekeeping(SxTransfer *t, gint64 now)
{
    if (g_atomic_int_exchange(&t->hurried, 0) != 0)
        sx_tree_hurry(t->tree, SX_ROOT_INO, sx_clock_real_ms(t->clock));
    if (now >= t->tick_at_ms) {
        sx_cache_tick(t->cache);
        t->tick_at_ms = now + SX_TICK_MS;
    }
    bool asked = g_atomic_int_exchange(&t->look_at_pins, 0) != 0;
    if (asked || now >= t->pin_at_ms) {
        sx_changes_fetch_pinned(t);
        gint64 took = sx_clock_mono_ms(t->clock) - now; /* with many pinned files looking is work */
        t->pin_at_ms = now + MAX(SX_PIN_MS, 20 * took);
    }
    return MIN(t->tick_at_ms, t->pin_at_ms);
}

/* The wall clock was set back: what was to be done soon would be done late. */
static void
follow_clock(SxTransfer *t, gint64 now)
{
    gint64 real = sx_clock_real_ms(t->clock), offset = real - now;
    if (t->clock_offset_ms != 0 && offset < t->clock_offset_ms - SX_CLOCK_JUMP_MS)
        sx_tree_hurry(t->tree, SX_ROOT_INO, real);
    t->clock_offset_ms = offset;
}

gint64
sx_schedule_run(SxTransfer *t, bool *ret_submitted)
{
    gint64 now = sx_clock_mono_ms(t->clock), next = housekeeping(t, now);
    follow_clock(t, now);
    *ret_submitted = false;
    for (guint i = 0; i < t->provs->len; i++) {
        SxProv *v = t->provs->pdata[i];
        next = MIN(next, sx_health_probe_if_due(v, now));
        if (now >= v->poll_at_ms)
            sx_changes_poll(v);
        next = MIN(next, v->poll_at_ms);
        next = MIN(next, list_wanted(v, now));
        next = MIN(next, work_provider(v, now, ret_submitted));
    }
    return MIN(next, next_due(t, now));
}

gpointer
sx_schedule_thread(gpointer data)
{
    SxTransfer *t = data;
    for (;;) {
        g_atomic_int_set(&t->kicked, 0);
        bool submitted;
        gint64 next = sx_schedule_run(t, &submitted);
        gint64 sleep_ms = CLAMP(next - sx_clock_mono_ms(t->clock), SX_PLAN_INTERVAL_MS, SX_SLEEP_MAX_MS);
        gint64 until = g_get_monotonic_time() + sleep_ms * 1000, soonest = g_get_monotonic_time() + SX_PLAN_INTERVAL_MS * 1000;
        g_mutex_lock(&t->lock);
        while (!t->stopping && !g_atomic_int_get(&t->kicked))
            if (!g_cond_wait_until(&t->wake, &t->lock, until))
                break;
        while (!t->stopping && g_get_monotonic_time() < soonest) /* many kicks, one plan */
            if (!g_cond_wait_until(&t->wake, &t->lock, soonest))
                break;
        bool stop = t->stopping;
        g_mutex_unlock(&t->lock);
        if (stop)
            return NULL;
    }
}
