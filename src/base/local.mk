libsyncox_a_SOURCES += \
	src/base/clock.c src/base/clock.h \
	src/base/error.c src/base/error.h \
	src/base/events.c src/base/events.h \
	src/base/log.c src/base/log.h \
	src/base/path.c src/base/path.h \
	src/base/sys.c src/base/sys.h \
	src/base/tsan.c \
	src/base/units.c src/base/units.h
