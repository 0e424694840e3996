#include "net/net.h"

/* The bucket may be overdrawn by one piece; who overdraws waits until it would be even again. It holds at most a second's
 * worth, so that a pause is not followed by a long burst. */
struct SxBucket {
    GMutex lock;
    gint64 rate;    /* bytes/s, under lock */
    double tokens;  /* under lock */
    gint64 last_us; /* under lock; 0: not used yet */
};

SxBucket *
sx_bucket_new(gint64 bytes_per_s)
{
    SxBucket *b = g_new0(SxBucket, 1);
    g_mutex_init(&b->lock);
    b->rate = bytes_per_s;
    return b;
}

void
sx_bucket_free(SxBucket *b)
{
    if (b == NULL)
        return;
    g_mutex_clear(&b->lock);
    g_free(b);
}

void
sx_bucket_set_rate(SxBucket *b, gint64 bytes_per_s)
{
    g_mutex_lock(&b->lock);
    b->rate = bytes_per_s;
    b->tokens = 0;
    g_mutex_unlock(&b->lock);
}

gint64
sx_bucket_charge(SxBucket *b, gsize n, gint64 mono_us)
{
    gint64 wait = 0;
    g_mutex_lock(&b->lock);
    if (b->rate > 0) {
        double gain = b->last_us == 0 ? 0 : (double)(mono_us - b->last_us) * (double)b->rate / 1e6;
        b->tokens = MIN(b->tokens + MAX(gain, 0), (double)b->rate) - (double)n;
        if (b->tokens < 0)
            wait = (gint64)(-b->tokens * 1e6 / (double)b->rate);
    }
    b->last_us = mono_us;
    g_mutex_unlock(&b->lock);
    return wait;
}
