libsyncox_a_SOURCES += \
	src/crypto/digest.c src/crypto/digest.h
