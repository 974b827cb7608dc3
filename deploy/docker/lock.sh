#!/bin/sh
# Writes the two lists of packages, exact and with hashes, that install.sh installs: what serving needs, and what builds
# Sortal itself. Run it after pyproject.toml or requirements.lock changed. Needs uv.
#
#   sh deploy/docker/lock.sh
set -eu
cd "$(dirname "$0")/../.."
lock() { # OUT, words for uv ...
    out=deploy/docker/$1
    shift
    { echo "# Made by deploy/docker/lock.sh; do not edit."
      uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
          --no-emit-index-url --no-emit-find-links "$@"; } >"$out.new"
    mv "$out.new" "$out"
}
lock requirements.txt pyproject.toml --extra serve --extra openvino --extra trace --constraints requirements.lock
echo "hatchling>=1.27" | lock build-requirements.txt -
