#!/usr/bin/env bash
# A disk that has no room for a checkpoint, none for anything, or is read-only while a search saves.
# The search goes on with one warning and its last checkpoint stays whole; where not even a line can
# be written it ends with code 3. With room again the next save works, and in the end the bytes are
# those of an undisturbed search. Needs root: the disk is a small tmpfs, mounted for this script alone.
#
#   tests/faults/disk.sh
#
# shellcheck source=tests/faults/runs.sh disable=SC2317 # try calls the functions by their names
if [ -z "${FAULTS_MOUNTS:-}" ] && unshare --mount true 2>/dev/null; then
  FAULTS_MOUNTS=own exec unshare --mount --propagation private "$0" "$@"
fi
. "$(dirname "$0")/runs.sh"
kinds=3
disk=$scratch/disk run=$scratch/disk/run
mkdir "$disk"
if [ -z "${FAULTS_MOUNTS:-}" ] || ! mount -t tmpfs -o size=4m tmpfs "$disk" 2>/dev/null; then
  skip $kinds "a disk that is full or read-only: needs root, to mount a small one"
  finish
fi
every=50
search_of 1500 20
undisturbed

# room BYTES: takes what is free beyond them.
room() {
  local free
  free=$(($(stat -f -c '%a * %S' "$disk")))
  if [ "$free" -gt "$1" ]; then
    head -c $((free - $1)) /dev/zero >>"$disk/filler" 2>/dev/null || true
  fi
}
warned() { grep -q 'warning: .*/checkpoints' "$run.err"; }
ended_or_warned() { warned || ended "$pid"; }
beyond() { lines "$run" "$1" || ended "$pid"; }
newer() { [ "$(newest "$run")" != "$1" ] || ended "$pid"; }

# begin: a search that has saved twice; sets `pid`.
begin() {
  rm -rf "$run" "$disk/filler" "$run.err"
  "$tunas" "${search[@]}" --out "$run" >/dev/null 2>"$run.err" &
  pid=$!
  at_most 20000000 lines "$run" $((2 * every + every / 2))
}

# goes_on UNDO...: after a first warning the search goes two saves further, the checkpoint that is
# there can be resumed, and after UNDO all is well; sets `lost`, how many saves failed.
goes_on() {
  local before after
  at_most 20000000 ended_or_warned || true
  if ! warned; then echo "no warning: $(tail -n 1 "$run.err")" && return 1; fi
  before=$(newest "$run")
  at_most 20000000 beyond $(($(step "$run") + 2 * every)) || true
  after=$(newest "$run")
  rm -rf "$scratch/copy"
  cp -r "$run" "$scratch/copy"
  lost=$((($(step "$run") - 10#${after##*step-}) / every))
  if ended "$pid"; then echo "it did not go on: $(tail -n 1 "$run.err")" && return 1; fi
  "$@"
  at_most 20000000 newer "$after" || true
  if ended "$pid"; then echo "no save while it ran" && return 1; fi
  if ! wait "$pid"; then echo "it ended: $(tail -n 1 "$run.err")" && return 1; fi
  if [ "$before" != "$after" ]; then echo "$after was saved meanwhile" && return 1; fi
  if [ "$(grep -c warning "$run.err")" -ne 1 ]; then grep warning "$run.err" && return 1; fi
  same "$run" && resumed "$scratch/copy" && ! grep warning "$scratch/copy.again"
}

# too_full: no room for a checkpoint, though for lines. A save that is under way may free some.
too_full() {
  begin
  until ended_or_warned; do room 240000; done
  goes_on rm "$disk/filler"
}

read_only() {
  begin
  mount --bind "$run/checkpoints" "$run/checkpoints"
  mount -o remount,ro,bind "$run/checkpoints"
  goes_on umount -l "$run/checkpoints"
}

# full: the search cannot go on.
full() {
  local code=0
  begin
  until ended "$pid"; do room 0; done
  wait "$pid" || code=$?
  lost=$(grep -c "warning: .*/checkpoints" "$run.err" || true)
  if [ "$code" -ne 3 ] || ! grep -q "^error: $run/.*No space left on device" "$run.err"; then
    echo "code $code: $(tail -n 1 "$run.err")"
    return 1
  fi
  rm "$disk/filler"
  resumed "$run" && ! grep warning "$run.again"
}

# try KIND TEXT
try() {
  if "$1"; then
    pass 1
    echo "disk: $2, $lost saves failed"
  else
    fault "disk: $2"
    kill -KILL "$pid" 2>/dev/null || true
    umount -l "$run/checkpoints" 2>/dev/null || true
  fi
}
try too_full "no room for a checkpoint: one warning, the search went on and saved again"
try read_only "read-only: one warning, the search went on and saved again"
try full "no room for a line: ended with code 3 and was resumed to the same bytes"
umount -l "$disk"
finish
