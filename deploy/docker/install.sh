#!/bin/sh
# Installs Sortal for serving, without anything that trains, into a virtual environment of its own. The image does this,
# and a machine without containers can: see docs/deploy.md.
#
#   sh install.sh SOURCE TARGET        e.g.  sh deploy/docker/install.sh . /opt/sortal
#
# Every package is the one of requirements.txt, by its hash, and none is built here but Sortal. PYTHON names another
# interpreter than python3 (3.11 or newer).
set -eu
umask 022 # who serves is not who installs
if [ $# -ne 2 ] || [ ! -f "$1/pyproject.toml" ]; then
    echo "usage: sh install.sh SOURCE TARGET   (SOURCE has a pyproject.toml)" >&2
    exit 2
fi
source=$1
target=$2
here=$(dirname "$0")
python=${PYTHON:-python3}
export PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/venv"
pip="$work/venv/bin/python -m pip"
$pip install --quiet --require-hashes --only-binary :all: -r "$here/build-requirements.txt"
$pip wheel --quiet --no-deps --no-build-isolation --wheel-dir "$work" "$source"

"$python" -m venv --without-pip "$target" # what runs cannot install
$pip --python "$target/bin/python" install --quiet --require-hashes --only-binary :all: -r "$here/requirements.txt"
$pip --python "$target/bin/python" install --quiet --no-deps --no-index "$work"/sortal-*.whl
"$target/bin/sortal" --version
