libsyncox_a_SOURCES += \
	src/transfer/changes.c \
	src/transfer/copy.c \
	src/transfer/download.c \
	src/transfer/health.c \
	src/transfer/lane.c \
	src/transfer/look.c \
	src/transfer/plan.c src/transfer/plan.h \
	src/transfer/remote.c \
	src/transfer/schedule.c \
	src/transfer/transfer.c src/transfer/transfer.h src/transfer/transfer_i.h \
	src/transfer/upload.c
