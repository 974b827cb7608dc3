#!/usr/bin/env bash
# Makes a virtual environment with everything that the demo and the tests need, and one each below it for programs of others. Used by `make setup`.
# System programs come from apt when this runs as root; otherwise it says what to install. With CI=true a missing one is a failure.
set -euo pipefail
venv=${1:-.venv}
python=${PYTHON:-python3}
packages=()

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "setup: Python 3.11 or newer is needed, found $("$python" --version)" >&2; exit 3; }
"$python" -c 'import ensurepip, venv' 2>/dev/null || packages+=(python3-venv)
command -v strace >/dev/null || packages+=(strace)
command -v chromium >/dev/null || packages+=(chromium)
if [ "${CI:-}" = true ]; then # what only tests of deployment and of clocks run; elsewhere those tests are skipped and say what to install
  command -v promtool >/dev/null || packages+=(prometheus)
  command -v amtool >/dev/null || packages+=(prometheus-alertmanager)
  [ -x /usr/sbin/nginx ] || packages+=(nginx-light)
  ls /usr/lib/*/faketime/libfaketimeMT.so.1 >/dev/null 2>&1 || packages+=(libfaketime)
fi
if ! ls /usr/share/fonts/truetype/wqy /usr/share/fonts/opentype/noto >/dev/null 2>&1; then packages+=(fonts-wqy-microhei); fi

if [ ${#packages[@]} -gt 0 ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "setup: installing ${packages[*]}"
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
  else
    echo "setup: please install: ${packages[*]}   (for example: sudo apt-get install ${packages[*]})" >&2
    [ "${CI:-}" = true ] && exit 3
    case " ${packages[*]} " in *" python3-venv "*) exit 3 ;; esac
  fi
fi

[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check uv==0.13.9
"$venv/bin/uv" pip install --quiet --compile-bytecode --python "$venv/bin/python" -r requirements.lock
"$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --no-deps -e .
# Programs that Sortal calls or is tested with, and never imports, have environments of their own that keep their packages out of ours:
# DVC, the clients that other servers' users have, and a generator of odd requests.
program() { # FOLDER, the file that shows that it is there, packages ...
  local folder="$venv/programs/$1" shown="$2"
  shift 2
  [ -e "$folder/bin/$shown" ] && return
  { "$venv/bin/uv" venv --quiet --python "$venv/bin/python" "$folder" && "$venv/bin/uv" pip install --quiet --python "$folder/bin/python" "$@"; } ||
    { rm -rf "$folder"; echo "setup: $* was not installed, so its tests are skipped" >&2; [ "${CI:-}" != true ]; }
}
command -v dvc >/dev/null || program dvc dvc dvc==3.67.1
program triton python 'tritonclient[http,grpc]==2.73.0'
program schemathesis schemathesis schemathesis==4.32.5
echo "setup: ready in $venv"
