#!/usr/bin/env bash
# Kills a search without warning at random moments, on one rank and on two, and has it resumed to
# its end: what it leaves is what an undisturbed one leaves, byte for byte.
#
#   tests/faults/kill.sh [KILLS]   default: 100 of each
#
# Every other kill waits for a save to be under way. Of two ranks all are killed, or the launcher, or
# one rank; the others must then end by themselves. Half of the resumed runs are killed again.
# shellcheck source=tests/faults/runs.sh
. "$(dirname "$0")/runs.sh"
kills=${1:-100}
search_of 200 20

# children PID: of `tunas launch`, the ranks.
children() { cat "/proc/$1/task/$1/children" 2>/dev/null || true; }
# rank_of PID
rank_of() { { tr '\0' '\n' <"/proc/$1/environ" | sed -n 's/^RANK=//p'; } 2>/dev/null; }

under_save() { compgen -G "$1/checkpoints/*.part" >/dev/null; }
# shellcheck disable=SC2317 # called by at_most
under_save_or_ended() { under_save "$1" || ended "$2"; }

# strike RUN PID WHOM: sets `took`, microseconds until all had ended; 1 where they did not.
strike() {
  local ranks rank doomed=() began
  read -r -a ranks <<<"$(children "$2")"
  case $3 in
    all) doomed=("$2" "${ranks[@]}") ;;
    launcher) doomed=("$2") ;;
    rank-*)
      for rank in "${ranks[@]}"; do
        if [ "$(rank_of "$rank")" = "${3#rank-}" ]; then doomed=("$rank"); fi
      done
      if [ ${#doomed[@]} -eq 0 ]; then doomed=("$2"); fi # it has not started that rank yet
      ;;
  esac
  began=$(now)
  kill -KILL "${doomed[@]}" 2>/dev/null || true
  at_most 12000000 ended "$2" "${ranks[@]}" || return 1
  took=$(($(now) - began))
}

# kills_of TITLE PREFIX...: all kills of `tunas PREFIX search ...`.
kills_of() {
  local title=$1 run=$scratch/run pid code=0 began span whom worst=0 saves=0 done=0 chain=0 ends=0
  local victims=(all launcher rank-0 rank-1)
  local -A count=()
  shift
  began=$(now)
  rm -rf "$run"
  "$tunas" "$@" "${search[@]}" --out "$run" >/dev/null 2>&1
  span=$(($(now) - began))
  same "$run" || fault "$title, undisturbed"
  rm -rf "$run"
  while [ "$done" -lt "$kills" ]; do
    RANDOM=$((seed * 10007 + done))
    "$tunas" "$@" "${search[@]}" --out "$run" --resume auto >/dev/null 2>"$run.err" &
    pid=$!
    pick "$span"
    sleep "$(in_seconds "$picked")"
    if [ $((done % 2)) -eq 0 ]; then
      at_most 2000000 under_save_or_ended "$run" "$pid" || true
      pick 20000
      sleep "$(in_seconds "$picked")"
    fi
    whom=all
    if [ $# -gt 0 ]; then
      pick 4
      whom=${victims[picked]}
    fi
    if ! strike "$run" "$pid" "$whom"; then
      fault "$title, SEED=$seed, kill $done, of $whom: not all have ended after 12 s"
      return
    fi
    code=0
    { wait "$pid" || code=$?; } 2>/dev/null
    if [ "$code" -eq 0 ]; then # it came too late
      if same "$run"; then pass "$chain"; else fault "$title, SEED=$seed, before kill $done"; fi
      rm -rf "$run"
      chain=0
      continue
    fi
    if [ "$code" -ne 137 ] && [ "$code" -ne 5 ]; then
      fault "$title, SEED=$seed, kill $done, of $whom: code $code: $(tail -n 1 "$run.err")"
    fi
    if under_save "$run"; then saves=$((saves + 1)); fi
    if [ "$took" -gt "$worst" ]; then worst=$took; fi
    count[$whom]=$((${count[$whom]:-0} + 1))
    done=$((done + 1)) chain=$((chain + 1))
    pick 2
    if [ "$picked" -eq 0 ] && [ "$done" -lt "$kills" ]; then continue; fi
    if resumed "$run"; then pass "$chain"; else fault "$title, SEED=$seed, after kill $((done - 1))"; fi
    rm -rf "$run"
    chain=0 ends=$((ends + 1))
  done
  printf '%s: %d kills (' "$title" "$done"
  for whom in "${victims[@]}"; do
    [ -z "${count[$whom]:-}" ] || printf '%s %d, ' "$whom" "${count[$whom]}"
  done
  printf 'during a save %d), %d runs resumed to the same bytes, all had ended after %s s at most\n' \
    "$saves" "$ends" "$(in_seconds "$worst")"
}

undisturbed
kills_of "kill, 1 rank"
kills_of "kill, 2 ranks" launch -n 2 --
finish
