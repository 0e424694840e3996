/* What changes on the other side: listings, polling, watchers.
 *
 * A listing is a look that takes time. Names that an operation of ours touched meanwhile are ignored, and when a directory on
 * the way was moved the listing is made again: it may have shown another directory. Unknown is not deleted: a name
 * that a complete listing lacks is looked at once more, and a mass delete waits for the user. */
#include "transfer/transfer_i.h"

#include "base/log.h"
#include "base/path.h"

#include <errno.h>
#include <stdio.h> /* RENAME_NOREPLACE */
#include <string.h>

#define SX_POLL_LIMIT 256        /* directories a poll */
#define SX_USED_POLLS 10         /* a directory counts as in use for so many polls */
#define SX_USED_MIN_MS (10 * 60 * 1000)
#define SX_USED_NOTE_MS 10000    /* how exact the time of last use is */
#define SX_USED_MAX 4096
#define SX_WATCHED_POLLS 10      /* where the other side tells of changes, polling is for what it missed */
#define SX_PIN_LIMIT 32
#define SX_PREFETCH 16           /* sibling directories listed ahead */
#define SX_WATCH_SETTLE_MS 100
#define SX_WATCH_RETRY_MS 60000

/* ---- one listing ---- */

typedef struct Look {
    SxProv *v;
    gint64 dir;
    guint64 since;
    GCancellable *cancel;
} Look;

static bool
collect(void *data, const SxRemote *entry)
{
    g_ptr_array_add(data, sx_remote_copy(entry));
    return true;
}

/* Called by the tree inside its transaction. */
static bool
name_ignored(void *data, const char *name)
{
    Look *look = data;
    return sx_look_name_touched(look->v->t, look->since, look->dir, name);
}

static GPtrArray *
fetch_entries(Look *look, const char *path, GError **error)
{
    g_autoptr(GPtrArray) entries = g_ptr_array_new_with_free_func((GDestroyNotify)sx_remote_free);
    if (!sx_provider_list(look->v->p, path, collect, entries, look->cancel, error))
        return NULL;
    return g_steal_pointer(&entries);
}

static bool
apply(Look *look, GPtrArray *entries, GHashTable *gone, SxListed *listed, GError **error)
{
    SxTransfer *t = look->v->t;
    SxListing listing = {.dir = look->dir, .entries = entries, .ignore = name_ignored, .data = look, .confirmed_gone = gone,
                         .listed_real_ms = sx_clock_real_ms(t->clock)};
    g_autoptr(SxChanges) changes = sx_changes_new();
    bool ok = sx_tree_apply_listing(t->tree, &listing, changes, listed, error);
    sx_transfer_tell(t, changes);
    if (ok && listed->verified > 0)
        sx_schedule_verified(look->v, look->dir);
    return ok;
}

static bool
has_entry(GPtrArray *entries, const char *name)
{
    for (guint i = 0; i < entries->len; i++)
        if (strcmp(((SxRemote *)entries->pdata[i])->name, name) == 0)
            return true;
    return false;
}

/* Rows that stepped aside in a try whose end we never heard of (a crash, a lost reply). */
static bool
find_aside(Look *look, GPtrArray *entries, GError **error)
{
    SxTransfer *t = look->v->t;
    for (guint i = 0; i < entries->len; i++) {
        const SxRemote *e = entries->pdata[i];
        if (!g_str_has_prefix(e->name, SX_ASIDE_PREFIX) || name_ignored(look, e->name))
            continue;
        g_autoptr(SxRow) row = sx_tree_row(t->tree, g_ascii_strtoll(e->name + strlen(SX_ASIDE_PREFIX), NULL, 10));
        bool ours = row != NULL && row->r_parent == look->dir && strcmp(row->r_name, e->name) != 0 &&
                    !has_entry(entries, row->r_name) && sx_remote_is_moved(row, e);
        if (ours && !sx_tree_done_move(t->tree, row->id, look->dir, e->name, error))
            return false;
    }
    return true;
}

/* What had stepped aside and is shown under that name (somebody changed it meanwhile, so that it is not deleted) must not
 * stay hidden from people. Only what an earlier listing had: another mount's file may step aside for a moment. */
static void
show_recovered(Look *look, GPtrArray *entries)
{
    SxTransfer *t = look->v->t;
    for (guint i = 0; i < entries->len; i++) {
        const char *name = ((SxRemote *)entries->pdata[i])->name;
        SxAttr attr;
        SxRenamed renamed;
        if (!g_str_has_prefix(name, SX_ASIDE_PREFIX) || name_ignored(look, name) || sx_tree_lookup(t->tree, look->dir, name, &attr) != 0)
            continue;
        int rc = -EEXIST;
        for (unsigned n = 0; rc == -EEXIST; n++) {
            g_autofree char *seen = sx_conflict_name("recovered", t->who, sx_clock_real_ns(t->clock), n);
            rc = sx_tree_rename(t->tree, look->dir, name, look->dir, seen, RENAME_NOREPLACE, true, sx_clock_real_ms(t->clock), &renamed);
            if (rc == 0)
                sx_transfer_tell_name(t, look->dir, seen);
        }
        sx_transfer_tell_name(t, look->dir, name);
    }
}

/* Which of the missing names are certainly gone? */
static bool
confirm(Look *look, const char *path, GPtrArray **entries, GPtrArray *missing, GHashTable *gone, GError **error)
{
    bool one_by_one = missing->len <= SX_CONFIRM_BY_STAT;
    if (!one_by_one) {
        g_autoptr(GPtrArray) again = fetch_entries(look, path, error);
        if (again == NULL)
            return false;
        g_ptr_array_unref(*entries);
        *entries = g_steal_pointer(&again);
    }
    for (guint i = 0; i < missing->len; i++) {
        const char *name = missing->pdata[i];
        if (!one_by_one) {
            if (!has_entry(*entries, name))
                g_hash_table_add(gone, g_strdup(name));
            continue;
        }
        g_autofree char *child = sx_path_join(path, name);
        g_autoptr(SxRemote) there = NULL;
        g_autoptr(GError) why = NULL;
        if (sx_provider_stat(look->v->p, child, &there, look->cancel, &why))
            continue;
        if (!sx_error_is(why, SX_ERR_NOT_FOUND)) {
            g_propagate_error(error, g_steal_pointer(&why));
            return false;
        }
        g_hash_table_add(gone, g_strdup(name));
    }
    return true;
}

static void
hold_back(Look *look, const SxListed *listed)
{
    SxTransfer *t = look->v->t;
    g_autofree char *path = sx_tree_path(t->tree, look->dir);
    char *text = g_strdup_printf("%u of %u names have disappeared from %s; they are kept until you accept that (syncox refresh)",
                                 listed->missing->len, listed->known, path != NULL ? path : sx_provider_label(look->v->p));
    gint64 *key = g_new(gint64, 1);
    *key = look->dir;
    g_mutex_lock(&t->lock);
    bool told = g_hash_table_contains(look->v->held, key);
    g_autofree char *copy = g_strdup(text);
    g_hash_table_replace(look->v->held, key, text);
    g_mutex_unlock(&t->lock);
    if (!told)
        sx_transfer_event(t, look->v, look->dir, "held", "%s", copy);
}

static void
release_held(SxProv *v, gint64 dir)
{
    g_mutex_lock(&v->t->lock);
    g_hash_table_remove(v->held, &dir);
    g_mutex_unlock(&v->t->lock);
}

static bool
is_mass_delete(const SxListed *l)
{
    guint n = l->missing->len;
    return (n >= SX_HELD_MIN && n * 2 >= l->known) || (n >= SX_HELD_ALL_MIN && n >= l->known);
}

static void
verify_told(Look *look)
{
    g_mutex_lock(&look->v->t->lock);
    SxVerify *wait = g_hash_table_lookup(look->v->verify_wait, &look->dir);
    if (wait != NULL)
        wait->told = true;
    g_mutex_unlock(&look->v->t->lock);
}

typedef enum Outcome { LISTED, FAILED, AGAIN } Outcome;

static Outcome
apply_all(Look *look, const char *path, GPtrArray **entries, bool accept, GError **error)
{
    if (sx_look_path_moved(look->v->t, look->since, look->dir))
        return AGAIN;
    SxListed listed = {0};
    if (!find_aside(look, *entries, error))
        return FAILED;
    show_recovered(look, *entries);
    Outcome out = apply(look, *entries, NULL, &listed, error) ? LISTED : FAILED;
    if (out == LISTED && listed.verified > 0)
        verify_told(look);
    bool missing = out == LISTED && listed.missing != NULL && listed.missing->len > 0;
    if (missing && is_mass_delete(&listed) && !accept) {
        hold_back(look, &listed);
    } else if (missing) {
        g_autoptr(GHashTable) gone = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        SxListed second = {0};
        if (!confirm(look, path, entries, listed.missing, gone, error))
            out = FAILED;
        else if (sx_look_path_moved(look->v->t, look->since, look->dir))
            out = AGAIN;
        else if (g_hash_table_size(gone) > 0 && !apply(look, *entries, gone, &second, error))
            out = FAILED;
        sx_listed_clear(&second);
        if (out == LISTED)
            release_held(look->v, look->dir);
    } else if (out == LISTED) {
        release_held(look->v, look->dir);
    }
    sx_listed_clear(&listed);
    return out;
}

/* The directory itself is not there. Only a certain answer about itself counts; the root of a provider never vanishes. */
static Outcome
directory_gone(Look *look, const char *path, GError **error)
{
    SxTransfer *t = look->v->t;
    g_autoptr(SxRow) row = sx_tree_row_of(t->tree, look->dir);
    if (look->dir == look->v->root || row == NULL || row->r_parent == 0) {
        sx_fail(error, SX_ERR_NOT_FOUND, "%s: the directory of the provider is not there", sx_provider_label(look->v->p));
        return FAILED;
    }
    g_autoptr(SxRemote) there = NULL;
    g_autoptr(GError) why = NULL;
    bool found = sx_provider_stat(look->v->p, path, &there, look->cancel, &why);
    if (!found && !sx_error_is(why, SX_ERR_NOT_FOUND)) {
        g_propagate_error(error, g_steal_pointer(&why));
        return FAILED;
    }
    if (sx_look_path_moved(t, look->since, look->dir) || sx_look_name_touched(t, look->since, row->r_parent, row->r_name))
        return AGAIN;
    g_autoptr(SxChanges) changes = sx_changes_new();
    if (!sx_tree_apply_stat(t->tree, row->r_parent, row->r_name, there, changes, error))
        return FAILED;
    sx_transfer_tell(t, changes);
    sx_fail(error, SX_ERR_NOT_FOUND, "%s: %s: has been removed there", sx_provider_label(look->v->p), path);
    return FAILED;
}

static Outcome
list_once(Look *look, bool accept, GError **error)
{
    SxTransfer *t = look->v->t;
    g_autofree char *path = sx_tree_remote_path(t->tree, look->dir);
    if (path == NULL)
        return LISTED; /* made here and not there yet */
    g_autoptr(GError) why = NULL;
    g_autoptr(GPtrArray) entries = fetch_entries(look, path, &why);
    if (entries != NULL)
        return apply_all(look, path, &entries, accept, error);
    if (sx_look_path_moved(t, look->since, look->dir))
        return AGAIN;
    if (sx_error_is(why, SX_ERR_NOT_FOUND))
        return directory_gone(look, path, error);
    g_propagate_error(error, g_steal_pointer(&why));
    return FAILED;
}

/* Waits until no move of a directory on the way runs; in the simulation none does while we do. */
static void
wait_for_moves(Look *look)
{
    SxTransfer *t = look->v->t;
    if (t->executor != NULL)
        return;
    SxWaker waker;
    sx_waker_init(&waker, &t->lock, &t->cond, look->cancel);
    while (sx_look_path_moved(t, G_MAXUINT64, look->dir)) { /* nothing is later than that: only what runs counts */
        g_mutex_lock(&t->lock);
        bool stop = t->stopping || g_cancellable_is_cancelled(look->cancel);
        if (!stop)
            sx_transfer_wait(t, sx_clock_mono_ms(t->clock) + look->v->timeout_ms);
        g_mutex_unlock(&t->lock);
        if (stop)
            break;
    }
    sx_waker_clear(&waker);
}

int
sx_changes_list_dir(SxProv *v, gint64 dir, bool accept_deletes, GCancellable *cancel, char **ret_why)
{
    SxTransfer *t = v->t;
    g_autoptr(GError) why = NULL;
    Outcome out = AGAIN;
    for (int i = 0; i < SX_LIST_TRIES && out == AGAIN; i++) {
        Look look = {.v = v, .dir = dir, .cancel = cancel};
        wait_for_moves(&look);
        look.since = sx_look_begin(t);
        out = list_once(&look, accept_deletes, &why);
        sx_look_end(t);
    }
    if (out == AGAIN)
        sx_fail(&why, SX_ERR_BUSY, "%s: the directory is being moved", sx_provider_label(v->p));
    if (out != LISTED) {
        if (!g_cancellable_is_cancelled(cancel)) {
            sx_health_error(v, why);
            sx_health_list_failed(v, dir, why);
        }
        sx_debug("list: %s", why->message);
        if (ret_why != NULL)
            *ret_why = g_strdup(why->message);
        return -sx_errno(why);
    }
    sx_health_ok(v);
    sx_health_listed(v, dir);
    g_autofree char *path = sx_tree_remote_path(t->tree, dir);
    if (path != NULL)
        sx_provider_watch_dir(v->p, path);
    sx_transfer_kick(t);
    return 0;
}

/* ---- flights: one listing of a directory at a time, for all who want it ---- */

typedef struct SxFlight {
    SxTask task;
    gint64 dir;
    guint refs;   /* lock: the table or worker, and each waiter */
    bool unless_listed; /* lock: nobody wants it if it has been listed by now */
    bool begun, done;   /* lock */
    int err;      /* lock, written before done */
    char *why;
} SxFlight;

/* lock is held */
static void
flight_unref(SxFlight *f)
{
    if (--f->refs > 0)
        return;
    g_free(f->why);
    g_free(f);
}

static void
flight_run(SxTask *task)
{
    SxFlight *f = (SxFlight *)task;
    SxTransfer *t = task->t;
    SxProv *v = task->v;
    g_autofree char *why = NULL;
    int err = -EINTR;
    SxAttr attr;
    g_mutex_lock(&t->lock);
    f->begun = true;
    bool look = f->unless_listed;
    g_mutex_unlock(&t->lock);
    if (look && sx_tree_getattr(t->tree, f->dir, &attr) == 0 && attr.listed)
        err = 0;
    else if (!g_cancellable_is_cancelled(t->cancel))
        err = sx_changes_list_dir(v, f->dir, false, t->cancel, &why);
    g_mutex_lock(&t->lock);
    g_hash_table_remove(t->flights, &f->dir);
    f->err = err;
    f->why = g_steal_pointer(&why);
    f->done = true;
    g_cond_broadcast(&t->cond);
    flight_unref(f);
    g_mutex_unlock(&t->lock);
    sx_lane_end(v, SX_LANE_LIST);
}

/* lock is held. Returns the flight with a reference for the caller; *ret_new: it must be submitted. */
static SxFlight *
flight_get(SxProv *v, gint64 dir, bool unless_listed, bool *ret_new)
{
    SxFlight *f = g_hash_table_lookup(v->t->flights, &dir);
    *ret_new = f == NULL;
    if (f == NULL) {
        f = g_new0(SxFlight, 1);
        f->task = (SxTask){.t = v->t, .v = v, .lane = SX_LANE_LIST, .fn = flight_run};
        f->dir = dir;
        f->refs = 1;
        f->unless_listed = unless_listed;
        g_hash_table_insert(v->t->flights, &f->dir, f);
    }
    f->unless_listed &= unless_listed;
    f->refs++;
    return f;
}

static void
list_later(SxProv *v, gint64 dir, bool unless_listed)
{
    SxTransfer *t = v->t;
    g_mutex_lock(&t->lock);
    bool new_ = false, full = v->lanes[SX_LANE_LIST].idle.length >= SX_LANE_QUEUE_MAX;
    if (!full && t->started && !t->stopping)
        flight_unref(flight_get(v, dir, unless_listed, &new_));
    SxFlight *f = new_ ? g_hash_table_lookup(t->flights, &dir) : NULL;
    g_mutex_unlock(&t->lock);
    if (f != NULL)
        sx_lane_submit(&f->task, false);
}

void
sx_changes_list_later(SxProv *v, gint64 dir)
{
    list_later(v, dir, false);
}

/* lock is held. A task that waits behind others and is wanted now. */
static void
make_urgent(SxFlight *f)
{
    SxLane *lane = &f->task.v->lanes[SX_LANE_LIST];
    if (g_queue_remove(&lane->idle, f))
        g_queue_push_tail(&lane->urgent, f);
}

static int
list_and_wait(SxProv *v, gint64 dir, bool fresh, GCancellable *cancel, char **ret_why)
{
    SxTransfer *t = v->t;
    SxWaker waker;
    sx_waker_init(&waker, &t->lock, &t->cond, cancel);
    gint64 deadline = sx_clock_mono_ms(t->clock) + v->timeout_ms;
    g_mutex_lock(&t->lock);
    bool new_;
    SxFlight *f = flight_get(v, dir, !fresh, &new_);
    bool too_early = fresh && f->begun; /* it may not show what was there when we were asked */
    if (new_) {
        g_mutex_unlock(&t->lock);
        sx_lane_submit(&f->task, true);
        g_mutex_lock(&t->lock);
    } else {
        make_urgent(f);
    }
    int ret = 0;
    while (!f->done && ret == 0) {
        if (g_cancellable_is_cancelled(cancel) || t->stopping)
            ret = -EINTR;
        else if (!sx_transfer_wait(t, deadline))
            ret = -ETIMEDOUT;
    }
    if (ret == 0) {
        ret = f->err;
        if (ret_why != NULL && !too_early)
            *ret_why = g_strdup(f->why);
    }
    flight_unref(f);
    g_mutex_unlock(&t->lock);
    sx_waker_clear(&waker);
    return ret == 0 && too_early ? list_and_wait(v, dir, true, cancel, ret_why) : ret;
}

/* ---- siblings ahead ---- */

typedef struct Ahead {
    gint64 dirs[SX_PREFETCH];
    guint n, seen;
} Ahead;

static bool
note_sibling(void *data, gint64 cookie, const char *name, const SxAttr *attr)
{
    Ahead *a = data;
    a->seen++;
    if (attr->kind == SX_KIND_DIR && !attr->listed)
        a->dirs[a->n++] = attr->ino;
    return a->n < SX_PREFETCH && a->seen < SX_LANE_QUEUE_MAX;
}

/* Two unknown directories of one parent in a row: somebody walks the tree, the next ones will be wanted too. */
static void
prefetch_siblings(SxProv *v, gint64 dir)
{
    SxTransfer *t = v->t;
    gint64 parent;
    g_autoptr(SxRow) row = sx_tree_row_of(t->tree, dir);
    if (row == NULL || sx_tree_parent(t->tree, dir, &parent) != 0)
        return;
    g_mutex_lock(&t->lock);
    v->fg_row = v->fg_parent == parent ? v->fg_row + 1 : 1;
    v->fg_parent = parent;
    bool walks = v->fg_row >= 2;
    g_mutex_unlock(&t->lock);
    if (!walks)
        return;
    Ahead ahead = {0};
    sx_tree_readdir(t->tree, parent, row->id, note_sibling, &ahead);
    for (guint i = 0; i < ahead.n; i++)
        list_later(v, ahead.dirs[i], true);
}

/* ---- the face ---- */

static void
note_use(SxTransfer *t, gint64 dir)
{
    gint64 now = sx_clock_real_ms(t->clock);
    g_mutex_lock(&t->lock);
    gint64 *last = g_hash_table_lookup(t->used, &dir);
    bool tell = last == NULL || now - *last > SX_USED_NOTE_MS || now < *last;
    if (tell) {
        if (g_hash_table_size(t->used) >= SX_USED_MAX)
            g_hash_table_remove_all(t->used);
        gint64 *key = g_new(gint64, 1), *value = g_new(gint64, 1);
        *key = dir;
        *value = now;
        g_hash_table_replace(t->used, key, value);
    }
    g_mutex_unlock(&t->lock);
    if (tell)
        sx_tree_touch_dir(t->tree, dir, now);
}

static gint64
poll_of(const SxProv *v)
{
    return SX_CAN(v->p, watch) ? v->poll_ms * SX_WATCHED_POLLS : v->poll_ms;
}

int
sx_transfer_list(SxTransfer *t, gint64 dir, bool fresh, GCancellable *cancel, char **ret_why)
{
    SxAttr attr;
    if (ret_why != NULL)
        *ret_why = NULL;
    int err = sx_tree_getattr(t->tree, dir, &attr);
    if (err != 0)
        return err;
    if (attr.kind != SX_KIND_DIR)
        return -ENOTDIR;
    SxProv *v = sx_transfer_prov(t, attr.provider);
    if (v == NULL)
        return 0; /* the mount's root */
    note_use(t, dir);
    gint64 age = sx_clock_real_ms(t->clock) - attr.listed_real_ms;
    if (attr.listed && !fresh) {
        if (v->poll_ms > 0 && (age > poll_of(v) || age < 0))
            sx_schedule_want(v, dir, 0);
        return 0;
    }
    g_autoptr(GError) why = NULL;
    if (sx_health_paused(v, &why)) {
        sx_health_probe_now(v);
        if (ret_why != NULL)
            *ret_why = g_strdup(why->message);
        return -sx_errno(why);
    }
    if (t->executor != NULL)
        return sx_changes_list_dir(v, dir, false, cancel, ret_why);
    prefetch_siblings(v, dir);
    return list_and_wait(v, dir, fresh, cancel, ret_why);
}

/* Is dir at or below top, as programs see it? */
static bool
is_below(SxTransfer *t, gint64 dir, gint64 top)
{
    g_autoptr(GArray) above = sx_tree_local_ancestors(t->tree, dir);
    for (guint i = 0; above != NULL && i < above->len; i++)
        if (g_array_index(above, gint64, i) == top)
            return true;
    return false;
}

static int
accept_held(SxProv *v, gint64 top, GCancellable *cancel, char **ret_why)
{
    SxTransfer *t = v->t;
    g_autoptr(GArray) dirs = g_array_new(FALSE, FALSE, sizeof(gint64));
    g_mutex_lock(&t->lock);
    GHashTableIter iter;
    gpointer key;
    g_hash_table_iter_init(&iter, v->held);
    while (g_hash_table_iter_next(&iter, &key, NULL))
        g_array_append_vals(dirs, key, 1);
    g_mutex_unlock(&t->lock);
    int ret = 0;
    for (guint i = 0; i < dirs->len && ret == 0; i++) {
        gint64 dir = g_array_index(dirs, gint64, i);
        if (dir != top && is_below(t, dir, top))
            ret = sx_changes_list_dir(v, dir, true, cancel, ret_why);
    }
    return ret;
}

int
sx_transfer_refresh(SxTransfer *t, gint64 dir, bool accept_deletes, GCancellable *cancel, char **ret_why)
{
    SxAttr attr;
    if (ret_why != NULL)
        *ret_why = NULL;
    int err = sx_tree_getattr(t->tree, dir, &attr);
    if (err != 0)
        return err;
    if (attr.kind != SX_KIND_DIR) {
        g_autoptr(SxRow) row = sx_tree_row_of(t->tree, dir);
        if (row == NULL || (row->l_parent == 0 && row->r_parent == 0))
            return -ENOENT;
        return sx_transfer_refresh(t, row->l_parent != 0 ? row->l_parent : row->r_parent, accept_deletes, cancel, ret_why);
    }
    int ret = 0;
    for (guint i = 0; i < t->provs->len; i++) {
        SxProv *v = t->provs->pdata[i];
        if (dir != SX_ROOT_INO && v->id != attr.provider)
            continue;
        gint64 top = dir == SX_ROOT_INO ? v->root : dir;
        int one = sx_changes_list_dir(v, top, accept_deletes, cancel, ret == 0 ? ret_why : NULL);
        if (one == 0 && accept_deletes)
            one = accept_held(v, top, cancel, ret == 0 ? ret_why : NULL);
        if (one != 0 && sx_health_paused(v, NULL))
            sx_health_probe_now(v);
        ret = ret != 0 ? ret : one;
    }
    return ret;
}

/* ---- by itself: polling, pins, watchers ---- */

static void
poll_stale(SxProv *v, bool all)
{
    SxTransfer *t = v->t;
    gint64 now = sx_clock_real_ms(t->clock);
    gint64 poll = poll_of(v), used = MAX(poll * SX_USED_POLLS, SX_USED_MIN_MS);
    g_autoptr(GArray) dirs = sx_tree_stale_dirs(t->tree, v->id, all ? 0 : now - used, all ? G_MAXINT64 : now - poll, SX_POLL_LIMIT);
    for (guint i = 0; dirs != NULL && i < dirs->len; i++)
        sx_schedule_want(v, g_array_index(dirs, gint64, i), 0);
}

void
sx_changes_fetch_pinned(SxTransfer *t)
{
    g_autoptr(GArray) inos = sx_tree_pin_missing(t->tree, SX_PIN_LIMIT);
    for (guint i = 0; inos != NULL && i < inos->len; i++) {
        SxAttr attr;
        gint64 ino = g_array_index(inos, gint64, i);
        SxProv *v = sx_tree_getattr(t->tree, ino, &attr) == 0 ? sx_transfer_prov(t, attr.provider) : NULL;
        if (v == NULL || sx_health_paused(v, NULL))
            continue;
        if (attr.kind == SX_KIND_DIR)
            sx_changes_list_later(v, ino);
        else
            sx_download_background(v, ino);
    }
}

void
sx_changes_poll(SxProv *v)
{
    SxTransfer *t = v->t;
    gint64 now = sx_clock_mono_ms(t->clock);
    bool paused = sx_health_paused(v, NULL);
    if (!paused && v->poll_ms > 0)
        poll_stale(v, false);
    v->poll_at_ms = v->poll_ms > 0 ? now + MAX(v->poll_ms / 4, 100) : G_MAXINT64;
}

/* Runs on the watcher's thread. What is not known here needs no look: it is listed when somebody wants it. */
static void
on_change(void *data, const char *path, bool recursive)
{
    SxProv *v = data;
    gint64 dir;
    if (recursive && *path == '\0') {
        poll_stale(v, true);
        return;
    }
    g_autofree char *parent = sx_path_dirname(path);
    if (*path != '\0' && sx_tree_find_remote_dir(v->t->tree, v->id, parent, &dir))
        sx_schedule_want(v, dir, SX_WATCH_SETTLE_MS);
    if ((recursive || *path == '\0') && sx_tree_find_remote_dir(v->t->tree, v->id, path, &dir))
        sx_schedule_want(v, dir, SX_WATCH_SETTLE_MS);
}

static gpointer
watch_thread(gpointer data)
{
    SxProv *v = data;
    SxTransfer *t = v->t;
    gint64 delay = 1000;
    g_mutex_lock(&t->lock);
    while (!t->stopping && !v->caps_told) /* only a probe tells whether it can be watched */
        sx_transfer_wait(t, G_MAXINT64);
    g_mutex_unlock(&t->lock);
    while (!g_cancellable_is_cancelled(t->cancel) && SX_CAN(v->p, watch)) {
        g_autoptr(GError) why = NULL;
        gint64 began = sx_clock_mono_ms(t->clock);
        if (sx_provider_watch(v->p, on_change, v, t->cancel, &why) || sx_error_is(why, SX_ERR_UNSUPPORTED))
            break;
        /* It stood for a while: what happened since is not known. */
        if (sx_clock_mono_ms(t->clock) - began > SX_WATCH_RETRY_MS)
            delay = 1000;
        gint64 until = sx_clock_mono_ms(t->clock) + delay;
        delay = MIN(delay * 2, SX_WATCH_RETRY_MS);
        g_mutex_lock(&t->lock);
        while (!t->stopping && sx_transfer_wait(t, until))
            ;
        g_mutex_unlock(&t->lock);
        if (!g_cancellable_is_cancelled(t->cancel))
            poll_stale(v, true);
    }
    return NULL;
}

void
sx_changes_watch(SxProv *v)
{
    v->watcher = g_thread_try_new("sx-watch", watch_thread, v, NULL);
}
