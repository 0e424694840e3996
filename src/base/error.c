#include "base/error.h"

#include <errno.h>
#include <string.h>

typedef struct SxErrorPrivate {
    gint64 retry_after_ms;
} SxErrorPrivate;

static void
sx_error_private_init(SxErrorPrivate *p)
{
    p->retry_after_ms = 0;
}
static void
sx_error_private_copy(const SxErrorPrivate *from, SxErrorPrivate *to)
{
    *to = *from;
}
static void
sx_error_private_clear(SxErrorPrivate *p)
{
}

G_DEFINE_EXTENDED_ERROR(SxError, sx_error)

static const struct {
    const char *name;
    int err;
    SxRetry retry;
} codes[SX_N_ERRORS] = {
    [SX_ERR_FAILED] = {"failed", EIO, SX_RETRY_BACKOFF},
    [SX_ERR_NOT_FOUND] = {"not-found", ENOENT, SX_RETRY_REPLAN},
    [SX_ERR_EXISTS] = {"exists", EEXIST, SX_RETRY_REPLAN},
    [SX_ERR_NOT_DIR] = {"not-a-directory", ENOTDIR, SX_RETRY_REPLAN},
    [SX_ERR_IS_DIR] = {"is-a-directory", EISDIR, SX_RETRY_REPLAN},
    [SX_ERR_NOT_EMPTY] = {"not-empty", ENOTEMPTY, SX_RETRY_REPLAN},
    [SX_ERR_PERMISSION] = {"permission", EACCES, SX_RETRY_NEVER},
    [SX_ERR_AUTH] = {"login", EACCES, SX_RETRY_AUTH},
    [SX_ERR_READ_ONLY] = {"read-only", EROFS, SX_RETRY_NEVER},
    [SX_ERR_NO_SPACE] = {"no-space", ENOSPC, SX_RETRY_BACKOFF},
    [SX_ERR_QUOTA] = {"quota", EDQUOT, SX_RETRY_BACKOFF},
    [SX_ERR_NAME] = {"name", EINVAL, SX_RETRY_NEVER},
    [SX_ERR_NAME_TOO_LONG] = {"name-too-long", ENAMETOOLONG, SX_RETRY_NEVER},
    [SX_ERR_TOO_LARGE] = {"too-large", EFBIG, SX_RETRY_NEVER},
    [SX_ERR_CHANGED] = {"changed", ESTALE, SX_RETRY_REPLAN},
    [SX_ERR_OFFLINE] = {"offline", EHOSTUNREACH, SX_RETRY_OFFLINE},
    [SX_ERR_TIMEOUT] = {"timeout", ETIMEDOUT, SX_RETRY_OFFLINE},
    [SX_ERR_LOST] = {"connection-lost", EIO, SX_RETRY_BACKOFF},
    [SX_ERR_BUSY] = {"busy", EBUSY, SX_RETRY_BACKOFF},
    [SX_ERR_RATE] = {"rate", EAGAIN, SX_RETRY_BACKOFF},
    [SX_ERR_SERVER] = {"server", EIO, SX_RETRY_BACKOFF},
    [SX_ERR_PROTOCOL] = {"protocol", EPROTO, SX_RETRY_BACKOFF},
    [SX_ERR_TLS] = {"tls", EACCES, SX_RETRY_AUTH},
    [SX_ERR_UNSUPPORTED] = {"unsupported", EOPNOTSUPP, SX_RETRY_NEVER},
    [SX_ERR_CANCELLED] = {"cancelled", EINTR, SX_RETRY_BACKOFF},
    [SX_ERR_CORRUPT] = {"corrupt", EUCLEAN, SX_RETRY_BACKOFF},
    [SX_ERR_NEWER] = {"newer", EPROTONOSUPPORT, SX_RETRY_NEVER},
    [SX_ERR_CONFIG] = {"configuration", EINVAL, SX_RETRY_NEVER},
    [SX_ERR_INVALID] = {"invalid", EINVAL, SX_RETRY_NEVER},
    [SX_ERR_BACKPRESSURE] = {"cache-full", ENOSPC, SX_RETRY_BACKOFF},
    [SX_ERR_CROSS] = {"cross-device", EXDEV, SX_RETRY_NEVER},
    [SX_ERR_LOOP] = {"loop", EINVAL, SX_RETRY_NEVER},
};

GError *
sx_error_new(SxErrorCode code, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    GError *e = g_error_new_valist(SX_ERROR, (gint)code, format, ap);
    va_end(ap);
    return e;
}

bool
sx_fail(GError **error, SxErrorCode code, const char *format, ...)
{
    if (error == NULL)
        return false;
    va_list ap;
    va_start(ap, format);
    g_propagate_error(error, g_error_new_valist(SX_ERROR, (gint)code, format, ap));
    va_end(ap);
    return false;
}

bool
sx_fail_errno(GError **error, int errnum, const char *format, ...)
{
    if (error == NULL)
        return false;
    va_list ap;
    va_start(ap, format);
    g_autofree char *what = g_strdup_vprintf(format, ap);
    va_end(ap);
    return sx_fail(error, sx_error_code_from_errno(errnum), "%s: %s", what, g_strerror(errnum));
}

SxErrorCode
sx_error_code(const GError *error)
{
    if (error == NULL || error->domain != SX_ERROR || error->code < 0 || error->code >= SX_N_ERRORS)
        return SX_ERR_FAILED;
    return (SxErrorCode)error->code;
}

int
sx_errno(const GError *error)
{
    return error == NULL ? 0 : codes[sx_error_code(error)].err;
}

SxErrorCode
sx_error_code_from_errno(int errnum)
{
    switch (errnum) {
    case EPERM: return SX_ERR_PERMISSION;
    case EMFILE:
    case ENFILE: return SX_ERR_BUSY;
    case ECANCELED: return SX_ERR_CANCELLED;
    case EINVAL: return SX_ERR_INVALID;
    case EIO: return SX_ERR_FAILED;
    default: break;
    }
    for (int i = 0; i < SX_N_ERRORS; i++)
        if (codes[i].err == errnum)
            return (SxErrorCode)i;
    return SX_ERR_FAILED;
}

SxRetry
sx_error_retry(const GError *error)
{
    return codes[sx_error_code(error)].retry;
}

const char *
sx_error_code_name(SxErrorCode code)
{
    return code < SX_N_ERRORS ? codes[code].name : "none";
}

bool
sx_error_code_from_name(const char *name, SxErrorCode *ret_code)
{
    for (int i = 0; i < SX_N_ERRORS; i++)
        if (strcmp(codes[i].name, name) == 0) {
            *ret_code = (SxErrorCode)i;
            return true;
        }
    return false;
}

gint64
sx_error_retry_after_ms(const GError *error)
{
    if (error == NULL || error->domain != SX_ERROR)
        return 0;
    return sx_error_get_private(error)->retry_after_ms;
}

void
sx_error_set_retry_after_ms(GError *error, gint64 ms)
{
    if (error != NULL && error->domain == SX_ERROR)
        sx_error_get_private(error)->retry_after_ms = ms;
}

bool
sx_error_is(const GError *error, SxErrorCode code)
{
    return error != NULL && error->domain == SX_ERROR && error->code == (gint)code;
}
