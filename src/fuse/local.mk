libsyncox_a_SOURCES += \
	src/fuse/files.c \
	src/fuse/fuse.c src/fuse/fuse.h src/fuse/fuse_i.h \
	src/fuse/io.c \
	src/fuse/notify.c \
	src/fuse/ops.c
