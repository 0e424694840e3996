# Servers for tests (tests/lib/server --help) and their C face; a test program adds tests/lib/libsxtest.a to its LDADD.
check_LIBRARIES = tests/lib/libsxtest.a
tests_lib_libsxtest_a_SOURCES = tests/lib/servers.c tests/lib/servers.h
tests_lib_libsxtest_a_CPPFLAGS = $(AM_CPPFLAGS) -DSX_TEST_SRCDIR='"$(abs_top_srcdir)"'
EXTRA_DIST += tests/lib/server tests/lib/fake_nextcloud.py tests/lib/bad_server.py
