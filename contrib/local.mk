TESTS += contrib/test-setup
EXTRA_DIST += contrib/setup contrib/test-setup .ci/run
