TESTS += contrib/test-setup
EXTRA_DIST += contrib/setup contrib/test-setup .ci/run

# The systemd user unit, with the directory of the programs in it.
systemduserunitdir = @systemduserunitdir@
systemduserunit_DATA = contrib/syncoxfs.service
contrib/syncoxfs.service: contrib/syncoxfs.service.in
	@$(MKDIR_P) contrib && sed 's|[@]bindir@|$(bindir)|g' $(top_srcdir)/contrib/syncoxfs.service.in >$@.tmp && mv $@.tmp $@
# Completions, from the table of commands. All three shells look below $(datadir).
bashcompletiondir = $(datadir)/bash-completion/completions
bashcompletion_DATA = contrib/completions/syncox
zshcompletiondir = $(datadir)/zsh/site-functions
zshcompletion_DATA = contrib/completions/_syncox
fishcompletiondir = $(datadir)/fish/vendor_completions.d
fishcompletion_DATA = contrib/completions/syncox.fish
SX_COMPLETION = @$(MKDIR_P) contrib/completions && ./syncox --generate $(1)-completion >$@.tmp && mv $@.tmp $@
contrib/completions/syncox: syncox
	$(call SX_COMPLETION,bash)
contrib/completions/_syncox: syncox
	$(call SX_COMPLETION,zsh)
contrib/completions/syncox.fish: syncox
	$(call SX_COMPLETION,fish)
CLEANFILES += contrib/syncoxfs.service $(bashcompletion_DATA) $(zshcompletion_DATA) $(fishcompletion_DATA)
EXTRA_DIST += contrib/syncoxfs.service.in contrib/test-completion
TESTS += contrib/test-completion
