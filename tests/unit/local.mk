# One line a test program: its name in unit_tests, its source is tests/unit/NAME.c (cmocka).
if HAVE_CMOCKA
unit_tests = \
	tests/unit/test_acl \
	tests/unit/test_webdav \
	tests/unit/test_net \
	tests/unit/test_local \
	tests/unit/test_local_crash \
	tests/unit/test_watch \
	tests/unit/test_transfer \
	tests/unit/test_fetch \
	tests/unit/test_tree \
	tests/unit/test_tree_model \
	tests/unit/test_tree_fault \
	tests/unit/test_db \
	tests/unit/test_tree_remote \
	tests/unit/test_tree_target \
	tests/unit/test_base \
	tests/unit/test_cache \
	tests/unit/test_cache_budget \
	tests/unit/test_cache_model \
	tests/unit/test_cache_store \
	tests/unit/test_cache_threads \
	tests/unit/test_cli \
	tests/unit/test_conf \
	tests/unit/test_daemon \
	tests/unit/test_http \
	tests/unit/test_digest \
	tests/unit/test_keyring \
	tests/unit/test_secret \
	tests/unit/test_sys \
	tests/unit/test_events \
	tests/unit/test_plan \
	tests/unit/test_provider \
	tests/unit/test_units
check_PROGRAMS += $(unit_tests)
TESTS += $(unit_tests)
endif
SX_TEST_LIBS = $(SX_LIBS) $(CMOCKA_LIBS)
tests_unit_test_acl_SOURCES = tests/unit/test_acl.c
tests_unit_test_acl_LDADD = $(SX_TEST_LIBS)
tests_unit_test_base_SOURCES = tests/unit/test_base.c
tests_unit_test_base_LDADD = $(SX_TEST_LIBS)
tests_unit_test_conf_SOURCES = tests/unit/test_conf.c
tests_unit_test_conf_LDADD = $(SX_TEST_LIBS)
tests_unit_test_digest_SOURCES = tests/unit/test_digest.c
tests_unit_test_digest_LDADD = $(SX_TEST_LIBS)
tests_unit_test_keyring_SOURCES = tests/unit/test_keyring.c
tests_unit_test_keyring_LDADD = $(SX_TEST_LIBS)
tests_unit_test_secret_SOURCES = tests/unit/test_secret.c
tests_unit_test_secret_LDADD = $(SX_TEST_LIBS)
tests_unit_test_sys_SOURCES = tests/unit/test_sys.c
tests_unit_test_sys_LDADD = $(SX_TEST_LIBS)
tests_unit_test_events_SOURCES = tests/unit/test_events.c
tests_unit_test_events_LDADD = $(SX_TEST_LIBS)
tests_unit_test_units_SOURCES = tests/unit/test_units.c
tests_unit_test_units_LDADD = $(SX_TEST_LIBS)
tests_unit_test_plan_SOURCES = tests/unit/test_plan.c
tests_unit_test_plan_LDADD = $(SX_TEST_LIBS)
tests_unit_test_provider_SOURCES = tests/unit/test_provider.c
tests_unit_test_provider_LDADD = $(SX_TEST_LIBS)
tests_unit_test_tree_SOURCES = tests/unit/test_tree.c tests/unit/tree_fixture.h
tests_unit_test_tree_LDADD = $(SX_TEST_LIBS)
tests_unit_test_cache_SOURCES = tests/unit/test_cache.c $(cache_env)
tests_unit_test_cache_LDADD = $(SX_TEST_LIBS)
tests_unit_test_cache_model_SOURCES = tests/unit/test_cache_model.c $(cache_env)
tests_unit_test_cache_model_LDADD = $(SX_TEST_LIBS)
tests_unit_test_cache_budget_SOURCES = tests/unit/test_cache_budget.c $(cache_env)
tests_unit_test_cache_budget_LDADD = $(SX_TEST_LIBS)
tests_unit_test_cache_threads_SOURCES = tests/unit/test_cache_threads.c $(cache_env)
tests_unit_test_cache_threads_LDADD = $(SX_TEST_LIBS)
tests_unit_test_cache_store_SOURCES = tests/unit/test_cache_store.c tests/unit/tree_fixture.h
tests_unit_test_cache_store_LDADD = $(SX_TEST_LIBS)
cache_env = tests/unit/test_cache_env.c tests/unit/test_cache_env.h tests/unit/test_cache_tree.c tests/unit/test_cache_tree.h
tests_unit_test_daemon_SOURCES = tests/unit/test_daemon.c
tests_unit_test_daemon_LDADD = $(SX_TEST_LIBS)
tests_unit_test_tree_remote_SOURCES = tests/unit/test_tree_remote.c tests/unit/tree_fixture.h
tests_unit_test_tree_remote_LDADD = $(SX_TEST_LIBS)
tests_unit_test_http_SOURCES = tests/unit/test_http.c src/cli/client.c
tests_unit_test_http_LDADD = $(SX_TEST_LIBS)
tests_unit_test_watch_SOURCES = tests/unit/test_watch.c
tests_unit_test_watch_LDADD = $(SX_TEST_LIBS)
local_fixture = tests/unit/local_fixture.c tests/unit/local_fixture.h
tests_unit_test_local_crash_SOURCES = tests/unit/test_local_crash.c $(local_fixture)
tests_unit_test_local_crash_LDADD = $(SX_TEST_LIBS)
tests_unit_test_local_SOURCES = tests/unit/test_local.c $(local_fixture)
tests_unit_test_local_LDADD = $(SX_TEST_LIBS)
tests_unit_test_db_SOURCES = tests/unit/test_db.c
tests_unit_test_db_LDADD = $(SX_TEST_LIBS)
tests_unit_test_tree_fault_SOURCES = tests/unit/test_tree_fault.c tests/unit/tree_fixture.h tests/unit/fault_vfs.h
tests_unit_test_tree_fault_LDADD = $(SX_TEST_LIBS)
tests_unit_test_cli_SOURCES = tests/unit/test_cli.c $(cli_sources)
tests_unit_test_cli_LDADD = $(SX_TEST_LIBS)
tests_unit_test_tree_model_SOURCES = tests/unit/test_tree_model.c tests/unit/tree_fixture.h
tests_unit_test_tree_model_LDADD = $(SX_TEST_LIBS)

tests_unit_test_tree_target_SOURCES = tests/unit/test_tree_target.c tests/unit/tree_fixture.h
tests_unit_test_tree_target_LDADD = $(SX_TEST_LIBS)
tests_unit_test_transfer_SOURCES = tests/unit/test_transfer.c tests/unit/transfer_fixture.h
tests_unit_test_fetch_SOURCES = tests/unit/test_fetch.c tests/unit/transfer_fixture.h
tests_unit_test_fetch_LDADD = $(SX_TEST_LIBS)
tests_unit_test_transfer_LDADD = $(SX_TEST_LIBS)
tests_unit_test_net_SOURCES = tests/unit/test_net.c
tests_unit_test_net_LDADD = $(SX_TEST_LIBS)
tests_unit_test_webdav_SOURCES = tests/unit/test_webdav.c
tests_unit_test_webdav_LDADD = $(SX_TEST_LIBS)
