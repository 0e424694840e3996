# The conformance suite over every provider and its real server, and the tests with servers that answer wrongly.
if HAVE_CMOCKA
provider_tests = tests/provider/conformance tests/provider/bad_servers
check_PROGRAMS += $(provider_tests)
TESTS += $(provider_tests)
endif
tests_provider_conformance_SOURCES = tests/provider/conformance.c tests/provider/suite.h tests/provider/helpers.c \
	tests/provider/checks_basic.c tests/provider/checks_write.c tests/provider/checks_names.c tests/provider/checks_faults.c
tests_provider_conformance_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/tests
tests_provider_conformance_LDADD = tests/lib/libsxtest.a $(SX_TEST_LIBS)
tests_provider_bad_servers_SOURCES = tests/provider/bad_servers.c tests/provider/suite.h tests/provider/helpers.c
tests_provider_bad_servers_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/tests
tests_provider_bad_servers_LDADD = tests/lib/libsxtest.a $(SX_TEST_LIBS)
