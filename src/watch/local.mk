libsyncox_a_SOURCES += \
	src/watch/watch.c src/watch/watch.h
