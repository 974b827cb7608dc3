#!/bin/sh
# Builds a TensorRT engine of a Sortal classifier on an NVIDIA Jetson and measures its frames per second there.
#
#   sh classify.sh ARTIFACT [FOLDER]
#
# ARTIFACT is the folder of the artifact `tensorrt`, copied to the board (`sortal export RUN --to tensorrt`); FOLDER
# receives model.plan, trtexec.log and result.json (default: the current one). Nothing but JetPack is needed: trtexec
# builds and measures. JetPack 5 (AGX Xavier, TensorRT 8.5) has no `--stronglyTyped` and is told `--fp16`.
#
# Environment: BATCH (1), FPS_GOAL (30), SECONDS_MEASURED (10), ROOT (prefix of /etc and /usr, for tests).
# Exit: 0 measured and the goal reached, 1 measured and missed, 2 wrong input, 3 not measured (no Jetson, no TensorRT,
# or it failed); result.json says which.
#
# The number is that of the network alone, with one stream and the copies to and from the GPU; decoding and resizing
# come on top. Where Python 3.11 and sortal are on the board too, `sortal benchmark` measures all of it.
set -u

artifact=${1:-}
folder=${2:-.}
batch=${BATCH:-1}
goal=${FPS_GOAL:-30}
seconds=${SECONDS_MEASURED:-10}
root=${ROOT:-}

if [ -z "$artifact" ] || [ ! -f "$artifact/model.onnx" ]; then
    echo "error: no model.onnx in '${artifact}'; usage: sh classify.sh ARTIFACT [FOLDER]" >&2
    exit 2
fi
mkdir -p "$folder" || exit 2

# result REASON FPS: writes result.json; FPS is a number, or empty where nothing was measured
result() {
    fps=${2:-'"not measured"'}
    reached=null
    [ -n "${2:-}" ] && reached=$(awk "BEGIN { print ($2 >= $goal) ? \"true\" : \"false\" }")
    printf '{"board": "%s", "l4t": "%s", "tensorrt": "%s", "batch": %s, "fps": %s, "goal": %s, "reached": %s, "reason": "%s"}\n' \
        "$board" "$l4t" "$version" "$batch" "$fps" "$goal" "$reached" "$1" >"$folder/result.json"
    cat "$folder/result.json"
}

board=unknown
l4t=unknown
version=unknown
if [ ! -f "$root/etc/nv_tegra_release" ]; then
    result "this is no Jetson"
    exit 3
fi
[ -r "$root/proc/device-tree/model" ] && board=$(tr -d '\000' <"$root/proc/device-tree/model")
l4t=$(sed -n 's/^# R\([0-9]*\) (release), REVISION: \([0-9.]*\).*/\1.\2/p' "$root/etc/nv_tegra_release" | head -n 1)

trtexec=$root/usr/src/tensorrt/bin/trtexec
[ -x "$trtexec" ] || trtexec=$(command -v trtexec || true)
if [ -z "$trtexec" ]; then
    result "trtexec was not found; install the packages of JetPack (sudo apt install nvidia-jetpack)"
    exit 3
fi
# The banner says `[TensorRT v8502]` (8.5.2) or `[TensorRT v100300]` (10.3.0).
digits=$("$trtexec" --help 2>&1 | sed -n 's/.*\[TensorRT v\([0-9]*\)\].*/\1/p' | head -n 1)
case ${#digits} in
4) version=$(echo "$digits" | sed 's/\(.\)\(.\)\(..\)/\1.\2.\3/;s/\.0/./g') ;;
6) version=$(echo "$digits" | sed 's/\(..\)\(..\)\(..\)/\1.\2.\3/;s/\.0/./g') ;;
esac
case $version in
8.* | 9.*) precision=--fp16 ;;
*) precision=--stronglyTyped ;;
esac

# The shapes of the profile stand in the artifact's own line.
shapes=$(grep -o -- '--[a-z]*Shapes=[^ ]*' "$artifact/build.sh" | tr '\n' ' ')
size=$(echo "$shapes" | sed -n 's/.*--optShapes=image:[0-9]*x\([0-9x]*\).*/\1/p')
given=${size:+--shapes=image:${batch}x$size}
# One call builds and measures: the flag that leaves measuring out has another name in each generation.
# shellcheck disable=SC2086  # several words are meant
if ! "$trtexec" --onnx="$artifact/model.onnx" --saveEngine="$folder/model.plan" $precision $shapes $given \
    --timingCacheFile="$folder/timing.cache" --duration="$seconds" --warmUp=1000 --useSpinWait \
    >"$folder/trtexec.log" 2>&1; then
    result "trtexec failed, see trtexec.log"
    exit 3
fi
calls=$(sed -n 's/.*Throughput: \([0-9.]*\) qps.*/\1/p' "$folder/trtexec.log" | tail -n 1)
if [ -z "$calls" ]; then
    result "trtexec said no throughput, see trtexec.log"
    exit 3
fi
fps=$(awk "BEGIN { printf \"%.1f\", $calls * $batch }")
result "measured by trtexec" "$fps"
grep -q '"reached": true' "$folder/result.json"
