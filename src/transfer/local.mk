libsyncox_a_SOURCES += \
	src/transfer/plan.c src/transfer/plan.h \
	src/transfer/transfer.h
