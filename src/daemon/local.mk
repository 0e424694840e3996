libsyncox_a_SOURCES += \
	src/daemon/args.c src/daemon/args.h \
	src/daemon/background.c src/daemon/background.h \
	src/daemon/notify_desktop.c src/daemon/notify_desktop.h \
	src/daemon/place.c src/daemon/place.h \
	src/daemon/stack.c src/daemon/stack.h
bin_PROGRAMS += syncoxfs
syncoxfs_SOURCES = src/daemon/main.c
syncoxfs_LDADD = $(SX_LIBS)
