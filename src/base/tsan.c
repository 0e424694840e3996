/* Only in --enable-tsan builds: GLib makes its locks from futexes inside a library that ThreadSanitizer does not see, so
 * every field that a GMutex guards would be reported. Our objects find these definitions before libglib's; each does the
 * real call and tells the sanitizer which order it made. */
#ifdef __SANITIZE_THREAD__

#include <dlfcn.h>
#include <gio/gio.h>
#include <sanitizer/tsan_interface.h>

/* The function of this name in the next library. The cache is filled by every thread with the same value. */
#define REAL(name) \
    ({ \
        static __typeof__(&name) real; \
        __typeof__(&name) now = __atomic_load_n(&real, __ATOMIC_RELAXED); \
        if (now == NULL) { \
            now = (__typeof__(&name))dlsym(RTLD_NEXT, #name); \
            __atomic_store_n(&real, now, __ATOMIC_RELAXED); \
        } \
        now; \
    })

#undef g_mutex_lock
#undef g_mutex_unlock
#undef g_mutex_trylock

void
g_mutex_lock(GMutex *m)
{
    __tsan_mutex_pre_lock(m, __tsan_mutex_linker_init);
    REAL(g_mutex_lock)(m);
    __tsan_mutex_post_lock(m, __tsan_mutex_linker_init, 0);
}

gboolean
g_mutex_trylock(GMutex *m)
{
    __tsan_mutex_pre_lock(m, __tsan_mutex_linker_init | __tsan_mutex_try_lock);
    gboolean got = REAL(g_mutex_trylock)(m);
    __tsan_mutex_post_lock(m, __tsan_mutex_linker_init | __tsan_mutex_try_lock | (got ? 0 : __tsan_mutex_try_lock_failed), 0);
    return got;
}

void
g_mutex_unlock(GMutex *m)
{
    __tsan_mutex_pre_unlock(m, 0);
    REAL(g_mutex_unlock)(m);
    __tsan_mutex_post_unlock(m, 0);
}

void
g_mutex_clear(GMutex *m)
{
    __tsan_mutex_destroy(m, __tsan_mutex_linker_init);
    REAL(g_mutex_clear)(m);
}

void
g_cond_wait(GCond *c, GMutex *m)
{
    __tsan_mutex_pre_unlock(m, 0);
    __tsan_mutex_post_unlock(m, 0);
    REAL(g_cond_wait)(c, m);
    __tsan_mutex_pre_lock(m, __tsan_mutex_linker_init);
    __tsan_mutex_post_lock(m, __tsan_mutex_linker_init, 0);
}

gboolean
g_cond_wait_until(GCond *c, GMutex *m, gint64 end)
{
    __tsan_mutex_pre_unlock(m, 0);
    __tsan_mutex_post_unlock(m, 0);
    gboolean in_time = REAL(g_cond_wait_until)(c, m, end);
    __tsan_mutex_pre_lock(m, __tsan_mutex_linker_init);
    __tsan_mutex_post_lock(m, __tsan_mutex_linker_init, 0);
    return in_time;
}

#define RECURSIVE (__tsan_mutex_linker_init | __tsan_mutex_write_reentrant)

void
g_rec_mutex_lock(GRecMutex *m)
{
    __tsan_mutex_pre_lock(m, RECURSIVE);
    REAL(g_rec_mutex_lock)(m);
    __tsan_mutex_post_lock(m, RECURSIVE, 0);
}

void
g_rec_mutex_unlock(GRecMutex *m)
{
    __tsan_mutex_pre_unlock(m, 0);
    REAL(g_rec_mutex_unlock)(m);
    __tsan_mutex_post_unlock(m, 0);
}

void
g_rec_mutex_clear(GRecMutex *m)
{
    __tsan_mutex_destroy(m, __tsan_mutex_linker_init);
    REAL(g_rec_mutex_clear)(m);
}

#define READ (__tsan_mutex_linker_init | __tsan_mutex_read_lock)

void
g_rw_lock_writer_lock(GRWLock *l)
{
    __tsan_mutex_pre_lock(l, __tsan_mutex_linker_init);
    REAL(g_rw_lock_writer_lock)(l);
    __tsan_mutex_post_lock(l, __tsan_mutex_linker_init, 0);
}

void
g_rw_lock_writer_unlock(GRWLock *l)
{
    __tsan_mutex_pre_unlock(l, 0);
    REAL(g_rw_lock_writer_unlock)(l);
    __tsan_mutex_post_unlock(l, 0);
}

void
g_rw_lock_reader_lock(GRWLock *l)
{
    __tsan_mutex_pre_lock(l, READ);
    REAL(g_rw_lock_reader_lock)(l);
    __tsan_mutex_post_lock(l, READ, 0);
}

void
g_rw_lock_reader_unlock(GRWLock *l)
{
    __tsan_mutex_pre_unlock(l, __tsan_mutex_read_lock);
    REAL(g_rw_lock_reader_unlock)(l);
    __tsan_mutex_post_unlock(l, __tsan_mutex_read_lock);
}

void
g_rw_lock_clear(GRWLock *l)
{
    __tsan_mutex_destroy(l, __tsan_mutex_linker_init);
    REAL(g_rw_lock_clear)(l);
}

/* Hand-over through a queue orders what was done before the push with what follows the pop. */
void
g_async_queue_push(GAsyncQueue *q, gpointer item)
{
    __tsan_release(q);
    REAL(g_async_queue_push)(q, item);
}

gpointer
g_async_queue_pop(GAsyncQueue *q)
{
    gpointer item = REAL(g_async_queue_pop)(q);
    __tsan_acquire(q);
    return item;
}

gpointer
g_async_queue_try_pop(GAsyncQueue *q)
{
    gpointer item = REAL(g_async_queue_try_pop)(q);
    __tsan_acquire(q);
    return item;
}

gpointer
g_async_queue_timeout_pop(GAsyncQueue *q, guint64 timeout_us)
{
    gpointer item = REAL(g_async_queue_timeout_pop)(q, timeout_us);
    __tsan_acquire(q);
    return item;
}

/* A pool's work function is called by the library: it is put in an envelope that orders it behind the push. The envelope
 * is found by the pool's own fields and lives as long as the process; pools are few. */
typedef struct PoolCall {
    GFunc func;
    gpointer data;
} PoolCall;

static void
pool_call(gpointer item, gpointer data)
{
    PoolCall *c = data;
    __tsan_acquire(c);
    c->func(item, c->data);
    __tsan_release(c);
}

GThreadPool *
g_thread_pool_new(GFunc func, gpointer data, gint max_threads, gboolean exclusive, GError **error)
{
    PoolCall *c = g_new(PoolCall, 1);
    *c = (PoolCall){func, data};
    __tsan_release(c);
    return REAL(g_thread_pool_new)(pool_call, c, max_threads, exclusive, error);
}

gboolean
g_thread_pool_push(GThreadPool *pool, gpointer item, GError **error)
{
    __tsan_release(pool->user_data);
    return REAL(g_thread_pool_push)(pool, item, error);
}

void
g_thread_pool_free(GThreadPool *pool, gboolean immediate, gboolean wait)
{
    PoolCall *c = pool->user_data;
    REAL(g_thread_pool_free)(pool, immediate, wait);
    __tsan_acquire(c);
}

/* Whoever drops the last reference sees what the others did with the object. */
#undef g_object_unref
void
g_object_unref(gpointer object)
{
    __tsan_release(object);
    __tsan_acquire(object);
    REAL(g_object_unref)(object);
}

void
g_cancellable_cancel(GCancellable *cancel)
{
    if (cancel != NULL)
        __tsan_release(cancel);
    REAL(g_cancellable_cancel)(cancel);
}

gboolean
g_cancellable_is_cancelled(GCancellable *cancel)
{
    gboolean is = REAL(g_cancellable_is_cancelled)(cancel);
    if (is)
        __tsan_acquire(cancel);
    return is;
}

#else
typedef int sx_tsan_unused; /* ISO C wants one declaration */
#endif
