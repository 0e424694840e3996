libsyncox_a_SOURCES += \
	src/conf/conf.c src/conf/conf.h \
	src/conf/conf_i.h \
	src/conf/ini.c \
	src/conf/options.c \
	src/conf/sample.c
