# Two pages have lists that the programs make from their tables.
dist_man_MANS += man/syncoxfs.1 man/syncoxfs-attributes.7
man_MANS = man/syncox.1 man/syncoxfs.conf.5
EXTRA_DIST += man/syncox.1.in man/syncoxfs.conf.5.in man/check
CLEANFILES += man/syncox.1 man/syncoxfs.conf.5
# $(1): the page, $(2): the word of its list
SX_MAN = @$(MKDIR_P) man && ./$(2) --generate man >man/$(1).list && \
	sed -e '/^@[A-Z]*@$$/{r man/$(1).list' -e 'd;}' -e 's|[@]docdir@|$(docdir)|' $(top_srcdir)/man/$(1).in >man/$(1).tmp && \
	rm man/$(1).list && mv man/$(1).tmp man/$(1)
man/syncox.1: man/syncox.1.in syncox
	$(call SX_MAN,syncox.1,syncox)
man/syncoxfs.conf.5: man/syncoxfs.conf.5.in syncoxfs
	$(call SX_MAN,syncoxfs.conf.5,syncoxfs)
TESTS += man/check
