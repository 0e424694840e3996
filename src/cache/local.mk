libsyncox_a_SOURCES += \
	src/cache/cache.c src/cache/cache.h src/cache/cache_i.h \
	src/cache/content.c src/cache/content_io.c \
	src/cache/evict.c \
	src/cache/extents.c src/cache/extents_i.h \
	src/cache/open.c \
	src/cache/sweep.c
