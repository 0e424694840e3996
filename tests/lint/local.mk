TESTS += tests/lint/run
SX_TESTS_ENVIRONMENT += \
	SX_LINT_CC='$(CC)'; SX_LINT_CFLAGS='-std=gnu17 -I$(abs_top_srcdir)/src -I$(abs_top_builddir) -D_GNU_SOURCE -DFUSE_USE_VERSION=314 $(DEPS_CFLAGS)'; \
	export SX_LINT_CC SX_LINT_CFLAGS;
EXTRA_DIST += tests/lint/run tests/lint/lint.py tests/lint/test_lint.py
