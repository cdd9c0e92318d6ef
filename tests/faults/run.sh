#!/usr/bin/env bash
# The program under faults: all scripts of this folder, one after the other.
#
#   TUNAS=build/tunas tests/faults/run.sh [--short]
#
# results.txt is what the whole of it last said (a quarter of an hour on two cores). --short, for
# every change, takes half a minute of processor time and half of that in waiting. The last line adds
# up all; exit code 1 where a fault was not borne.
set -euo pipefail
cd "$(dirname "$0")"
calls=("kill.sh 100" "flip.sh 1000 20" "lost.sh" "disk.sh")
extent="all of it"
if [ "${1:-}" = --short ]; then
  calls=("kill.sh 3" "flip.sh 40 2" "lost.sh --short" "disk.sh")
  extent="short: 3 of 100 kills, 40 of 1000 bits, 2 of 20 fall-backs, rank 3 of ranks 0, 1 and 3"
fi
gpu="no GPU"
if nvidia-smi -L >/dev/null 2>&1; then gpu="a GPU, which is not used"; fi
echo "$(date -I), commit $(git rev-parse --short HEAD 2>/dev/null || echo unknown)," \
  "$(nproc) cores, $gpu; $extent"

passed=0 failed=0 skipped=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT
for call in "${calls[@]}"; do
  read -r -a words <<<"$call"
  status=0 started=$SECONDS
  "./${words[0]}" "${words[@]:1}" >"$log" || status=$?
  sed '$d' "$log"
  last=$(tail -n 1 "$log")
  if [[ $last =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed,\ ([0-9]+)\ skipped$ ]]; then
    passed=$((passed + BASH_REMATCH[1])) failed=$((failed + BASH_REMATCH[2]))
    skipped=$((skipped + BASH_REMATCH[3]))
    echo "$call: $last in $((SECONDS - started)) s"
  else
    if [ "$status" -eq 0 ]; then status=1; fi
    echo "$last"
  fi
  # It ended before it had counted, or counted nothing that failed.
  if [ "$status" -ne 0 ] && [[ ! $last =~ \ [1-9][0-9]*\ failed ]]; then
    failed=$((failed + 1))
    echo "FAILED: $call ended with code $status"
  fi
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
