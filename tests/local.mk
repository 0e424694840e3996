# What every test finds: the two trees, and what the sanitizers may not complain about (each line there says why).
AM_TESTS_ENVIRONMENT = \
	top_srcdir='$(abs_top_srcdir)'; top_builddir='$(abs_top_builddir)'; export top_srcdir top_builddir; \
	LSAN_OPTIONS="suppressions=$(abs_top_srcdir)/tests/lib/lsan.supp:print_suppressions=0"; export LSAN_OPTIONS; \
	TSAN_OPTIONS="suppressions=$(abs_top_srcdir)/tests/lib/tsan.supp:second_deadlock_stack=1"; export TSAN_OPTIONS; \
	UBSAN_OPTIONS="print_stacktrace=1"; export UBSAN_OPTIONS; \
	G_SLICE=always-malloc; export G_SLICE; \
	$(SX_TESTS_ENVIRONMENT)
# G_SLICE: GLib's own allocator hides who uses memory after its end, and which thread had it before.
SX_TESTS_ENVIRONMENT =
# A test that hangs is ended, so that the others still run.
LOG_COMPILER = timeout
AM_LOG_FLAGS = -k 30 1200
EXTRA_DIST += tests/lib/lsan.supp tests/lib/tsan.supp tests/crash/crash.py tests/bench/bench.py tests/bench/delay_proxy.py
CHECK_LONG_TESTS =

include tests/unit/local.mk
include tests/provider/local.mk
include tests/mount/local.mk
include tests/crash/local.mk
include tests/sim/local.mk
include tests/fuzz/local.mk
include tests/bench/local.mk
include tests/lint/local.mk
include tests/lib/local.mk

# Which tests run again under the sanitizers (contrib/setup check).
.PHONY: print-tests print-sanitized-tests print-threaded-tests check-long bench
print-tests:
	@for t in $(TESTS); do echo "$$t"; done
print-sanitized-tests:
	@for t in $(TESTS); do case $$t in tests/unit/*|tests/provider/*|tests/fuzz/*|tests/sim/*|tests/mount/*|tests/crash/*) echo "$$t";; esac; done
print-threaded-tests:
	@for t in $(TESTS); do case $$t in tests/unit/*|tests/provider/*) echo "$$t";; esac; done

# The longer forms: each script of CHECK_LONG_TESTS in turn, all of them even when one fails. 77 is a skip.
check-long: all
	@$(AM_TESTS_ENVIRONMENT) failed=0; skipped=0; passed=0; \
	for t in $(CHECK_LONG_TESTS); do \
	  f=$(srcdir)/$$t; test -e "$$f" || f=./$$t; \
	  echo "== $$t"; SX_CHECK_LONG=1 "$$f"; r=$$?; \
	  case $$r in 0) passed=$$((passed + 1));; 77) skipped=$$((skipped + 1));; *) failed=$$((failed + 1)); echo "FAILED: $$t ($$r)";; esac; \
	done; echo "$$passed passed, $$failed failed, $$skipped skipped"; test $$failed -eq 0

# Never a timed test: prints ratios for a person to read. BENCH_FLAGS go to the program.
bench: all
	@$(AM_TESTS_ENVIRONMENT) \
	for f in $(srcdir)/tests/bench/run $(srcdir)/tests/bench/bench.py; do test -x "$$f" && exec "$$f" $(BENCH_FLAGS); done; \
	echo "tests/bench/run is missing"; exit 1
