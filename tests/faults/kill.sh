#!/usr/bin/env bash
# Kills a search without warning at random moments, on one rank and on two, and has it resumed to
# its end: what it leaves is what an undisturbed one leaves, byte for byte.
#
#   tests/faults/kill.sh [KILLS]   default: 100 of each
#
# Half of the kills are aimed at a save, a quarter at the moment in which the run folder appears. Of
# two ranks all are killed, or the launcher, or one rank; the others must then end by themselves.
# Half of the resumed runs are killed again. A fifth as many hit a search that saves at its end alone,
# while it leaves its results.
# shellcheck source=tests/faults/runs.sh
. "$(dirname "$0")/runs.sh"
kills=${1:-100}
search_of 200 20

# children PID: of `tunas launch`, the ranks.
children() { cat "/proc/$1/task/$1/children" 2>/dev/null || true; }
# rank_of PID
rank_of() { { tr '\0' '\n' <"/proc/$1/environ" | sed -n 's/^RANK=//p'; } 2>/dev/null; }

under_save() { compgen -G "$1/checkpoints/*.part" >/dev/null; }
# aim_at MOMENT RUN PID: returns near it, or when the run has ended.
aim_at() {
  local span=20000
  at_most 20000000 reached "$@" || true
  if [ "$1" = results ]; then span=60000; fi
  pick "$span"
  sleep "$(in_seconds "$picked")"
}
# shellcheck disable=SC2317 # called by at_most
reached() {
  case $1 in
    start) [ -e "$2/lock" ] ;;
    save) under_save "$2" ;;
    results) [ -e "$2/arch.json.part" ] || [ -e "$2/arch.json" ] ;;
  esac || ended "$3"
}

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

# kills_of KILLS TITLE MOMENTS PREFIX...: kills `tunas PREFIX search ...`, aimed at each of MOMENTS
# in turn.
kills_of() {
  local kills=$1 title=$2 run=$scratch/run pid code=0 began span whom moment
  local worst=0 saves=0 done=0 tries=0 chain=0 ends=0 moments
  read -r -a moments <<<"$3"
  local victims=(all launcher rank-0 rank-1)
  local -A count=()
  shift 3
  began=$(now)
  rm -rf "$run"
  "$tunas" "$@" "${search[@]}" --out "$run" >/dev/null 2>&1
  span=$(($(now) - began))
  same "$run" || fault "$title, undisturbed"
  rm -rf "$run"
  while [ "$done" -lt "$kills" ]; do
    RANDOM=$((seed * 10007 + tries))
    moment=${moments[tries % ${#moments[@]}]} tries=$((tries + 1))
    "$tunas" "$@" "${search[@]}" --out "$run" --resume auto >/dev/null 2>"$run.err" &
    pid=$!
    pick "$span"
    if [ "$moment" = any ] || [ "$moment" = save ]; then sleep "$(in_seconds "$picked")"; fi
    if [ "$moment" != any ]; then aim_at "$moment" "$run" "$pid"; fi
    whom=all
    if [ $# -gt 0 ]; then
      pick 4
      whom=${victims[picked]}
    fi
    if ! strike "$run" "$pid" "$whom"; then
      fault "$title, SEED=$seed, try $tries, of $whom: not all have ended after 12 s"
      return
    fi
    code=0
    { wait "$pid" || code=$?; } 2>/dev/null
    if [ "$code" -eq 0 ]; then # it came too late
      if same "$run"; then pass "$chain"; else fault "$title, SEED=$seed, before try $tries"; fi
      rm -rf "$run"
      chain=0
      continue
    fi
    if [ "$code" -ne 137 ] && [ "$code" -ne 5 ]; then
      fault "$title, SEED=$seed, try $tries, of $whom: code $code: $(tail -n 1 "$run.err")"
    fi
    if under_save "$run"; then saves=$((saves + 1)); fi
    if [ "$took" -gt "$worst" ]; then worst=$took; fi
    count[$whom]=$((${count[$whom]:-0} + 1))
    done=$((done + 1)) chain=$((chain + 1))
    pick 2
    if [ "$picked" -eq 0 ] && [ "$done" -lt "$kills" ]; then continue; fi
    if resumed "$run"; then
      pass "$chain"
      ends=$((ends + 1))
    else
      fault "$title, SEED=$seed, after try $tries"
      cp -r "$run" "$run.$tries"
    fi
    rm -rf "$run"
    chain=0
  done
  printf '%s: %d kills (' "$title" "$done"
  for whom in "${victims[@]}"; do
    [ -z "${count[$whom]:-}" ] || printf '%s %d, ' "$whom" "${count[$whom]}"
  done
  printf 'during a save %d), %d runs resumed to the same bytes, all had ended after %s s at most\n' \
    "$saves" "$ends" "$(in_seconds "$worst")"
}

undisturbed
kills_of "$kills" "kill, 1 rank" "save any save start"
kills_of "$kills" "kill, 2 ranks" "save any save start" launch -n 2 --
every=1000
search_of 200 20
kills_of $(((kills + 4) / 5)) "kill, 1 rank, saved at its end alone" results
finish
