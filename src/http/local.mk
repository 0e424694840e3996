libsyncox_a_SOURCES += \
	src/http/api.c src/http/api_i.h src/http/http.h \
	src/http/api_actions.c \
	src/http/api_docs.c \
	src/http/doctor.c \
	src/http/json.c \
	src/http/server.c \
	src/http/socket.c
