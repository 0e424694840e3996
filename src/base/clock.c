#include "base/clock.h"

#include <sys/random.h>
#include <time.h>

static gint64
real_ns(const SxClock *clock)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (gint64)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static gint64
mono_ms(const SxClock *clock)
{
    return g_get_monotonic_time() / 1000;
}

static guint64
random64(const SxClock *clock)
{
    guint64 v;
    if (getrandom(&v, sizeof v, 0) == (ssize_t)sizeof v)
        return v;
    return (guint64)g_random_int() << 32 | g_random_int();
}

const SxClock *
sx_clock_default(void)
{
    static const SxClock clock = {.real_ns = real_ns, .mono_ms = mono_ms, .random = random64};
    return &clock;
}
