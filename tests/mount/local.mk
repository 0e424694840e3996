# syncox and syncoxfs as people type them
TESTS += tests/mount/cli_commands tests/mount/cli_daemon
EXTRA_DIST += tests/mount/cli_commands tests/mount/cli_daemon tests/mount/cli_lib
