#!/usr/bin/env bash
# Would the tests notice a wrong kernel? Makes one small mistake after another in a copy of the .cu
# and .cuh files, builds the emulated tests with it (tests/emulation) and runs those that should
# fail. By hand, before a release and after kernels were rewritten:
#
#   tests/mutants/run.sh [BUILD [WORD]]   BUILD: an observed emulated build (default build-emulated);
#                                         WORD: only mutants whose line or file contains it
#
# mutants.txt lists them. Progress goes to stderr, the result to stdout, two lines a mutant: `caught`
# with the test, `hung` (not done after LIMIT seconds), `SURVIVED` or `DID NOT BUILD`; that of a whole
# run is committed as results.txt. Exit code 1: a mutant that is not declared equivalent survived, or
# one did not build; 2: a text of mutants.txt is no longer in its file.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
build=$(realpath "${1:-$root/build-emulated}") word=${2:-}
limit=${LIMIT:-300} jobs=${JOBS:-2}

cmake --build "$build" --target cuda_tests >/dev/null
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

trim() { sed 's/^[[:space:]]*//; s/[[:space:]]*$//' <<<"$1"; }

# mutate FILE OCCURRENCE OLD NEW: FILE with its OCCURRENCE-th OLD (0: the only one) replaced.
mutate() {
  local text rest head="" count=0 wanted=$2
  text=$(<"$1")
  rest=$text
  while [[ $rest == *"$3"* ]]; do
    count=$((count + 1))
    if [ "$count" -eq "$((wanted > 0 ? wanted : 1))" ]; then
      head=${text:0:${#text}-${#rest}}${rest%%"$3"*}
    fi
    rest=${rest#*"$3"}
  done
  if [ "$count" -lt "$((wanted > 0 ? wanted : 1))" ] || { [ "$wanted" -eq 0 ] && [ "$count" -gt 1 ]; }; then
    echo "mutants.txt: $count times in ${1#"$root"/}: $3" >&2
    return 2
  fi
  printf '%s%s%s\n' "$head" "$4" "${text:${#head}+${#3}}"
}

# try NUMBER FILE OCCURRENCE OLD NEW SOURCES TESTS: leaves its verdict in $scratch/NUMBER.verdict.
try() {
  local copy=$scratch/$1 object command source status=0 objects=""
  mkdir -p "$copy/tests"
  cp -r "$root/kernels" "$copy/kernels"
  cp -r "$root/tests/emulation" "$copy/tests/emulation"
  mutate "$root/$2" "$3" "$4" "$5" >"$copy/$2"
  for source in $6; do
    object=$copy/$(basename "$source").o
    command=$(ninja -C "$build" -t commands "CMakeFiles/tunas_cuda.dir/kernels/$source.o" | tail -1)
    command=${command//"$root"/"$copy"}
    command=$(sed -E "s| -MD -MT [^ ]* -MF [^ ]*||; s| -o [^ ]*| -w -o $object|" <<<"$command")
    (cd "$copy" && eval "$command") >"$copy/log" 2>&1 || status=$?
    objects+=" $object"
  done
  # First of all objects, so that what several share is taken from the mutants.
  command=$(ninja -C "$build" -t commands cuda_tests | tail -1)
  command=$(sed -E "s| CMakeFiles/cuda_tests.dir|$objects&|; s| -o [^ ]*| -o $copy/cuda_tests|" \
    <<<"$command")
  if [ "$status" -eq 0 ]; then (cd "$build" && eval "$command") >"$copy/log" 2>&1 || status=$?; fi
  if [ "$status" -ne 0 ]; then
    echo "DID NOT BUILD" >"$copy.verdict"
    sed 's/^/    /' "$copy/log" | grep -m3 'error' >>"$copy.verdict" || true
  elif timeout "$limit" "$copy/cuda_tests" --gtest_fail_fast --gtest_filter="$7" \
    >"$copy/log" 2>&1; then
    echo SURVIVED >"$copy.verdict"
  elif [ $? -eq 124 ]; then
    echo hung >"$copy.verdict"
  else
    # A test that crashed or aborted has no line of its own: then the last that was begun.
    echo "caught by $({ grep -m1 -oP '^\[  FAILED  \] \K\S+(?= \(\d+ ms)' "$copy/log" ||
      grep -oP '^\[ RUN      \] \K.*' "$copy/log" | tail -1; } 2>/dev/null)" >"$copy.verdict"
  fi
  echo "$(<"$copy.name"): $(head -1 "$copy.verdict")" >&2
  rm -rf "$copy"
}

# First the whole table is read, and every text looked up.
number=0 file="" sources="" tests="" mutants=()
while IFS= read -r line; do
  case $line in
    '' | '# '*) continue ;;
    '['*) IFS='|' read -r file sources tests <<<"${line:1:-1}" && continue ;;
  esac
  occurrence=0 equivalent=""
  file=$(trim "$file")
  [[ "$file $line" == *"$word"* ]] || continue
  number=$((number + 1))
  printf '%s: %s\n' "$file" "$line" >"$scratch/$number.name"
  if [[ $line =~ ^#([0-9]+)' '(.*)$ ]]; then
    occurrence=${BASH_REMATCH[1]} line=${BASH_REMATCH[2]}
  fi
  if [[ $line == *' ## '* ]]; then equivalent=${line##* ## } line=${line% ## *}; fi
  old=$(trim "${line%% => *}") new=$(trim "${line#* => }")
  mutate "$root/$file" "$occurrence" "$old" "$new" >/dev/null || exit 2
  printf '%s\n' "$equivalent" >"$scratch/$number.equivalent"
  mutants+=("$number" "$file" "$occurrence" "$old" "$new" "$(trim "$sources")" "$(trim "$tests")")
done <"$root/tests/mutants/mutants.txt"
for ((i = 0; i < ${#mutants[@]}; i += 7)); do
  while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n; done
  try "${mutants[@]:i:7}" &
done
wait

caught=0 equal=0 other=0
for ((i = 1; i <= number; ++i)); do
  verdict=$(<"$scratch/$i.verdict") reason=$(<"$scratch/$i.equivalent")
  case $verdict in
    caught* | hung) caught=$((caught + 1)) ;;
    SURVIVED*)
      if [ -n "$reason" ]; then
        equal=$((equal + 1)) verdict="equivalent: $reason"
      else
        other=$((other + 1))
      fi
      ;;
    *) other=$((other + 1)) ;;
  esac
  printf '%s\n    %s\n' "$(<"$scratch/$i.name")" "$verdict"
done
echo "$number mutants: $caught caught, $equal equivalent, $other not"
[ "$other" -eq 0 ]
