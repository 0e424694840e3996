/* Errors: one GError domain for the whole program.
 *
 * A GError of domain SX_ERROR carries a sentence for a person (naming provider and path where they are known), a code
 * from the table below, and through the code an errno for the kernel and a retry class for the scheduler.
 * An error is made once, where the knowledge is; callers pass it on or prefix it (g_prefix_error).
 * Errors of other domains (GIOError and so on) are mapped by sx_errno() to EIO and never retried for ever. */
#pragma once

#include <glib.h>
#include <stdbool.h>

typedef enum SxErrorCode {
    SX_ERR_FAILED,       /* anything without a better code; EIO */
    SX_ERR_NOT_FOUND,    /* the object is certainly not there; ENOENT. Never used for a network or server failure */
    SX_ERR_EXISTS,       /* the name is taken; EEXIST */
    SX_ERR_NOT_DIR,      /* ENOTDIR */
    SX_ERR_IS_DIR,       /* EISDIR */
    SX_ERR_NOT_EMPTY,    /* ENOTEMPTY */
    SX_ERR_PERMISSION,   /* the server or system refuses this user; EACCES */
    SX_ERR_AUTH,         /* wrong or missing credentials; the provider is paused until they change; EACCES */
    SX_ERR_READ_ONLY,    /* EROFS */
    SX_ERR_NO_SPACE,     /* full disk or full server (HTTP 507); ENOSPC */
    SX_ERR_QUOTA,        /* the user's own limit; EDQUOT */
    SX_ERR_NAME,         /* a name that the other side cannot hold; EINVAL */
    SX_ERR_NAME_TOO_LONG,/* ENAMETOOLONG */
    SX_ERR_TOO_LARGE,    /* EFBIG */
    SX_ERR_CHANGED,      /* precondition failed: the object is not the version we expected; ESTALE */
    SX_ERR_OFFLINE,      /* could not reach the server at all (nothing was done there); EHOSTUNREACH */
    SX_ERR_TIMEOUT,      /* no answer in time; the server may or may not have acted; ETIMEDOUT */
    SX_ERR_LOST,         /* connection broke after the request was sent; the server may have acted; EIO */
    SX_ERR_BUSY,         /* locked or in use (HTTP 423); EBUSY */
    SX_ERR_RATE,         /* told to slow down (429, 503); EAGAIN. sx_error_retry_after_ms() may say for how long */
    SX_ERR_SERVER,       /* the server failed (5xx); EIO */
    SX_ERR_PROTOCOL,     /* an answer that makes no sense: HTML for XML, truncated or malformed XML; EPROTO */
    SX_ERR_TLS,          /* certificate or TLS policy refused; EACCES */
    SX_ERR_UNSUPPORTED,  /* cannot be done there at all; EOPNOTSUPP */
    SX_ERR_CANCELLED,    /* the caller gave up (signal, unmount, newer write); EINTR */
    SX_ERR_CORRUPT,      /* stored or received data fails its check; EUCLEAN */
    SX_ERR_NEWER,        /* the store was written by a newer program; EPROTONOSUPPORT */
    SX_ERR_CONFIG,       /* the configuration is wrong; EINVAL */
    SX_ERR_INVALID,      /* a wrong argument; EINVAL */
    SX_ERR_BACKPRESSURE, /* cache full of changes that are not uploaded yet; ENOSPC */
    SX_ERR_CROSS,        /* two providers; EXDEV */
    SX_ERR_LOOP,         /* a directory into itself; EINVAL */
    SX_N_ERRORS
} SxErrorCode;

typedef enum SxRetry {
    SX_RETRY_NEVER,   /* permanent: shown to the user and kept until the user or a change of the row clears it */
    SX_RETRY_BACKOFF, /* exponential with jitter, from 0.5 s to 5 min */
    SX_RETRY_OFFLINE, /* the whole provider pauses and is probed */
    SX_RETRY_AUTH,    /* the whole provider pauses until its configuration changes or the user asks */
    SX_RETRY_REPLAN,  /* the remote differs from what we knew: look again, then plan anew */
} SxRetry;

#define SX_ERROR (sx_error_quark())
GQuark sx_error_quark(void);

/* A new error. `format` is a sentence without a full stop. */
GError *sx_error_new(SxErrorCode code, const char *format, ...) G_GNUC_PRINTF(2, 3);
/* Sets *error (when error is not NULL) and returns false, so that `return sx_fail(error, ...)` reads well. */
bool sx_fail(GError **error, SxErrorCode code, const char *format, ...) G_GNUC_PRINTF(3, 4);
/* The same from an errno value of a system call; the text of errno is appended after ": ". */
bool sx_fail_errno(GError **error, int errnum, const char *format, ...) G_GNUC_PRINTF(3, 4);

/* The positive errno for the kernel; 0 for NULL. */
int sx_errno(const GError *error);
SxErrorCode sx_error_code(const GError *error);            /* SX_ERR_FAILED for a foreign domain */
SxErrorCode sx_error_code_from_errno(int errnum);
SxRetry sx_error_retry(const GError *error);
const char *sx_error_code_name(SxErrorCode code);          /* "not-found": stable, for JSON and the store */
bool sx_error_code_from_name(const char *name, SxErrorCode *ret_code);

/* How long the other side asked us to wait (HTTP Retry-After), in milliseconds; 0 when it did not. */
gint64 sx_error_retry_after_ms(const GError *error);
void sx_error_set_retry_after_ms(GError *error, gint64 ms);

/* Short form: does the error have this code? false for NULL. */
bool sx_error_is(const GError *error, SxErrorCode code);
