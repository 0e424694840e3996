/* The session: mount, loop, end.
 *
 * End of a mount, in bounded time, whatever programs do on it: sx_fuse_stop() asks; the thread `ender` of the loop then
 *   1. ends all waits for the network (-EINTR)
 *   2. unmounts. Not busy: the kernel writes its dirty pages, releases all files, and the loop ends by itself
 *   3. busy: asks the kernel to write its dirty pages (syncfs), for at most SX_FUSE_STOP_GRACE_MS, then ends the loop
 * After the loop the device is closed, which wakes everybody in the kernel who still waits for us, and the mount is detached. */
#include "fuse/fuse_i.h"

#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define WAKE_SIGNAL SIGUSR2 /* interrupts libfuse's wait for the end of its workers; has no other effect */
#define WAKE_EVERY_MS 20

/* Words of fstab that are for mount(8) or the boot, not for us. */
static bool
is_foreign(const char *option)
{
    static const char *const words[] = {"defaults", "auto", "noauto", "user", "nouser", "users", "owner", "group", "_netdev", "nofail", NULL};
    return g_strv_contains(words, option) || g_str_has_prefix(option, "x-") || g_str_has_prefix(option, "comment=");
}

/* Commas and back-slashes would end the word for libfuse. */
static char *
escape_option(const char *key, const char *value)
{
    GString *s = g_string_new(key);
    for (const char *p = value; *p != '\0'; p++) {
        if (*p == ',' || *p == '\\')
            g_string_append_c(s, '\\');
        g_string_append_c(s, *p);
    }
    return g_string_free(s, FALSE);
}

static struct fuse_session *
new_session(SxFuse *f, const char *fsname, GPtrArray *options, GError **error)
{
    struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
    g_autofree char *name = escape_option("-ofsname=", fsname);
    const char *fixed[] = {"syncoxfs", "-odefault_permissions,subtype=syncoxfs", name};
    for (guint i = 0; i < G_N_ELEMENTS(fixed); i++)
        fuse_opt_add_arg(&args, fixed[i]);
    for (guint i = 0; options != NULL && i < options->len; i++) {
        if (is_foreign(options->pdata[i]))
            continue;
        fuse_opt_add_arg(&args, "-o");
        fuse_opt_add_arg(&args, options->pdata[i]);
    }
    struct fuse_session *se = fuse_session_new(&args, &sx_fuse_ops, sizeof sx_fuse_ops, f);
    fuse_opt_free_args(&args);
    if (se == NULL)
        sx_fail(error, SX_ERR_CONFIG, "a mount option is not known, or has a wrong value");
    return se;
}

SxFuse *
sx_fuse_new(const char *mountpoint, const char *fsname, GPtrArray *mount_options, GError **error)
{
    SxFuse *f = g_new0(SxFuse, 1);
    f->mountpoint = g_strdup(mountpoint);
    f->notifier = sx_notifier_new();
    g_mutex_init(&f->lock);
    g_cond_init(&f->cond);
    f->files = g_hash_table_new(NULL, NULL);
    f->waits = g_hash_table_new(NULL, NULL);
    f->se = new_session(f, fsname != NULL ? fsname : "syncoxfs", mount_options, error);
    if (f->se == NULL)
        g_clear_pointer(&f, sx_fuse_free);
    return f;
}

const SxNotify *
sx_fuse_notify(SxFuse *f)
{
    return sx_notifier_face(f->notifier);
}

/* ---- mounting ---- */

static bool
run_fusermount(const char *option, const char *mountpoint)
{
    const char *argv[] = {"fusermount3", option, "--", mountpoint, NULL};
    int status = -1;
    return g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH | G_SPAWN_STDOUT_TO_DEV_NULL | G_SPAWN_STDERR_TO_DEV_NULL, NULL,
                        NULL, NULL, NULL, &status, NULL) &&
           status == 0;
}

static bool
unmount(const char *mountpoint, bool lazy)
{
    if (umount2(mountpoint, UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)) == 0)
        return true;
    return errno == EPERM && run_fusermount(lazy ? "-uz" : "-u", mountpoint);
}

/* What a crash leaves behind: a mount that nobody serves. The kernel answers stat() of its root from what it remembers for as
 * long as we allowed it to, and statfs() never. */
static bool
clear_stale(const char *mountpoint, GError **error)
{
    struct stat st;
    struct statvfs fs;
    for (int i = 0; i < 16; i++) { /* several may lie on each other */
        if (statvfs(mountpoint, &fs) == 0 && stat(mountpoint, &st) == 0) {
            if (S_ISDIR(st.st_mode))
                return true;
            return sx_fail(error, SX_ERR_NOT_DIR, "the mount point %s is not a directory", mountpoint);
        }
        if (errno != ENOTCONN)
            return sx_fail_errno(error, errno, "the mount point %s", mountpoint);
        sx_info("cleaning up a dead mount at %s", mountpoint);
        if (!unmount(mountpoint, true))
            break;
    }
    return sx_fail(error, SX_ERR_BUSY, "a dead mount lies at %s; remove it with: fusermount3 -uz %s", mountpoint, mountpoint);
}

bool
sx_fuse_mount(SxFuse *f, SxVfs *vfs, GError **error)
{
    if (!clear_stale(f->mountpoint, error))
        return false;
    f->vfs = vfs;
    if (fuse_session_mount(f->se, f->mountpoint) != 0)
        return sx_fail(error, SX_ERR_FAILED, "cannot mount at %s (is /dev/fuse there, and fusermount3 installed?)", f->mountpoint);
    f->mounted = true;
    if (!sx_io_attach(f))
        return sx_fail(error, SX_ERR_FAILED, "this libfuse cannot be served at %s", f->mountpoint);
    sx_notifier_start(f->notifier, f->se, vfs);
    return true;
}

/* ---- the end ---- */

static void
end_waits(SxFuse *f)
{
    g_autoptr(GPtrArray) waits = g_ptr_array_new_with_free_func(g_object_unref);
    g_mutex_lock(&f->lock);
    GHashTableIter iter;
    gpointer c;
    g_hash_table_iter_init(&iter, f->waits);
    while (g_hash_table_iter_next(&iter, &c, NULL))
        g_ptr_array_add(waits, g_object_ref(c));
    g_mutex_unlock(&f->lock);
    for (guint i = 0; i < waits->len; i++)
        g_cancellable_cancel(waits->pdata[i]);
}

/* May wait in the kernel for as long as the device is open. The result says whether it is unmounted. */
static gpointer
unmount_or_sync(gpointer data)
{
    SxFuse *f = data;
    if (unmount(f->mountpoint, false))
        return GINT_TO_POINTER(true);
    SxFd fd = open(f->mountpoint, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0)
        syncfs(fd);
    sx_fd_clear(&fd);
    fuse_session_exit(f->se);
    return GINT_TO_POINTER(false);
}

static bool
wait_looped(SxFuse *f, gint64 ms)
{
    gint64 until = g_get_monotonic_time() + ms * 1000;
    while (!f->looped)
        if (!g_cond_wait_until(&f->cond, &f->lock, until))
            break;
    return f->looped;
}

typedef struct Ender {
    SxFuse *f;
    pthread_t loop;
} Ender;

static gpointer
end_when_asked(gpointer data)
{
    Ender *e = data;
    SxFuse *f = e->f;
    g_mutex_lock(&f->lock);
    while (!f->stopping && !f->looped)
        g_cond_wait(&f->cond, &f->lock);
    if (!f->looped) {
        g_mutex_unlock(&f->lock);
        end_waits(f);
        f->unmounter = g_thread_new("sx-unmount", unmount_or_sync, f);
        g_mutex_lock(&f->lock);
        gint64 deadline = g_get_monotonic_time() + SX_FUSE_STOP_GRACE_MS * 1000;
        while (!wait_looped(f, WAKE_EVERY_MS)) {
            if (g_get_monotonic_time() > deadline)
                fuse_session_exit(f->se);
            if (fuse_session_exited(f->se))
                pthread_kill(e->loop, WAKE_SIGNAL);
        }
    }
    g_mutex_unlock(&f->lock);
    return NULL;
}

static void
set_looped(SxFuse *f)
{
    g_mutex_lock(&f->lock);
    f->looped = true;
    g_cond_broadcast(&f->cond);
    g_mutex_unlock(&f->lock);
}

/* The number of the descriptor stays taken until the notify thread has ended, since that may be about to write to it. */
static bool
close_device(SxFuse *f)
{
    int fd = fuse_session_fd(f->se);
    struct pollfd p = {.fd = fd};
    bool severed = poll(&p, 1, 0) == 1 && (p.revents & POLLERR) != 0; /* unmounted already */
    SxFd null = open("/dev/null", O_RDWR | O_CLOEXEC);
    dup2(null, fd);
    sx_fd_clear(&null);
    return severed;
}

/* Lets libfuse free what fuse_session_mount() made, without unmounting whatever is at this place by now: it leaves alone a
 * device that reports an error, as the write end of a pipe does that nobody reads. */
static void
forget_mount(SxFuse *f)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return;
    dup2(ends[1], fuse_session_fd(f->se));
    close(ends[0]);
    close(ends[1]);
    fuse_session_unmount(f->se);
}

void
sx_fuse_unmount(SxFuse *f)
{
    if (!f->mounted)
        return;
    bool gone = close_device(f);
    if (f->unmounter != NULL && GPOINTER_TO_INT(g_thread_join(g_steal_pointer(&f->unmounter))))
        gone = true;
    if (!gone) /* never twice: it would hit what lies below */
        unmount(f->mountpoint, true);
    sx_notifier_stop(f->notifier);
    forget_mount(f);
    sx_files_release_all(f);
    f->mounted = false;
}

static void
on_wake(int sig)
{
}

int
sx_fuse_loop(SxFuse *f, int max_threads)
{
    struct sigaction wake = {.sa_handler = on_wake};
    sigaction(WAKE_SIGNAL, &wake, NULL);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, WAKE_SIGNAL);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);

    Ender ender = {.f = f, .loop = pthread_self()};
    GThread *thread = g_thread_new("sx-ender", end_when_asked, &ender);
    struct fuse_loop_config *cfg = fuse_loop_cfg_create();
    fuse_loop_cfg_set_clone_fd(cfg, 0);
    fuse_loop_cfg_set_idle_threads(cfg, SX_FUSE_IDLE_THREADS);
    fuse_loop_cfg_set_max_threads(cfg, (unsigned)max_threads);
    int r = fuse_session_loop_mt(f->se, cfg);
    fuse_loop_cfg_destroy(cfg);

    set_looped(f);
    g_thread_join(thread);
    sx_fuse_unmount(f);
    return r < 0 && r != -EINTR ? 1 : 0;
}

void
sx_fuse_stop(SxFuse *f)
{
    g_mutex_lock(&f->lock);
    f->stopping = true;
    g_cond_broadcast(&f->cond);
    g_mutex_unlock(&f->lock);
}

void
sx_fuse_free(SxFuse *f)
{
    if (f == NULL)
        return;
    sx_fuse_unmount(f);
    sx_notifier_free(f->notifier);
    if (f->se != NULL)
        fuse_session_destroy(f->se);
    g_hash_table_unref(f->files);
    g_hash_table_unref(f->waits);
    g_cond_clear(&f->cond);
    g_mutex_clear(&f->lock);
    g_free(f->mountpoint);
    g_free(f);
}
