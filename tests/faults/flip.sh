#!/usr/bin/env bash
# Flips single bits of a finished search's last checkpoint, each file's as often as another's: every
# one is noticed. Named with --resume, the checkpoint is refused with code 3 and its file named; of
# some, --resume auto must say so once, take the checkpoint before it and end in the same bytes.
#
#   tests/faults/flip.sh [FLIPS [FALLBACKS]]   default: 1000 and 20
#
# shellcheck source=tests/faults/runs.sh
. "$(dirname "$0")/runs.sh"
flips=${1:-1000} fallbacks=${2:-20}
search_of 60 20
undisturbed

# flip FILE BIT: once more, and it is as it was.
flip() {
  local byte
  byte=$(od -An -tu1 -j $(($2 / 8)) -N1 "$1")
  # shellcheck disable=SC2059
  printf "\\x$(printf %02x $((byte ^ 1 << $2 % 8)))" |
    dd of="$1" bs=1 seek=$(($2 / 8)) conv=notrunc status=none
}

# choose CHECKPOINT NUMBER: sets `file` and `bit`.
choose() {
  local files=("$1"/*)
  RANDOM=$((seed * 10007 + $2))
  file=${files[$2 % ${#files[@]}]}
  pick $((8 * $(stat -c %s "$file")))
  bit=$picked
}

run=$scratch/run
cp -r "$scratch/whole" "$run"
checkpoint=$(newest "$run")
began=$(now)
for ((i = 0; i < flips; ++i)); do
  choose "$checkpoint" "$i"
  flip "$file" "$bit"
  code=0
  "$tunas" "${search[@]}" --out "$run" --resume "$checkpoint" >/dev/null 2>"$run.err" || code=$?
  flip "$file" "$bit"
  if [ "$code" -eq 3 ] && [[ $(<"$run.err") == "error: $file: is damaged"* ]]; then
    pass 1
  else
    fault "bit $bit of $(basename "$file") was flipped: code $code: $(tail -n 1 "$run.err")"
  fi
done
span=$(($(now) - began))
# Flipped back, it is whole: what was refused was the bit.
if resumed "$run" && ! grep -q warning "$run.again"; then pass 1; else fault "nothing was flipped"; fi
echo "flip: $flips bits in $(find "$checkpoint" -type f | wc -l) files of" \
  "$(du -b -d0 "$checkpoint" | cut -f1) bytes, $((passed - 1)) refused with the file's name," \
  "$(in_seconds $((span / flips))) s each"

fell=$passed
for ((i = 0; i < fallbacks; ++i)); do
  rm -rf "$run"
  cp -r "$scratch/whole" "$run"
  choose "$checkpoint" $((flips + i))
  flip "$file" "$bit"
  if resumed "$run" && [ "$(grep -c warning "$run.again")" -eq 1 ] &&
    grep -q "warning: $file: is damaged.*that of step .* is used" "$run.again"; then
    pass 1
  else
    fault "bit $bit of $(basename "$file") was flipped: $(grep warning "$run.again")"
  fi
done
echo "flip: $fallbacks bits, $((passed - fell)) warned of once, the checkpoint before it was used and" \
  "ended in the same bytes"
finish
