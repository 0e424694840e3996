# Random operations over Apache, kill -9 and cuts, against a model. check-long: 20 seeds.
TESTS += tests/crash/crash.py
CHECK_LONG_TESTS += tests/crash/crash.py
# Two parties: programs on the mount, others on the server. Run by hand: some seeds still show losses.
EXTRA_DIST += tests/crash/others.py
