# Scenarios on real mounts: `tests/mount/NAME.py CASE...` runs some of them. cli_*: syncox and syncoxfs as people type them.
mount_tests = tests/mount/semantics.py tests/mount/programs.py tests/mount/mounts.py tests/mount/bad_input \
	tests/mount/cli_commands tests/mount/cli_daemon
TESTS += $(mount_tests)
EXTRA_DIST += $(mount_tests) tests/mount/rig.py tests/mount/between.py tests/mount/cli_lib
