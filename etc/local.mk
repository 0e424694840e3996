# Made by: syncoxfs --generate sample >etc/syncoxfs.conf.sample (man/check compares).
dist_doc_DATA = etc/syncoxfs.conf.sample
