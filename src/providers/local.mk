libsyncox_a_SOURCES += \
	src/providers/mem/mem.c src/providers/mem/store.c src/providers/mem/mem.h src/providers/mem/store_i.h
