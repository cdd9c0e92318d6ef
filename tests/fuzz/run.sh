#!/usr/bin/env bash
# Builds the fuzz targets and runs each for a while from its seeds, two at a time:
#
#   tests/fuzz/run.sh [SECONDS [TARGET...]]   default: 60 seconds, all targets
#
# What was found interesting stays in build-fuzz/corpus/TARGET and is the start of the next run. A
# crash, a hang (25 s) or 2 GB of memory end a target; its log and the input are named and the exit
# code is 1.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tools/packages.sh
packages+=(clang libclang-rt-14-dev)
install_packages
seconds=${1:-60} build=${TUNAS_FUZZ_BUILD:-build-fuzz}
shift || true
build "$build" fuzzers -- -DTUNAS_FUZZ=ON -DCMAKE_CXX_COMPILER=clang++ -DTUNAS_CUDA=OFF \
  -DTUNAS_ONEDNN=OFF
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
  for source in tests/fuzz/*_fuzz.cpp; do targets+=("$(basename "$source" _fuzz.cpp)"); done
fi

# fuzz TARGET: leaves its log and, where it failed, the input in $build/found.
fuzz() {
  local name=$1 log=$build/$1_fuzz.log dictionary=()
  mkdir -p "$build/corpus/$name" "$build/found"
  [ -f "tests/fuzz/$name.dict" ] && dictionary=(-dict="tests/fuzz/$name.dict")
  UBSAN_OPTIONS=print_stacktrace=1 "$build/tests/fuzz/${name}_fuzz" -max_total_time="$seconds" \
    -timeout=25 -rss_limit_mb=2048 -max_len=65536 -artifact_prefix="$build/found/$name-" \
    "${dictionary[@]}" "$build/corpus/$name" "tests/fuzz/corpus/$name" >"$log" 2>&1 && {
    echo "$name: $(grep -oE 'Done [0-9]+ runs in [0-9]+ second' "$log")s," \
      "$(grep -oE 'cov: [0-9]+' "$log" | tail -n 1), corpus $(find "$build/corpus/$name" -type f | wc -l)"
    return
  }
  echo "$name FAILED, the log is $log:"
  grep -E '^(==[0-9]+==)?(ERROR|SUMMARY)|runtime error|expected: |Test unit written' "$log" || tail -n 20 "$log"
  return 1
}
export -f fuzz
export seconds build
printf '%s\n' "${targets[@]}" | xargs -P2 -I{} bash -c 'fuzz {}' || exit 1
