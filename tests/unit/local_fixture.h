/* A folder for the local provider, a table of system calls that can fail, and what tests do with both. */
#pragma once

#include "provider/provider.h"

#include <stdio.h>
#include <sys/stat.h>
#include <ftw.h>

typedef struct Bad {
    int n;          /* calls seen */
    int fail_at;    /* the call of this number fails; 0: none */
    bool for_ever;  /* and all after it: a crash */
    int err;        /* with this; 0: a short write (other calls pass) */
    bool failed;
    /* Called before a renameat2 with these flags, or before a pread; once. */
    unsigned hook_flags;
    void (*before_rename)(void);
    void (*before_pread)(void);
    int refuse_flags; /* renameat2 with one of these flags: EINVAL */
} Bad;
extern Bad sx_t_bad;              /* the tests use it on one thread */
extern const SxSys sx_t_bad_sys;
extern char *sx_t_top;            /* of one test */
extern gint64 sx_t_clock_ahead_ns;

int sx_t_setup(void **state);
int sx_t_remove_entry(const char *path, const struct stat *st, int flag, struct FTW *ftw);
int sx_t_teardown(void **state);
char *sx_t_in(const char *path);
SxProvider *sx_t_open(const char *more, const SxSys *sys);
void sx_t_assert_error(GError **e, SxErrorCode code);
gssize sx_t_text_read(void *data, gint64 off, void *buf, gsize n);
bool sx_t_put_bytes(SxProvider *p, const char *path, const char *bytes, gsize n, SxIf kind, const char *version, SxRemote **ret, GError **error);
bool sx_t_put(SxProvider *p, const char *path, const char *text, SxIf kind, const char *version, SxRemote **ret, GError **error);
void sx_t_theirs(const char *path, const char *text);
char *sx_t_content(const char *path);
void sx_t_assert_content(const char *path, const char *text);
char *sx_t_raw_names(const char *path);
GPtrArray *sx_t_list(SxProvider *p, const char *path, GError **error);
const SxRemote *sx_t_entry(GPtrArray *a, const char *name);
int sx_t_add_bytes(void *data, gint64 off, const void *buf, gsize n);
