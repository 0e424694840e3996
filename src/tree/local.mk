libsyncox_a_SOURCES += \
	src/tree/tree.c src/tree/tree.h src/tree/tree_i.h \
	src/tree/row.c src/tree/look.c \
	src/tree/local.c src/tree/rename.c src/tree/attr.c \
	src/tree/pending.c src/tree/check.c \
	src/tree/xattr.c src/tree/pin.c src/tree/paths.c src/tree/work.c \
	src/tree/change.c src/tree/remote.c src/tree/result.c src/tree/conflict.c \
	src/tree/listing.c src/tree/object.c
EXTRA_DIST += src/tree/schema.sql
BUILT_SOURCES += src/tree/schema.inc
CLEANFILES += src/tree/schema.inc
src/tree/schema.inc: $(top_srcdir)/src/tree/schema.sql
	@$(MKDIR_P) src/tree
	$(AM_V_GEN)sed -e 's/--.*//' -e 's/[\\"]/\\&/g' -e 's/^\(.*\)$$/"\1\\n"/' $(top_srcdir)/src/tree/schema.sql > $@.tmp && mv $@.tmp $@
src/tree/tree.$(OBJEXT): src/tree/schema.inc
