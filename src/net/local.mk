libsyncox_a_SOURCES += \
	src/net/exchange.c \
	src/net/headers.c \
	src/net/net.c src/net/net.h src/net/net_i.h \
	src/net/status.c
