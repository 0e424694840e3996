/* Lanes: how much runs at once on one provider, who waits is served before who does not. A provider that hangs fills its own
 * lanes only. */
#include "transfer/transfer_i.h"

static void
lane_pump(SxProv *v, SxLaneKind kind)
{
    SxTransfer *t = v->t;
    SxLane *lane = &v->lanes[kind];
    for (;;) {
        g_mutex_lock(&t->lock);
        SxTask *task = NULL;
        if (lane->running < lane->limit) {
            task = g_queue_pop_head(&lane->urgent);
            if (task == NULL)
                task = g_queue_pop_head(&lane->idle);
            lane->running += task != NULL;
        }
        g_mutex_unlock(&t->lock);
        if (task == NULL)
            return;
        if (t->executor != NULL)
            t->executor->submit(t->executor, (int)kind, (void (*)(void *))task->fn, task);
        else
            g_thread_pool_push(t->pools[kind], task, NULL);
    }
}

void
sx_lane_submit(SxTask *task, bool urgent)
{
    SxTransfer *t = task->t;
    SxProv *v = task->v;
    SxLaneKind kind = task->lane;
    SxLane *lane = &v->lanes[kind];
    g_mutex_lock(&t->lock);
    t->active++;
    g_queue_push_tail(urgent ? &lane->urgent : &lane->idle, task);
    g_mutex_unlock(&t->lock); /* from here on a worker may have run and freed the task */
    lane_pump(v, kind);
}

void
sx_lane_end(SxProv *v, SxLaneKind kind)
{
    SxTransfer *t = v->t;
    g_mutex_lock(&t->lock);
    v->lanes[kind].running--;
    g_mutex_unlock(&t->lock);
    lane_pump(v, kind);
    g_mutex_lock(&t->lock);
    t->active--;
    g_cond_broadcast(&t->cond);
    g_mutex_unlock(&t->lock);
}
