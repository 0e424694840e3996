libsyncox_a_SOURCES += \
	src/providers/local/fs.c src/providers/local/local.c src/providers/local/names.c src/providers/local/temp.c \
	src/providers/local/write.c src/providers/local/local_i.h \
	src/providers/mem/mem.c src/providers/mem/store.c src/providers/mem/mem.h src/providers/mem/store_i.h
libsyncox_a_SOURCES += \
	src/providers/webdav/change.c src/providers/webdav/chunks.c src/providers/webdav/find.c \
	src/providers/webdav/flavours.c src/providers/webdav/names.c src/providers/webdav/probe.c \
	src/providers/webdav/read.c src/providers/webdav/webdav.c src/providers/webdav/webdav_i.h \
	src/providers/webdav/write.c src/providers/webdav/xml.c
