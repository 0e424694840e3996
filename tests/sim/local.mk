check_PROGRAMS += tests/sim/sim
TESTS += tests/sim/sim
tests_sim_sim_SOURCES = tests/sim/sim.c
tests_sim_sim_LDADD = $(SX_LIBS)
CHECK_LONG_TESTS += tests/sim/sim
