libsyncox_a_SOURCES += \
	src/provider/provider.h src/provider/provider_i.h \
	src/provider/call.c src/provider/fault.c src/provider/limit.c src/provider/instance.c src/provider/registry.c src/provider/remote.c
