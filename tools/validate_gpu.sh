#!/usr/bin/env bash
# Does this GPU give what it should? Tests of the CUDA kernels, compute-sanitizer on small sizes,
# and the kernel bench, in under nine minutes.
#
#   tools/validate_gpu.sh OUT [BUILD]     BUILD: a tree with cuda_tests and cuda_kernel_bench;
#                                         without one they are built from source in build-cuda
#
# OUT receives validation.json (what ran, what failed, what was skipped and why), kernels.json (the
# bench) and one log each. Exit code 0: everything that could run passed.
set -uo pipefail
[ $# -ge 1 ] || { echo "usage: tools/validate_gpu.sh OUT [BUILD]" >&2; exit 2; }
mkdir -p "$1" || exit 2
out=$(cd "$1" && pwd)
root=$(cd "$(dirname "$0")/.." && pwd)
build=${2:-$root/build-cuda}

parts=() failed=0
# record NAME STATE DETAIL
record() {
  parts+=("{\"name\": \"$1\", \"state\": \"$2\", \"detail\": \"$3\"}")
  printf '%-10s %-8s %s\n' "$1" "$2" "$3"
  [ "$2" != failed ] || failed=1
}
# part NAME SECONDS COMMAND...: runs it with a time limit, its output in OUT/NAME.log
part() {
  local name=$1 limit=$2 started=$SECONDS status=0
  shift 2
  timeout "$limit" "$@" >"$out/$name.log" 2>&1 || status=$?
  if [ "$status" -eq 0 ]; then
    record "$name" passed "$((SECONDS - started)) s"
  else
    record "$name" failed "exit code $status after $((SECONDS - started)) s, see $name.log"
  fi
}

device=none driver=none
if command -v nvidia-smi >/dev/null; then
  device=$(nvidia-smi --query-gpu=name --format=csv,noheader -i 0)
  driver=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader -i 0)
else
  record device skipped "no nvidia-smi on the path"
fi

if [ ! -x "$build/cuda_tests" ] || [ ! -x "$build/cuda_kernel_bench" ]; then
  part build 240 bash -c "cmake -S '$root' -B '$build' -DTUNAS_CUDA=ON -DTUNAS_ONEDNN=OFF &&
    cmake --build '$build' -j --target cuda_tests cuda_kernel_bench"
fi

if [ -x "$build/cuda_tests" ]; then
  part tests 120 "$build/cuda_tests"
  if command -v compute-sanitizer >/dev/null; then
    part memcheck 90 compute-sanitizer --tool memcheck --error-exitcode 1 "$build/cuda_tests" \
      --gtest_filter=-*Several*
    # Races hide in shared memory only; these are the kernels that use it, at small sizes.
    part racecheck 60 compute-sanitizer --tool racecheck --error-exitcode 1 "$build/cuda_tests" \
      --gtest_filter=*Accumul*:*Conv*:*Softmax*:*Pool*
  else
    record memcheck skipped "no compute-sanitizer on the path"
    record racecheck skipped "no compute-sanitizer on the path"
  fi
fi
if [ -x "$build/cuda_kernel_bench" ]; then
  part bench 120 "$build/cuda_kernel_bench" "$out/kernels.json"
  tail -n 200 "$out/bench.log"
fi

commit=$(git -C "$root" rev-parse --short HEAD 2>/dev/null || echo unknown)
{
  printf '{"device": "%s", "driver": "%s", "commit": "%s", "parts": [\n' "$device" "$driver" "$commit"
  for i in "${!parts[@]}"; do
    printf '  %s%s\n' "${parts[$i]}" "$([ "$i" -lt $((${#parts[@]} - 1)) ] && echo ,)"
  done
  printf ']}\n'
} >"$out/validation.json"
exit "$failed"
