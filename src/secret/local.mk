libsyncox_a_SOURCES += \
	src/secret/secret.c src/secret/secret.h \
	src/secret/secret_i.h
