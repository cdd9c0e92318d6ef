# shellcheck shell=bash disable=SC2034,SC2317
# Sourced by the scripts beside it: a short search, what an undisturbed one leaves, and the count of
# what passed. TUNAS names the program (default build/tunas), SEED where random numbers begin.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
tunas=$(realpath -m "${TUNAS:-$root/build/tunas}")
seed=${SEED:-1}
[ -x "$tunas" ] || {
  echo "$tunas is not there; build it, or name another with TUNAS" >&2
  exit 1
}
# On a disk, not in memory: a save then takes long enough to be hit.
scratch=$(mktemp -d "${TMPDIR:-/tmp}/tunas_faults.XXXXXX")
passed=0 failed=0 skipped=0
# Bash reports every process that was killed: here that is no news.
exec 2> >(LC_ALL=C grep --line-buffered -v ': line [0-9]*: *[0-9]* Killed ' >&2)

every=4 # steps between checkpoints
# search_of STEPS TIMEOUT: sets `search`, whose every step is the same on any number of ranks.
search_of() {
  search=(search --space "$root/tests/search/spaces/tiny.json" --data synthetic:24x24x200
    --resolution 16 --cost macs --target 2e5 --batch-size 16 --shards 4 --threads 1
    --checkpoint-every "$every" --steps "$1" --peer-timeout "$2")
}

# undisturbed: the search from its beginning to its end, in $scratch/whole.
undisturbed() {
  "$tunas" "${search[@]}" --out "$scratch/whole" >/dev/null 2>"$scratch/whole.err" || {
    cat "$scratch/whole.err" >&2
    exit 1
  }
}

# newest RUN: the folder of its newest checkpoint, nothing where there is none.
newest() { find "$1/checkpoints" -maxdepth 1 -name 'step-?????????' 2>/dev/null | sort | tail -n 1; }

# same RUN: it left what the undisturbed one left, and no unfinished folder; says what it did not.
same() {
  local name a b
  a=$(newest "$scratch/whole") b=$(newest "$1")
  [ "$(basename "$a")" = "$(basename "$b")" ] || {
    echo "$1: its last checkpoint is ${b:-none}, not one like $a"
    return 1
  }
  for name in weights.safetensors metrics.jsonl arch.json; do
    cmp "$scratch/whole/$name" "$1/$name" 2>&1 || return 1
  done
  for name in weights.safetensors controller.safetensors state.safetensors; do
    cmp "$a/$name" "$b/$name" 2>&1 || return 1
  done
  # What a meeting of ranks left is for the next meeting to remove.
  name=$(find "$1" -path "$1/rendezvous" -prune -o \( -name '*.part' -o -name '*.old' \) -print)
  if [ -n "$name" ]; then
    echo "$name was left behind"
    return 1
  fi
}

# resumed RUN [OPTION...]: goes on to the end as one process; the run is then the same(). Its stderr
# is RUN.again.
resumed() {
  local run=$1 code=0
  shift
  "$tunas" "${search[@]}" --out "$run" --resume auto "$@" >/dev/null 2>"$run.again" || code=$?
  [ "$code" -eq 0 ] || {
    echo "$run: --resume auto ended with code $code: $(tail -n 1 "$run.again")"
    return 1
  }
  same "$run"
}

# pass COUNT
pass() { passed=$((passed + $1)); }
# fault TEXT: one that was not borne.
fault() {
  failed=$((failed + 1))
  echo "FAILED: $1"
}
# skip COUNT TEXT
skip() {
  skipped=$((skipped + $1))
  echo "skipped: $2"
}

# pick LIMIT: sets `picked`, from 0 to LIMIT - 1.
pick() { picked=$(((RANDOM << 15 | RANDOM) % $1)); }

# microseconds
now() { echo "${EPOCHREALTIME/[.,]/}"; }
# in_seconds MICROSECONDS
in_seconds() { printf '%d.%03d' $(($1 / 1000000)) $(($1 / 1000 % 1000)); }
# at_most MICROSECONDS COMMAND...: polls until the command succeeds; 1 where it does not in time.
at_most() {
  local end=$(($(now) + $1))
  shift
  until "$@"; do
    [ "$(now)" -lt "$end" ] || return 1
    sleep 0.005
  done
}

# ended PID...: none of them runs any more; one that nobody has waited for has ended, too, but not
# while a thread of it is in the middle of a write to the disk.
ended() {
  local pid state tasks
  for pid in "$@"; do
    tasks=("/proc/$pid/task"/*)
    if [ ${#tasks[@]} -gt 1 ]; then return 1; fi
    state=$(sed 's/.*) //; s/ .*//' "/proc/$pid/stat" 2>/dev/null) || continue
    case $state in '' | Z | X) ;; *) return 1 ;; esac
  done
}

# lines RUN COUNT: so many steps are in its metrics.
lines() { [ "$(step "$1")" -ge "$2" ]; }
# step RUN: how many there are.
step() { if [ -e "$1/metrics.jsonl" ]; then grep -c '' "$1/metrics.jsonl" || true; else echo 0; fi; }

# finish: says the counts and ends the script. What failed is kept to be looked at.
finish() {
  if [ "$failed" -eq 0 ]; then rm -rf "$scratch"; else echo "what was left is in $scratch"; fi
  echo "$passed passed, $failed failed, $skipped skipped"
  [ "$failed" -eq 0 ]
  exit
}
