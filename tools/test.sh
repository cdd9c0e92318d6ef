#!/usr/bin/env bash
# All tests, twice: as released, and under AddressSanitizer and UndefinedBehaviorSanitizer. The CUDA
# kernels run on the CPU (tests/emulation), once with every access observed and once under the
# sanitizers; where nvcc is found they are compiled too, and their registers and spills are held to
# their budgets. Ends with `N passed, M failed, K skipped` over all; fails on M > 0, and on K above
# what tests/skips.txt allows.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/packages.sh
packages+=(ccache)
install_packages

sanitized=(-DTUNAS_SANITIZE=ON -DTUNAS_BENCH=OFF -DCMAKE_BUILD_TYPE=Debug
  -DCMAKE_CXX_FLAGS_DEBUG="-O1 -g1")
suites=(tools_tests search_tests engine_tests data_tests kernels_tests)
build build tunas "${suites[@]}"
build build-asan tunas "${suites[@]}" -- -DTUNAS_CUDA=OFF "${sanitized[@]}"
build build-emulated cuda_tests -- -DTUNAS_CUDA=EMULATED -DTUNAS_BENCH=OFF
build build-emulated-asan cuda_tests -- -DTUNAS_CUDA=EMULATED "${sanitized[@]}"
export UBSAN_OPTIONS=print_stacktrace=1

passed=0 failed=0 skipped=0
# count PATTERN LOG: lines of GoogleTest's output.
count() { grep -cE "$1" "$2" || true; }

# run FOLDER SUITE: leaves FOLDER/SUITE.log, its status and the seconds it took. What it writes lies in
# a folder of its own: the suite of another build may run beside it.
run() {
  local status=0 started=$SECONDS own
  own=$(mktemp -d)
  TMPDIR=$own TEST_TMPDIR=$own/ "$1/$2" --gtest_color=no >"$1/$2.log" 2>&1 || status=$?
  rm -rf "$own"
  echo "$status $((SECONDS - started))" >"$1/$2.status"
  echo "$1/$2 ended after $((SECONDS - started)) s"
}
export -f run

# tally FOLDER SUITE: adds up what run() left.
tally() {
  local folder=$1 suite=$2 log=$1/$2.log status seconds ok bad skip
  read -r status seconds <"$folder/$suite.status"
  ok=$(count '^\[       OK \] ' "$log")
  bad=$(count '^\[  FAILED  \] .* \([0-9]+ ms\)$' "$log")
  skip=$(count '^\[  SKIPPED \] .* \([0-9]+ ms\)$' "$log")
  # A crash ends the suite in the middle of a test, which then has no result line; a suite that
  # runs nothing is no success either.
  if [ "$status" -ne 0 ] && [ "$bad" -eq 0 ]; then bad=1; fi
  if [ $((ok + bad + skip)) -eq 0 ]; then bad=1; fi
  echo "$folder/$suite: $ok passed, $bad failed, $skip skipped in $seconds s"
  if [ "$bad" -gt 0 ]; then
    grep -E '^\[  FAILED  \] |: Failure$|ERROR: AddressSanitizer|runtime error' "$log" | sort -u || true
    echo "... the whole output is in $log; its end:"
    tail -n 30 "$log"
  fi
  # GoogleTest prints "file:line: Skipped", the reason, and then the test's name.
  awk '/: Skipped$/ {reason = ""; reading = 1; next}
       /^\[  SKIPPED \] .* ms\)$/ {sub(/ \([0-9]+ ms\)$/, ""); print $0 ":" reason; reading = 0}
       reading {reason = reason " " $0}' "$log"
  passed=$((passed + ok)) failed=$((failed + bad)) skipped=$((skipped + skip))
}

# Many tests leave a core idle: as many suites at a time as there are cores, the long ones first.
runs=("build-emulated cuda_tests" "build-emulated-asan cuda_tests")
for folder in build-asan build; do
  for suite in "${suites[@]}"; do runs+=("$folder $suite"); done
done
printf '%s\n' "${runs[@]}" | xargs -P "$(nproc)" -L1 bash -c 'run "$0" "$1"'
for suite in "${runs[@]}"; do tally "${suite% *}" "${suite#* }"; done

if ! grep -q '^TUNAS_NVCC:.*-NOTFOUND$' build/CMakeCache.txt; then
  if nvidia-smi -L >/dev/null 2>&1; then
    build build cuda_tests
    run build cuda_tests
    tally build cuda_tests
  else
    echo "build/cuda_tests: not run, no GPU here; tools/validate_gpu.sh runs it on one"
  fi
  if [ -x tests/budgets/check.sh ] && ! tests/budgets/check.sh build; then
    failed=$((failed + 1))
  fi
fi

# Lines "always N reason" and "without-... N reason": without-data counts only where the test data
# beside the tree (TUNAS_SHARED) are not there, without-onnx only where no Python with ONNX Runtime
# was named (ONNX_PYTHON; .ci/run makes one), without-torch only where Debian's Python has no
# PyTorch (.ci/run installs it).
torch=$(/usr/bin/python3 -c 'import importlib.util as u
if u.find_spec("torch") and u.find_spec("torchvision"): print("yes")' 2>/dev/null) || torch=
allowed=$(awk -v data="$([ -d "${TUNAS_SHARED:-../shared}" ] && echo yes)" \
  -v onnx="${ONNX_PYTHON:-}" -v torch="$torch" '
  $1 == "always" || ($1 == "without-data" && !data) || ($1 == "without-onnx" && !onnx) ||
    ($1 == "without-torch" && !torch) {n += $2}
  END {print n + 0}' tests/skips.txt)
if [ "$skipped" -gt "$allowed" ]; then echo "More than the $allowed skips allowed here."; fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ "$skipped" -le "$allowed" ]
