libsyncox_a_SOURCES += \
	src/vfs/acl.c \
	src/vfs/attributes.c \
	src/vfs/file.c \
	src/vfs/node.c \
	src/vfs/status.c \
	src/vfs/vfs.c src/vfs/vfs.h src/vfs/vfs_i.h \
	src/vfs/virtual.c
