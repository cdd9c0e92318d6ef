#!/usr/bin/env bash
# From a fresh clone to a found architecture: installs packages, builds, searches on Fashion-MNIST,
# shows what was found, trains it and scores it on the test images. May be run again at any time.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/packages.sh
install_packages
build build tunas

# The numbers of this tour, all in one place: at most ten minutes on two cores.
search=(--width 0.25 --resolution 32 --small-images --steps 400 --cost macs --target 2e6)
train=(--steps 400)

tunas=build/tunas
runs=runs/quickstart
common=(--data fashion-mnist --overwrite)

echo "Searching: progress below, everything else in $runs/search"
$tunas search --space mobilenet_v3_like_search "${search[@]}" "${common[@]}" --out $runs/search
echo
$tunas arch show --file $runs/search/arch.json
echo
echo "Training what was found: $runs/train"
$tunas train --arch $runs/search/arch.json "${train[@]}" "${common[@]}" --out $runs/train
echo
echo "Test images, never seen before:"
$tunas eval --arch $runs/train/arch.json --weights $runs/train/weights.safetensors \
  --data fashion-mnist
