/* Real servers for cmocka tests: a thin face of tests/lib/server (see there for the kinds and keys).
 * A server ends when it is stopped, and in any case when the test process is gone. */
#pragma once

#include <glib.h>
#include <stdbool.h>

typedef struct SxTestServer SxTestServer;

/* Starts a server in a new temporary directory. NULL when a program is missing (the reason is printed, the test should
 * skip()); any other failure aborts the test program with the server's own words. */
SxTestServer *sx_test_server_start(const char *kind);
void sx_test_server_stop(SxTestServer *s); /* also removes its directory; NULL is fine */
/* The value of a key: "url", "user", "password", "root", "ca"...; NULL when this server has none. Owned by s. */
const char *sx_test_server_get(const SxTestServer *s, const char *key);
void sx_test_server_kill(SxTestServer *s);   /* kill -9: a cut */
void sx_test_server_restart(SxTestServer *s);/* after kill: on the same ports, with the same files */
void sx_test_server_pause(SxTestServer *s);  /* hangs until resumed */
void sx_test_server_resume(SxTestServer *s);

/* rm -rf of a directory that a test made. */
void sx_test_rm_rf(const char *dir);
