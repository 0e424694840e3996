#include "secret/secret.h"
#include "secret/secret_i.h"

#include <errno.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <libsecret/secret.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/sys.h"

#define SECRET_MAX 65536        /* bytes of the longest password or token */
#define COMMAND_LIMIT_MS 30000  /* of password-command */
#define KEYRING_LIMIT_MS 120000 /* the keyring may ask the person to unlock it */

struct SxSecret {
    gatomicrefcount refs;
    gsize len;
    char text[]; /* NUL-terminated; constant until the last unref */
};

SxSecret *
sx_secret_new(const char *text)
{
    gsize len = strlen(text);
    SxSecret *s = g_malloc(sizeof *s + len + 1);
    g_atomic_ref_count_init(&s->refs);
    s->len = len;
    memcpy(s->text, text, len + 1);
    return s;
}

SxSecret *
sx_secret_ref(SxSecret *s)
{
    g_atomic_ref_count_inc(&s->refs);
    return s;
}

void
sx_secret_unref(SxSecret *s)
{
    if (s == NULL || !g_atomic_ref_count_dec(&s->refs))
        return;
    explicit_bzero(s->text, s->len);
    g_free(s);
}

const char *
sx_secret_peek(const SxSecret *s)
{
    return s->text;
}

/* Looks at every byte, so that the time taken tells no more than the length. */
bool
sx_secret_equal(const SxSecret *a, const SxSecret *b)
{
    if (a->len != b->len)
        return false;
    unsigned differ = 0;
    for (gsize i = 0; i < a->len; i++)
        differ |= (guchar)a->text[i] ^ (guchar)b->text[i];
    return differ == 0;
}

/* Cuts at the end of the first line and takes it. false with an error when there is nothing in it. */
static bool
first_line(char *text, const char *where, SxSecret **ret, GError **error)
{
    text[strcspn(text, "\r\n")] = '\0';
    if (*text == '\0')
        return sx_fail(error, SX_ERR_AUTH, "%s: the first line is empty, so there is no password", where);
    *ret = sx_secret_new(text);
    return true;
}

/* ---- a limit in time for calls that only know a GCancellable ---- */

typedef struct Limit {
    GMutex lock;
    GCond ended;
    bool over; /* (lock) the guarded call has returned */
    gint64 deadline_us;
    GCancellable *cancel;
    GThread *thread;
} Limit;

static void *
limit_thread(void *data)
{
    Limit *l = data;
    g_mutex_lock(&l->lock);
    bool in_time = true;
    while (!l->over && in_time)
        in_time = g_cond_wait_until(&l->ended, &l->lock, l->deadline_us);
    bool cancel = !l->over;
    g_mutex_unlock(&l->lock);
    if (cancel)
        g_cancellable_cancel(l->cancel);
    return NULL;
}

static void
limit_begin(Limit *l, int ms)
{
    *l = (Limit){.deadline_us = g_get_monotonic_time() + ms * (gint64)1000, .cancel = g_cancellable_new()};
    g_mutex_init(&l->lock);
    g_cond_init(&l->ended);
    l->thread = g_thread_new("secret-limit", limit_thread, l);
}

static void
limit_end(Limit *l)
{
    g_mutex_lock(&l->lock);
    l->over = true;
    g_cond_signal(&l->ended);
    g_mutex_unlock(&l->lock);
    g_thread_join(l->thread);
    g_object_unref(l->cancel);
    g_cond_clear(&l->ended);
    g_mutex_clear(&l->lock);
}

/* ---- password-file ---- */

static bool
from_file(const char *file, SxSecret **ret, GError **error)
{
    g_auto(SxFd) fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0)
        return sx_fail(error, SX_ERR_AUTH, "password-file %s: %s", file, g_strerror(errno));
    if (!S_ISREG(st.st_mode))
        return sx_fail(error, SX_ERR_AUTH, "password-file %s: not a regular file", file);
    if ((st.st_mode & 077) != 0) {
        g_autofree char *quoted = g_shell_quote(file);
        return sx_fail(error, SX_ERR_AUTH, "password-file %s: others can read it (mode %04o); allowed: mode 0600, run: chmod 600 %s",
                       file, (unsigned)st.st_mode & 07777, quoted);
    }
    char text[4096];
    ssize_t n = sx_sys_pread_full(sx_sys_default(), fd, text, sizeof text - 1, 0);
    if (n < 0)
        return sx_fail(error, SX_ERR_AUTH, "password-file %s: %s", file, g_strerror((int)-n));
    text[n] = '\0';
    g_autofree char *where = g_strdup_printf("password-file %s", file);
    bool good = first_line(text, where, ret, error);
    explicit_bzero(text, sizeof text);
    return good;
}

/* ---- password-command ---- */

/* Everything to the end of the output, so that the command does not die of a closed pipe; what does not fit is dropped. */
static bool
drain(GInputStream *in, char *text, GCancellable *cancel, GError **error)
{
    gsize kept = 0;
    char rest[4096];
    for (;;) {
        bool full = kept == SECRET_MAX;
        gssize n = g_input_stream_read(in, full ? rest : text + kept, full ? sizeof rest : SECRET_MAX - kept, cancel, error);
        if (n < 0)
            return false;
        if (n == 0)
            break;
        kept += full ? 0 : (gsize)n;
    }
    text[kept] = '\0';
    explicit_bzero(rest, sizeof rest);
    return true;
}

static bool
run(const char *const *argv, char *text, int limit_ms, GCancellable *cancel, GError **error)
{
    const char *command = argv[0]; /* no more of it in messages: an argument may be secret too */
    g_autoptr(GError) e = NULL;
    g_autoptr(GSubprocess) child = g_subprocess_newv(argv, G_SUBPROCESS_FLAGS_STDOUT_PIPE, &e);
    if (child == NULL)
        return sx_fail(error, SX_ERR_AUTH, "password-command '%s': %s", command, e->message);
    bool done = drain(g_subprocess_get_stdout_pipe(child), text, cancel, &e) && g_subprocess_wait(child, cancel, &e);
    if (!done)
        g_subprocess_force_exit(child);
    if (g_cancellable_is_cancelled(cancel))
        return sx_fail(error, SX_ERR_AUTH, "password-command '%s': no answer within %g seconds", command, limit_ms / 1000.0);
    if (!done)
        return sx_fail(error, SX_ERR_AUTH, "password-command '%s': %s", command, e->message);
    if (g_subprocess_get_if_signaled(child))
        return sx_fail(error, SX_ERR_AUTH, "password-command '%s' was ended by signal %d", command, g_subprocess_get_term_sig(child));
    int status = g_subprocess_get_exit_status(child);
    return status == 0 || sx_fail(error, SX_ERR_AUTH, "password-command '%s' ended with status %d", command, status);
}

bool
sx_secret_from_command(const char *command, int limit_ms, SxSecret **ret, GError **error)
{
    g_auto(GStrv) argv = NULL;
    if (!g_shell_parse_argv(command, NULL, &argv, NULL)) /* its message would repeat the whole command */
        return sx_fail(error, SX_ERR_AUTH, "password-command: no command, or a quote that is not closed");
    g_autofree char *text = g_malloc0(SECRET_MAX + 1);
    Limit limit;
    limit_begin(&limit, limit_ms);
    bool good = run((const char *const *)argv, text, limit_ms, limit.cancel, error);
    limit_end(&limit);
    g_autofree char *where = g_strdup_printf("password-command '%s'", argv[0]);
    good = good && first_line(text, where, ret, error);
    explicit_bzero(text, SECRET_MAX);
    return good;
}

/* ---- keyring ---- */

static const SecretSchema *
schema(void)
{
    /* The name does not need to match, so that `secret-tool store` can put an entry there. */
    static const SecretSchema s = {
        .name = "org.syncoxfs.Password",
        .flags = SECRET_SCHEMA_DONT_MATCH_NAME,
        .attributes = {{"application", SECRET_SCHEMA_ATTRIBUTE_STRING}, {"provider", SECRET_SCHEMA_ATTRIBUTE_STRING}},
    };
    return &s;
}

/* libsecret's own message for the commonest failure speaks of X11; say what is missing and what to do. */
static bool
keyring_failed(const GError *e, GError **error)
{
    g_autoptr(GDBusConnection) bus = g_bus_get_sync(G_BUS_TYPE_SESSION, NULL, NULL);
    if (bus == NULL)
        return sx_fail(error, SX_ERR_AUTH, "password = keyring: the keyring is reached over the D-Bus session bus, and there is none; "
                       "start from a desktop session, or use password-command or password-file");
    return sx_fail(error, SX_ERR_AUTH, "password = keyring: %s; is a keyring such as GNOME Keyring or KWallet running?", e->message);
}

static bool
from_keyring(const char *provider, SxSecret **ret, GError **error)
{
    g_autoptr(GError) e = NULL;
    Limit limit;
    limit_begin(&limit, KEYRING_LIMIT_MS);
    char *text = secret_password_lookup_sync(schema(), limit.cancel, &e, "application", "syncoxfs", "provider", provider, NULL);
    limit_end(&limit);
    if (e != NULL)
        return keyring_failed(e, error);
    if (text == NULL) {
        g_autofree char *quoted = g_shell_quote(provider);
        return sx_fail(error, SX_ERR_AUTH, "password = keyring: there is no entry for it; run: "
                       "secret-tool store --label=syncoxfs application syncoxfs provider %s", quoted);
    }
    *ret = sx_secret_new(text);
    secret_password_wipe(text);
    secret_password_free(text);
    return true;
}

/* ---- which of them ---- */

static bool
get(const SxSection *section, SxSecret **ret, GError **error)
{
    bool literal = sx_section_is_set(section, "password");
    bool command = sx_section_is_set(section, "password-command");
    bool file = sx_section_is_set(section, "password-file");
    if (literal + command + file > 1)
        return sx_fail(error, SX_ERR_AUTH, "%s: more than one password; allowed: one of password, password-command and password-file",
                       sx_section_where(section));
    if (command)
        return sx_secret_from_command(sx_section_string(section, "password-command"), COMMAND_LIMIT_MS, ret, error);
    if (file)
        return from_file(sx_section_string(section, "password-file"), ret, error);
    if (literal && strcmp(sx_section_string(section, "password"), "keyring") == 0)
        return from_keyring(sx_section_name(section), ret, error);
    *ret = literal ? sx_secret_new(sx_section_string(section, "password")) : NULL;
    return true;
}

bool
sx_secret_for_section(const SxSection *section, SxSecret **ret, GError **error)
{
    GError *e = NULL; /* never NULL inside, so that the name can be put in front */
    if (get(section, ret, &e))
        return true;
    g_prefix_error(&e, "%s: ", sx_section_name(section));
    g_propagate_error(error, e);
    return false;
}
