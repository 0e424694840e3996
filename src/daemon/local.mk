libsyncox_a_SOURCES += \
	src/daemon/stack.c src/daemon/stack.h
