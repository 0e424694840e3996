#!/bin/sh
# Makes ./configure.
set -e
cd "$(dirname "$0")"
exec autoreconf --install --force
