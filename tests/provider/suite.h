/* The conformance suite: what provider.h promises, checked against every provider and its real server. */
#pragma once

#include "provider/provider.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

/* One provider under test. */
typedef struct SxTarget {
    const char *name;
    SxProvider *p;
    const char *root;      /* where the server keeps its files, or NULL: for making many quickly, beside the provider */
    bool utf8_only;        /* it can hold only names in UTF-8, NFC */
    bool no_dots;          /* names that begin with a dot are refused, because listings would lack them */
    SxFaultPlan *plan;     /* of the fault filter around it, or NULL */
} SxTarget;

typedef void (*SxCheckFn)(SxTarget *t, const char *dir); /* dir: exists, empty, of this check alone */
typedef struct SxCheck { const char *name; SxCheckFn run; } SxCheck;
extern const SxCheck sx_checks_basic[];   /* checks_basic.c; end with a NULL name */
extern const SxCheck sx_checks_write[];   /* checks_write.c */
extern const SxCheck sx_checks_names[];   /* checks_names.c */
extern const SxCheck sx_checks_faults[];  /* checks_faults.c; need a plan */

/* ---- helpers (helpers.c); they fail the running test with the provider's own words ---- */
/* Content that differs everywhere: byte i of pattern `seed`. */
guint8 sx_test_byte(guint seed, gint64 i);
typedef struct SxTestSource { guint seed; gint64 size; gint64 fail_at; int fail_errno; void (*hook)(void *data, gint64 off); void *data; gint64 sent; } SxTestSource;
SxUpload sx_test_upload(SxTestSource *source, SxCond cond);
SxCond sx_test_any(void);
SxCond sx_test_absent(void);
SxCond sx_test_version(const SxRemote *r);
SxRemote *sx_test_put(SxTarget *t, const char *path, guint seed, gint64 size); /* ANY; then as stat tells it */
SxRemote *sx_test_stat(SxTarget *t, const char *path);
void sx_test_same(SxTarget *t, const char *path, guint seed, gint64 size);     /* the file has exactly this content */
void sx_test_absent_now(SxTarget *t, const char *path);
GHashTable *sx_test_list(SxTarget *t, const char *path);                       /* of name to SxRemote */
void sx_test_ok(bool ok, GError **error, const char *what);
void sx_test_fails(bool ok, GError **error, SxErrorCode code, const char *what);
#define OK(call) G_STMT_START { GError *error_ = NULL; GError **error = &error_; bool ok_ = (call); sx_test_ok(ok_, error, #call); } G_STMT_END
#define FAILS(code, call) G_STMT_START { GError *error_ = NULL; GError **error = &error_; bool ok_ = (call); sx_test_fails(ok_, error, code, #call); } G_STMT_END
#define IN(dir, name) g_build_path("/", (dir), (name), NULL)
