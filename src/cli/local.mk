cli_sources = \
	src/cli/client.c src/cli/client.h \
	src/cli/cmd_act.c \
	src/cli/cmd_events.c \
	src/cli/cmd_show.c src/cli/show.h \
	src/cli/commands.c src/cli/cli.h \
	src/cli/generate.c \
	src/cli/output.c src/cli/output.h \
	src/cli/paths.c
bin_PROGRAMS += syncox
syncox_SOURCES = $(cli_sources) src/cli/main.c
syncox_LDADD = $(SX_LIBS)
