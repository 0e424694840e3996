# One line a test program: its name in unit_tests, its source is tests/unit/NAME.c (cmocka).
if HAVE_CMOCKA
unit_tests = \
	tests/unit/test_base
check_PROGRAMS += $(unit_tests)
TESTS += $(unit_tests)
endif
AM_TESTS_ENVIRONMENT = top_srcdir='$(abs_top_srcdir)'; top_builddir='$(abs_top_builddir)'; export top_srcdir top_builddir;
SX_TEST_LIBS = $(SX_LIBS) $(CMOCKA_LIBS)
tests_unit_test_base_SOURCES = tests/unit/test_base.c
tests_unit_test_base_LDADD = $(SX_TEST_LIBS)
