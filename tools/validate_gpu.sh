#!/usr/bin/env bash
# Does this GPU give what it should? In under nine minutes: the tests of the CUDA kernels and the
# agreement of whole steps with the CPU, compute-sanitizer on small sizes, kernel and step benches, a
# profile, and PyTorch on the same GPU for comparison.
#
#   tools/validate_gpu.sh OUT [BUILD]   BUILD: a tree with cuda_tests, cuda_kernel_bench, step_bench
#                                       and tunas; what it lacks is built from source in build-cuda
#   PEER_PYTHON=VENV/bin/python         an interpreter with torch and torchvision (default: python3)
#
# OUT receives validation.json (what ran, what failed, what was skipped and why), kernels.json,
# steps.json, profile-*.json, peers-*.json and one log each. Exit code 0: all that could run passed.
set -uo pipefail
[ $# -ge 1 ] || { echo "usage: tools/validate_gpu.sh OUT [BUILD]" >&2; exit 2; }
mkdir -p "$1" || exit 2
out=$(cd "$1" && pwd)
root=$(cd "$(dirname "$0")/.." && pwd)
build=${2:-$root/build-cuda}
python=${PEER_PYTHON:-python3}
programs=(cuda_tests cuda_kernel_bench step_bench tunas)

parts=() failed=0
# record NAME STATE DETAIL
record() {
  parts+=("{\"name\": \"$1\", \"state\": \"$2\", \"detail\": \"$3\"}")
  printf '%-22s %-8s %s\n' "$1" "$2" "$3"
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
has() { [ -x "$build/$1" ]; }

device=none driver=none
if command -v nvidia-smi >/dev/null; then
  device=$(nvidia-smi --query-gpu=name --format=csv,noheader -i 0)
  driver=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader -i 0)
else
  record device skipped "no nvidia-smi on the path"
fi

for program in "${programs[@]}"; do
  has "$program" && continue
  part build 300 bash -c "cmake -S '$root' -B '$build' -DTUNAS_CUDA=ON -DTUNAS_ONEDNN=OFF &&
    cmake --build '$build' -j --target ${programs[*]}"
  break
done

# Correct: kernels against loops in double, steps in fp32 and bf16 against the CPU.
has cuda_tests && part tests 120 "$build/cuda_tests" --gtest_output="json:$out/tests.json"
if has cuda_tests && command -v compute-sanitizer >/dev/null; then
  part memcheck 60 compute-sanitizer --tool memcheck --error-exitcode 1 "$build/cuda_tests" \
    --gtest_filter='-*Several*:*Step*:*Librar*'
  # Races hide in shared memory only; these are the kernels that use it, at small sizes.
  part racecheck 60 compute-sanitizer --tool racecheck --error-exitcode 1 "$build/cuda_tests" \
    --gtest_filter='*Accumul*:*Conv*:*Softmax*:*Pool*'
else
  record memcheck skipped "no compute-sanitizer on the path"
  record racecheck skipped "no compute-sanitizer on the path"
fi

# Fast: kernels, then whole steps (images/s of training; of searching, trained images).
has cuda_kernel_bench && part kernels 90 "$build/cuda_kernel_bench" "$out/kernels.json"
steps=()
# step NAME ARGUMENT...: one line of steps.json
step() {
  local name=$1
  shift
  part "$name" 40 "$build/step_bench" "$@" --device cuda --steps 20 --warmup 5
  [ -s "$out/$name.log" ] && [ "$(head -c 1 "$out/$name.log")" = "{" ] &&
    steps+=("$(tail -n 1 "$out/$name.log")")
}
if has step_bench; then
  for model in mobilenet_v3_large mobilenet_v2; do
    for batch in 64 128 256 512; do step "$model-$batch" train --model $model --batch $batch; done
  done
  step mobilenet_v3_large-library train --model mobilenet_v3_large --batch 128 --library
  step mobilenet_v3_large-fp32 train --model mobilenet_v3_large --batch 128 --precision fp32
  for space in proxylessnas_search proxylessnas_enlarged_search mobilenet_v3_like_search; do
    step "$space" search --space $space --batch 128
  done
  {
    printf '{"device": "%s", "driver": "%s", "steps": [\n' "$device" "$driver"
    for i in "${!steps[@]}"; do
      printf '  %s%s\n' "${steps[$i]}" "$([ "$i" -lt $((${#steps[@]} - 1)) ] && echo ,)"
    done
    printf ']}\n'
  } >"$out/steps.json"
fi
if has tunas; then
  part doctor 20 "$build/tunas" doctor
  for model in mobilenet_v3_large mobilenet_v2; do
    part "profile-$model" 30 bash -c \
      "'$build/tunas' profile --arch $model --batch-size 128 --device cuda --json >'$out/profile-$model.json'"
  done
fi

# PyTorch on the same GPU: bf16 autocast, every variant that the time allows.
peer="$root/bench/peers/torch_step.py"
if "$python" -c 'import torch, torchvision, sys; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then
  for model in mobilenet_v3_large mobilenet_v2; do
    part "peers-$model" 80 "$python" "$peer" train --model $model --batch 128 --device cuda --amp \
      --steps 20 --warmup 5 --variants 'channels_last-*-sgd' --json "$out/peers-$model.json"
  done
  part peers-search 80 "$python" "$peer" search --batch 128 --device cuda --amp --steps 10 \
    --variants 'channels_last-eager-*' --json "$out/peers-search.json"
else
  record peers skipped "$python has no torch and torchvision that see a GPU"
fi

commit=$(git -C "$root" rev-parse --short HEAD 2>/dev/null || echo unknown)
{
  printf '{"device": "%s", "driver": "%s", "commit": "%s", "seconds": %d, "parts": [\n' \
    "$device" "$driver" "$commit" "$SECONDS"
  for i in "${!parts[@]}"; do
    printf '  %s%s\n' "${parts[$i]}" "$([ "$i" -lt $((${#parts[@]} - 1)) ] && echo ,)"
  done
  printf ']}\n'
} >"$out/validation.json"
exit "$failed"
