#!/usr/bin/env bash
# All tests, twice: as released, and under AddressSanitizer and UndefinedBehaviorSanitizer. Ends
# with `N passed, M failed, K skipped` over both; fails on M > 0, and on K above tests/skips.txt or,
# where the shared test data are there, above 0.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/packages.sh
install_packages

suites=(kernels_tests engine_tests search_tests data_tests tools_tests)
build build tunas "${suites[@]}"
build build-asan tunas "${suites[@]}" -- -DTUNAS_SANITIZE=ON -DTUNAS_BENCH=OFF \
  -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS_DEBUG="-O1 -g1"
export UBSAN_OPTIONS=print_stacktrace=1

passed=0 failed=0 skipped=0
# count PATTERN LOG: lines of GoogleTest's output.
count() { grep -cE "$1" "$2" || true; }

for folder in build build-asan; do
  for suite in "${suites[@]}"; do
    log=$folder/$suite.log
    status=0
    started=$SECONDS
    "$folder/$suite" --gtest_color=no >"$log" 2>&1 || status=$?
    ok=$(count '^\[       OK \] ' "$log")
    bad=$(count '^\[  FAILED  \] .* \([0-9]+ ms\)$' "$log")
    skip=$(count '^\[  SKIPPED \] .* \([0-9]+ ms\)$' "$log")
    # A crash ends the suite in the middle of a test, which then has no result line; a suite that
    # runs nothing is no success either.
    if [ "$status" -ne 0 ] && [ "$bad" -eq 0 ]; then bad=1; fi
    if [ $((ok + bad + skip)) -eq 0 ]; then bad=1; fi
    echo "$folder/$suite: $ok passed, $bad failed, $skip skipped in $((SECONDS - started)) s"
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
  done
done

# Without the images beside the tree (TUNAS_SHARED), 3 tests are skipped in each build.
allowed=$(cat tests/skips.txt)
if [ -d "${TUNAS_SHARED:-../shared}" ]; then allowed=0; fi
if [ "$skipped" -gt "$allowed" ]; then echo "More than the $allowed skips allowed here."; fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ "$skipped" -le "$allowed" ]
