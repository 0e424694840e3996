/* Only in --enable-tsan builds: GLib makes its locks from futexes inside a library that ThreadSanitizer does not see, so
 * every field that a GMutex guards would be reported. Our objects find these definitions before libglib's; each does the
 * real call and tells the sanitizer which order it made. */
#ifdef __SANITIZE_THREAD__

#include <dlfcn.h>
#include <gio/gio.h>
#include <link.h>
#include <stdbool.h>
#include <string.h>
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

void AnnotateIgnoreReadsBegin(const char *file, int line);
void AnnotateIgnoreReadsEnd(const char *file, int line);

/* The list nodes of the queue itself are guarded by a lock inside the library: not looked at. */
#define QUIETLY(call) (AnnotateIgnoreReadsBegin(__FILE__, __LINE__), call, AnnotateIgnoreReadsEnd(__FILE__, __LINE__))

/* Hand-over through a queue orders what was done before the push with what follows the pop. */
void
g_async_queue_push(GAsyncQueue *q, gpointer item)
{
    __tsan_release(q);
    QUIETLY(REAL(g_async_queue_push)(q, item));
}

gpointer
g_async_queue_pop(GAsyncQueue *q)
{
    gpointer item;
    QUIETLY(item = REAL(g_async_queue_pop)(q));
    __tsan_acquire(q);
    return item;
}

gpointer
g_async_queue_try_pop(GAsyncQueue *q)
{
    gpointer item;
    QUIETLY(item = REAL(g_async_queue_try_pop)(q));
    __tsan_acquire(q);
    return item;
}

gpointer
g_async_queue_timeout_pop(GAsyncQueue *q, guint64 timeout_us)
{
    gpointer item;
    QUIETLY(item = REAL(g_async_queue_timeout_pop)(q, timeout_us));
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
    gboolean good;
    QUIETLY(good = REAL(g_thread_pool_push)(pool, item, error));
    return good;
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

/* What the libraries free on their own account was handed over under their own locks, so it is not looked at; what they
 * free for us comes through g_free, and is. */
void __interceptor_free(void *p);

static struct {
    gsize begin, end;
} libraries[4]; /* of GLib; written before main() */

static int
note_library(struct dl_phdr_info *info, size_t size, void *data)
{
    guint *n = data;
    static const char *const names[] = {"libglib-2.0.so", "libgobject-2.0.so", "libgio-2.0.so"};
    for (guint i = 0; i < G_N_ELEMENTS(names); i++)
        if (strstr(info->dlpi_name, names[i]) != NULL && *n < G_N_ELEMENTS(libraries)) {
            for (int h = 0; h < info->dlpi_phnum; h++)
                if (info->dlpi_phdr[h].p_type == PT_LOAD)
                    libraries[*n].end = info->dlpi_addr + info->dlpi_phdr[h].p_vaddr + info->dlpi_phdr[h].p_memsz;
            libraries[(*n)++].begin = info->dlpi_addr;
        }
    return 0;
}

__attribute__((constructor)) static void
note_libraries(void)
{
    guint n = 0;
    dl_iterate_phdr(note_library, &n);
}

/* Runs also while the sanitizer is still beginning, so it is not instrumented itself. */
__attribute__((no_sanitize_thread)) void
free(void *p)
{
    gsize caller = (gsize)__builtin_return_address(0);
    bool theirs = false;
    for (guint i = 0; i < G_N_ELEMENTS(libraries); i++)
        theirs = theirs || (caller >= libraries[i].begin && caller < libraries[i].end);
    if (theirs)
        QUIETLY(__interceptor_free(p));
    else
        __interceptor_free(p);
}

#undef g_free
void
g_free(gpointer p)
{
    __interceptor_free(p);
}

#else
typedef int sx_tsan_unused; /* ISO C wants one declaration */
#endif
