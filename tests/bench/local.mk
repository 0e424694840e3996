noinst_PROGRAMS += tests/bench/tree_bench
tests_bench_tree_bench_SOURCES = tests/bench/tree_bench.c
tests_bench_tree_bench_LDADD = $(SX_LIBS)
noinst_PROGRAMS += tests/bench/cache_bench
tests_bench_cache_bench_SOURCES = tests/bench/cache_bench.c
tests_bench_cache_bench_LDADD = $(SX_LIBS)
