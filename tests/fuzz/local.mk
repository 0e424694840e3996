# Each target is tests/fuzz/fuzz_NAME.c; see README.md there. Add the name in the three places marked (1), (2), (3).
# (1) for `make check`: the target with a main() that replays the corpus
fuzz_replays = \
	tests/fuzz/replay_http_headers \
	tests/fuzz/replay_dav_xml \
	tests/fuzz/replay_control \
	tests/fuzz/replay_ini
# (2) for `make fuzz`: the target with libFuzzer
fuzz_programs = \
	tests/fuzz/fuzz_http_headers \
	tests/fuzz/fuzz_dav_xml \
	tests/fuzz/fuzz_control \
	tests/fuzz/fuzz_ini
# (3) sources
tests_fuzz_replay_control_SOURCES = tests/fuzz/fuzz_control.c tests/fuzz/replay.c
tests_fuzz_replay_control_LDADD = $(SX_LIBS)
tests_fuzz_fuzz_control_SOURCES = tests/fuzz/fuzz_control.c
tests_fuzz_fuzz_control_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LINK)
tests_fuzz_fuzz_control_LDADD = $(SX_LIBS)
tests_fuzz_replay_ini_SOURCES = tests/fuzz/fuzz_ini.c tests/fuzz/replay.c
tests_fuzz_replay_ini_LDADD = $(SX_LIBS)
tests_fuzz_fuzz_ini_SOURCES = tests/fuzz/fuzz_ini.c
tests_fuzz_fuzz_ini_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LINK)
tests_fuzz_fuzz_ini_LDADD = $(SX_LIBS)
tests_fuzz_replay_dav_xml_SOURCES = tests/fuzz/fuzz_dav_xml.c tests/fuzz/replay.c
tests_fuzz_replay_dav_xml_LDADD = $(SX_LIBS)
tests_fuzz_fuzz_dav_xml_SOURCES = tests/fuzz/fuzz_dav_xml.c
tests_fuzz_fuzz_dav_xml_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LINK)
tests_fuzz_fuzz_dav_xml_LDADD = $(SX_LIBS)
tests_fuzz_replay_http_headers_SOURCES = tests/fuzz/fuzz_http_headers.c tests/fuzz/replay.c
tests_fuzz_replay_http_headers_LDADD = $(SX_LIBS)
tests_fuzz_fuzz_http_headers_SOURCES = tests/fuzz/fuzz_http_headers.c
tests_fuzz_fuzz_http_headers_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LINK)
tests_fuzz_fuzz_http_headers_LDADD = $(SX_LIBS)

check_PROGRAMS += $(fuzz_replays)
TESTS += $(fuzz_replays)
EXTRA_PROGRAMS = $(fuzz_programs)
EXTRA_DIST += tests/fuzz/README.md tests/fuzz/corpus

# libFuzzer is clang's, and the code must be compiled for it: a build of its own in fuzz-build.
FUZZ_CC = clang
FUZZ_SAN = address,undefined
FUZZ_SECONDS = 60
FUZZ_LINK = -fsanitize=fuzzer,$(FUZZ_SAN)
.PHONY: fuzz fuzz-run fuzz-programs
fuzz:
	@mkdir -p fuzz-build
	@cd fuzz-build && { test -e Makefile || $(abs_top_srcdir)/configure --quiet --enable-maintainer-mode CC='$(FUZZ_CC)' \
	  CFLAGS='-g -O1 -fsanitize=fuzzer-no-link,$(FUZZ_SAN) -fno-sanitize-recover=undefined'; }
	@$(MAKE) -C fuzz-build fuzz-programs
fuzz-programs: $(fuzz_programs)
# New inputs are collected in fuzz-build/corpus; what is worth keeping is copied to tests/fuzz/corpus by hand.
fuzz-run: fuzz
	@cd fuzz-build && $(AM_TESTS_ENVIRONMENT) for t in $(fuzz_programs); do \
	  name=$${t##*fuzz_}; mkdir -p corpus/$$name; \
	  $$t -max_total_time=$(FUZZ_SECONDS) -timeout=10 -rss_limit_mb=1024 corpus/$$name $(abs_top_srcdir)/tests/fuzz/corpus/$$name || exit 1; \
	done
clean-local:
	rm -rf fuzz-build
