#!/bin/sh
# Builds the image `sortal` (or the name that is given) from this source.
#
#   sh deploy/docker/build.sh [NAME]
#
# The base is the one that deploy/docker/base names, by its digest. Where that file is missing it is made: the newest
# image of python:3.12-slim-bookworm is fetched and its digest written down; keep the file with your own changes, and remove
# it to move to a newer base. None is shipped, since a digest that nobody looked at on the day is worse than none.
set -eu
cd "$(dirname "$0")/../.."
name=${1:-sortal}
engine=${ENGINE:-docker}
file=deploy/docker/base
if [ ! -f "$file" ]; then
    tag=python:3.12-slim-bookworm
    "$engine" pull "$tag"
    found=$("$engine" image inspect --format '{{index .RepoDigests 0}}' "$tag")
    case $found in
    *@sha256:*) echo "$tag@${found#*@}" >"$file" ;;
    *) echo "error: $tag has no digest: '$found'" >&2 && exit 3 ;;
    esac
fi
"$engine" build --build-arg "BASE=$(cat "$file")" --file deploy/docker/Dockerfile --tag "$name" .
