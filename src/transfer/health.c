/* Whether a provider can be asked at all: offline (probed with growing pauses), refused (until the user says so), or told to
 * slow down. One operation learns it, all of them wait. */
#include "transfer/transfer_i.h"

static gint64
probe_delay(SxTransfer *t, int tries)
{
    gint64 cap = MIN((gint64)1000 << MIN(tries, 6), SX_PROBE_MAX_MS);
    return cap / 2 + (gint64)(sx_clock_random(t->clock) % (guint64)(cap / 2 + 1));
}

SxRetry
sx_health_error(SxProv *v, const GError *why)
{
    SxTransfer *t = v->t;
    SxRetry retry = sx_error_retry(why);
    gint64 now = sx_clock_mono_ms(t->clock);
    const char *event = NULL;
    g_mutex_lock(&t->lock);
    if (retry == SX_RETRY_OFFLINE) {
        if (!v->offline) {
            event = "offline";
            v->probe_at_ms = now + probe_delay(t, v->probe_tries++);
        }
        v->offline = true;
    } else if (retry == SX_RETRY_AUTH) {
        if (!v->refused)
            event = "error";
        v->refused = true;
    } else if (sx_error_is(why, SX_ERR_RATE)) {
        gint64 told = sx_error_retry_after_ms(why), own = sx_plan_backoff_ms(1, sx_clock_random(t->clock));
        v->pause_until_ms = MAX(v->pause_until_ms, now + MAX(told, own));
    }
    g_mutex_unlock(&t->lock);
    if (event != NULL)
        sx_transfer_event(t, v, 0, event, "%s", why->message);
    return retry;
}

void
sx_health_ok(SxProv *v)
{
    SxTransfer *t = v->t;
    g_mutex_lock(&t->lock);
    bool was = v->offline || v->refused, first = !v->caps_told;
    v->offline = v->refused = false;
    v->caps_told = true;
    v->probe_tries = 0;
    v->replan |= was;
    if (first)
        g_cond_broadcast(&t->cond); /* the watcher */
    g_mutex_unlock(&t->lock);
    if (first) { /* the first call that got through has also asked what the other side can do */
        SxCaps caps;
        sx_provider_caps(v->p, &caps);
        sx_tree_set_caps(t->tree, v->id, &caps, NULL);
    }
    if (!was)
        return;
    sx_transfer_event(t, v, 0, "online", "%s can be reached again", sx_provider_label(v->p));
    sx_schedule_wake(t);
}

void
sx_health_probe_now(SxProv *v)
{
    g_mutex_lock(&v->t->lock);
    bool due = v->offline || v->refused;
    v->probe_at_ms = 0;
    g_mutex_unlock(&v->t->lock);
    if (due)
        sx_schedule_wake(v->t);
}

bool
sx_health_paused(SxProv *v, GError **why)
{
    g_mutex_lock(&v->t->lock);
    bool offline = v->offline, refused = v->refused;
    g_mutex_unlock(&v->t->lock);
    if (!offline && !refused)
        return false;
    g_autofree char *text = sx_provider_last_error(v->p);
    sx_fail(why, refused ? SX_ERR_AUTH : SX_ERR_OFFLINE, "%s", text != NULL ? text : "the provider cannot be reached");
    return true;
}

static void
probe_run(SxTask *task)
{
    SxProv *v = task->v;
    SxTransfer *t = task->t;
    g_free(task);
    g_autoptr(GError) error = NULL;
    if (sx_transfer_probe(t, v->id, t->cancel, &error)) {
        sx_health_ok(v);
    } else {
        g_mutex_lock(&t->lock);
        v->probe_at_ms = sx_clock_mono_ms(t->clock) + probe_delay(t, v->probe_tries++);
        g_mutex_unlock(&t->lock);
    }
    g_mutex_lock(&t->lock);
    v->probing = false;
    g_mutex_unlock(&t->lock);
    sx_lane_end(v, SX_LANE_LIST);
}

static SxTask *
task_new(SxProv *v, SxLaneKind lane, void (*fn)(SxTask *))
{
    SxTask *task = g_new0(SxTask, 1);
    *task = (SxTask){.t = v->t, .v = v, .lane = lane, .fn = fn};
    return task;
}

/* Returns when to look again. A new and an offline provider are asked; a refused one only when the user says so. */
gint64
sx_health_probe_if_due(SxProv *v, gint64 now)
{
    SxTransfer *t = v->t;
    g_mutex_lock(&t->lock);
    bool asked = v->refused && v->probe_at_ms == 0;
    bool wants = ((v->offline || !v->caps_told) && !v->refused) || asked;
    bool due = wants && !v->probing && now >= v->probe_at_ms;
    if (due) {
        v->probing = true;
        v->probe_at_ms = G_MAXINT64;
    }
    gint64 next = wants ? v->probe_at_ms : G_MAXINT64;
    g_mutex_unlock(&t->lock);
    if (due)
        sx_lane_submit(task_new(v, SX_LANE_LIST, probe_run), true);
    return next;
}

/* ---- listings that fail although the provider answers ---- */

void
sx_failing_free(gpointer failing)
{
    SxFailing *f = failing;
    g_free(f->text);
    g_free(f);
}

void
sx_health_listed(SxProv *v, gint64 dir)
{
    g_mutex_lock(&v->t->lock);
    g_hash_table_remove(v->failing, &dir);
    g_mutex_unlock(&v->t->lock);
}

/* A web page, broken XML, a server that fails: nobody but the caller of that one readdir would hear of it. Told once, until a
 * listing of the directory succeeds; what may pass by itself (a cut, a 5xx) only when it goes on. */
void
sx_health_list_failed(SxProv *v, gint64 dir, const GError *why)
{
    SxTransfer *t = v->t;
    SxRetry retry = sx_error_retry(why);
    bool other = retry == SX_RETRY_OFFLINE || retry == SX_RETRY_AUTH || sx_error_is(why, SX_ERR_RATE) || sx_error_is(why, SX_ERR_BUSY) ||
                 sx_error_is(why, SX_ERR_CANCELLED);
    bool gone = retry == SX_RETRY_REPLAN && dir != v->root;
    if (gone)
        sx_health_listed(v, dir);
    if (other || gone)
        return;
    bool passing = sx_error_is(why, SX_ERR_SERVER) || sx_error_is(why, SX_ERR_LOST);
    g_mutex_lock(&t->lock);
    SxFailing *f = g_hash_table_lookup(v->failing, &dir);
    bool room = f != NULL || g_hash_table_size(v->failing) < SX_FAILING_MAX;
    if (f == NULL && room) {
        f = g_new0(SxFailing, 1);
        g_hash_table_insert(v->failing, g_memdup2(&dir, sizeof dir), f);
    }
    bool tell = false;
    if (room) {
        g_free(f->text);
        f->text = g_strdup(why->message);
        tell = ++f->tries == (passing ? SX_FAILING_TRIES : 1);
    }
    g_mutex_unlock(&t->lock);
    if (tell)
        sx_transfer_event(t, v, dir, "error", "%s", why->message);
}

char *
sx_transfer_failing(SxTransfer *t, int provider)
{
    SxProv *v = sx_transfer_prov(t, provider);
    char *text = NULL;
    SxAttr attr;
    for (gint64 dir = 1; v != NULL && text == NULL && dir != 0;) {
        GHashTableIter iter;
        gpointer key, value;
        dir = 0;
        g_mutex_lock(&t->lock);
        g_hash_table_iter_init(&iter, v->failing);
        if (g_hash_table_iter_next(&iter, &key, &value)) {
            dir = *(gint64 *)key;
            text = g_strdup(((SxFailing *)value)->text);
        }
        g_mutex_unlock(&t->lock);
        if (dir != 0 && sx_tree_getattr(t->tree, dir, &attr) != 0) { /* removed here meanwhile */
            sx_health_listed(v, dir);
            g_clear_pointer(&text, g_free);
        }
    }
    return text;
}
