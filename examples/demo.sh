#!/usr/bin/env bash
# The main job end to end on images that are drawn here: train, evaluate on new images, predict, say where to look.
# Usage: examples/demo.sh path/to/sortal [folder]     (default folder: demo)
set -euo pipefail
sortal=$1
here=${2:-demo}

if [ ! -e "$here/parts/synth.json" ]; then
  echo "1/4  Drawing 1,200 pictures of 12 kinds of mechanical parts, and 240 new ones for later"
  "$sortal" synth "$here/parts" --classes 12 --images 1200 --seed 1
  "$sortal" synth "$here/new" --classes 12 --images 240 --seed 2
fi

echo "2/4  Training a small network from scratch and testing it on pictures it has not seen"
"$sortal" train "$here/parts" --recipe recipes/demo.yaml --out "$here/runs"
run=$(ls -td "$here"/runs/parts-* | head -1)

echo "3/4  Measuring the classifier on the new pictures"
"$sortal" evaluate "$run" "$here/new"

echo "4/4  Answering for each picture of a folder"
"$sortal" predict "$run" "$here/new" --out "$here/predictions.csv" --sort-into "$here/sorted-$(basename "$run")"

cat <<EOF

What happened: $sortal drew pictures, learned 12 classes from 70 % of the first folder, chose its best epoch on 15 %, and was measured on the
remaining 15 % and on a second folder that it never saw. The numbers above carry 95 % intervals.

Look at:   $run/report.html              the report, in a browser
           $run/confusion_matrix.png     which classes are confused
           $run/val_predictions.jpg      pictures with answers
           $here/predictions.csv         one row a picture

Type next: $sortal train path/to/your/photos/        one folder a class
           $sortal show $run
           $sortal --help
EOF
