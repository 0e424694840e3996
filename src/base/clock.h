/* Time and randomness, passed in so that a simulation can replace them. Thread-safe. */
#pragma once

#include <glib.h>

typedef struct SxClock SxClock;
struct SxClock {
    gint64 (*real_ns)(const SxClock *clock);  /* wall clock, ns since 1970; may jump; only for times that people see */
    gint64 (*mono_ms)(const SxClock *clock);  /* never goes back; due times in memory, windows, timeouts */
    guint64 (*random)(const SxClock *clock);  /* 64 random bits */
    void *data;
};

const SxClock *sx_clock_default(void);
static inline gint64 sx_clock_real_ns(const SxClock *c) { return c->real_ns(c); }
static inline gint64 sx_clock_real_ms(const SxClock *c) { return c->real_ns(c) / 1000000; }
static inline gint64 sx_clock_mono_ms(const SxClock *c) { return c->mono_ms(c); }
static inline guint64 sx_clock_random(const SxClock *c) { return c->random(c); }
