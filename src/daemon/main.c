/* syncoxfs: reads the command line and the configuration, goes to the background, builds the stack, serves, takes it down. */
#include "config.h"

#include "base/log.h"
#include "daemon/args.h"
#include "daemon/background.h"
#include "daemon/notify_desktop.h"
#include "daemon/place.h"
#include "daemon/stack.h"

#include <locale.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { EXIT_USAGE = 2 };
#define SX_SIGNAL_DONE SIGUSR1 /* ends the signals' thread */

/* ---- signals: a thread of their own, all others have them blocked ---- */

typedef struct Signals {
    SxStack *stack;
    const char *log_file; /* NULL in the foreground */
    sigset_t set;
    pthread_t thread;
    gint done;            /* atomic: SX_SIGNAL_DONE is ours, not somebody's kill */
} Signals;

static void *
handle_signals(void *data)
{
    Signals *s = data;
    for (int n = 0, sig;;) {
        if (sigwait(&s->set, &sig) != 0 || g_atomic_int_get(&s->done))
            return NULL;
        if (sig == SX_SIGNAL_DONE)
            continue;
        g_autoptr(GError) why = NULL;
        if (sig == SIGHUP) {
            if (s->log_file != NULL && !sx_background_open_log(s->log_file, &why))
                sx_warn("%s", why->message);
            continue;
        }
        if (n++ > 0) {
            sx_warn("told to end a second time: ending at once; nothing is lost, uploads go on at the next start");
            _exit(EXIT_FAILURE);
        }
        sx_info("told to end (%s)", strsignal(sig));
        sx_stack_stop(s->stack);
    }
}

/* Before any thread is made, so that all inherit it. */
static void
block_signals(sigset_t *ret)
{
    sigemptyset(ret);
    sigaddset(ret, SIGTERM);
    sigaddset(ret, SIGINT);
    sigaddset(ret, SIGHUP);
    sigaddset(ret, SX_SIGNAL_DONE);
    pthread_sigmask(SIG_BLOCK, ret, NULL);
    signal(SIGPIPE, SIG_IGN);
}

static void
stop_signals(Signals *s)
{
    g_atomic_int_set(&s->done, 1);
    pthread_kill(s->thread, SX_SIGNAL_DONE);
    pthread_join(s->thread, NULL);
}

/* ---- one mount ---- */

static SxConf *
load_conf(const SxArgs *args, SxRegistry *registry, char **ret_file, GError **error)
{
    g_autofree char *file = args->config_file != NULL ? g_strdup(args->config_file) : sx_conf_default_path();
    if (args->config_file == NULL && !g_file_test(file, G_FILE_TEST_EXISTS)) {
        const char *text = sx_conf_embedded_default();
        sx_info("%s is not there: using the default, one local provider 'Files' in ~/Files", file);
        return sx_conf_parse(text, strlen(text), "embedded default", sx_registry_options, registry, error);
    }
    SxConf *conf = sx_conf_load(file, sx_registry_options, registry, error);
    *ret_file = conf != NULL ? g_steal_pointer(&file) : NULL;
    return conf;
}

static bool
set_log_level(const SxArgs *args, const SxConf *conf, GError **error)
{
    SxLogLevel level;
    const char *text = args->log_level != NULL ? args->log_level : sx_section_string(sx_conf_global(conf), "log-level");
    if (!sx_log_level_parse(text, &level))
        return sx_fail(error, SX_ERR_INVALID, "log-level %s: must be one of error, warn, info, debug", text);
    sx_log_set_level(level);
    return true;
}

static int
serve(SxStack *stack, int parent, const char *mountpoint, const sigset_t *set, GError **error)
{
    Signals signals = {.stack = stack, .set = *set};
    g_autofree char *log_file = g_build_filename(sx_stack_state_dir(stack), "log", NULL);
    if (!sx_stack_mount(stack, error))
        return EXIT_FAILURE;
    if (parent >= 0) {
        signals.log_file = log_file;
        if (!sx_background_ready(parent, log_file, error))
            return EXIT_FAILURE;
    }
    sx_info("mounted on %s", mountpoint);
    int r = pthread_create(&signals.thread, NULL, handle_signals, &signals);
    if (r != 0) {
        sx_fail_errno(error, r, "thread for signals");
        return EXIT_FAILURE;
    }
    SxDesktop *desktop = sx_desktop_start(sx_vfs_events(sx_stack_vfs(stack)), &(SxDesktopOptions){0});
    int code = sx_stack_run(stack);
    sx_desktop_stop(desktop);
    stop_signals(&signals);
    sx_info("unmounted %s", mountpoint);
    return code;
}

static int
run(const SxArgs *args, GError **error)
{
    g_autoptr(SxRegistry) registry = sx_stack_registry();
    g_autofree char *config_file = NULL, *mountpoint = sx_place_check(args->mountpoint, error);
    if (mountpoint == NULL)
        return EXIT_FAILURE;
    g_autoptr(SxConf) conf = load_conf(args, registry, &config_file, error);
    if (conf == NULL || !set_log_level(args, conf, error) ||
        !sx_place_check_conf(mountpoint, conf, args->cache_dir, args->state_dir, error))
        return EXIT_FAILURE;
    int parent = -1;
    if (!args->foreground && (parent = sx_background_fork(error)) < 0)
        return EXIT_FAILURE;
    sigset_t set;
    block_signals(&set);
    const SxStackOptions options = {.conf = conf, .config_file = config_file, .mountpoint = mountpoint, .fsname = args->source,
                                    .mount_options = args->fuse_options, .cache_dir = args->cache_dir, .state_dir = args->state_dir};
    g_autoptr(SxStack) stack = sx_stack_new(&options, error);
    return stack != NULL ? serve(stack, parent, mountpoint, &set, error) : EXIT_FAILURE;
}

/* The sample file and the tables of syncoxfs.conf(5), from the option tables. */
static int
generate(const char *what)
{
    bool man = strcmp(what, "man") == 0;
    if (!man && strcmp(what, "sample") != 0) {
        fprintf(stderr, "syncoxfs: --generate %s: must be sample or man\n", what);
        return EXIT_USAGE;
    }
    g_autoptr(SxRegistry) registry = sx_stack_registry();
    g_autofree char *text = sx_conf_sample(sx_registry_options, sx_registry_names(registry), registry, man);
    fputs(text, stdout);
    return EXIT_SUCCESS;
}

int
main(int argc, char **argv)
{
    setlocale(LC_ALL, "");
    g_set_prgname("syncoxfs");
    g_auto(SxArgs) args = {0};
    g_autoptr(GError) why = NULL;
    if (!sx_args_parse(argc, argv, &args, &why)) {
        fprintf(stderr, "syncoxfs: %s\nTry: syncoxfs --help\n", why->message);
        return EXIT_USAGE;
    }
    if (args.version) {
        printf("syncoxfs %s\n", PACKAGE_VERSION);
        return EXIT_SUCCESS;
    }
    if (args.generate != NULL)
        return generate(args.generate);
    int code = run(&args, &why);
    if (why != NULL)
        sx_error_log("%s", why->message);
    return code;
}
