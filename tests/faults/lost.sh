#!/usr/bin/env bash
# Takes one rank of four away: killed (SIGKILL), stopped (SIGSTOP), or cut off (each rank in a network
# of its own, the link of one taken down; needs root and iproute2). All others end with code 5 in time,
# say who is lost and save nothing; a rank that comes back ends so, too. What is there is resumed to
# the bytes of an undisturbed search. Then: `tunas launch --max-restarts 1` with a stopped rank ends
# well, and a SIGTERM to one rank stops all with a checkpoint and code 75.
#
#   tests/faults/lost.sh [--short]   --short: one rank each, a shorter time-out
#
# In time: rank 0 finds a silent rank after two thirds of the time-out, the others a silent rank 0
# after all of it and, where rank 0 leaves no verdict, the wait for one (engine/heartbeat.cpp).
# shellcheck source=tests/faults/runs.sh
. "$(dirname "$0")/runs.sh"
timeout=3 ranks=(0 1 3)
if [ "${1:-}" = --short ]; then timeout=1 ranks=(3); fi
second=1000000 margin=1500000
verdict_wait=$((timeout * second))
search_of 200 "$timeout"
undisturbed
run=$scratch/run pids=()

# begin together|apart: four ranks, and returns when they are at work.
begin() {
  local rank prefix
  rm -rf "$run"
  for rank in 0 1 2 3; do
    prefix=(env)
    if [ "$1" = apart ]; then prefix=(ip netns exec "$net-$rank" env GLOO_SOCKET_IFNAME=eth0); fi
    "${prefix[@]}" RANK="$rank" WORLD_SIZE=4 LOCAL_RANK="$rank" LOCAL_WORLD_SIZE=4 \
      "$tunas" "${search[@]}" --out "$run" >/dev/null 2>"$run.err$rank" &
    pids[rank]=$!
  done
  at_most $((20 * second)) lines "$run" 12
}

# code_of RANK: its exit code, in `code`.
code_of() {
  code=0
  { wait "${pids[$1]}" || code=$?; } 2>/dev/null
}

# left_with CODE LIMIT LOST RANK...: these end so within LIMIT microseconds; those that are to say
# who is LOST do.
left_with() {
  local wanted=$1 limit=$2 lost=$3 rank ends=() began code
  shift 3
  for rank in "$@"; do ends+=("${pids[rank]}"); done
  began=$(now)
  at_most "$limit" ended "${ends[@]}" || {
    echo "rank $* of 4: not ended after $(in_seconds "$limit") s"
    kill -KILL "${pids[@]}" 2>/dev/null || true
    return 1
  }
  took=$(($(now) - began))
  for rank in "$@"; do
    code_of "$rank"
    [ "$code" -eq "$wanted" ] || {
      echo "rank $rank of 4: code $code: $(tail -n 1 "$run.err$rank")"
      return 1
    }
    [ "$lost" = nobody ] || grep -q "^error: rank $lost of 4 is lost" "$run.err$rank" || {
      echo "rank $rank of 4 says: $(tail -n 1 "$run.err$rank")"
      return 1
    }
  done
}

# nothing_saved: no checkpoint but those that were due, and no results.
nothing_saved() {
  local last steps
  last=$(basename "$(newest "$run")") steps=$(step "$run")
  last=$((10#${last#step-}))
  if [ $((last % every)) -ne 0 ] || [ "$last" -gt "$steps" ] || [ -e "$run/arch.json" ] ||
    [ -e "$run/weights.safetensors" ]; then
    echo "a checkpoint of step $last, results: $(ls "$run")"
    return 1
  fi
}

# lose HOW RANK: all that must hold; sets `took`, until the others had ended.
lose() {
  local how=$1 lost=$2 others=() rank limit=$((timeout * second + margin)) worst
  for rank in 0 1 2 3; do [ "$rank" -eq "$lost" ] || others+=("$rank"); done
  case $how in
    killed)
      begin together || return 1
      kill -KILL "${pids[lost]}"
      left_with 5 "$limit" "$lost" "${others[@]}" || return 1
      ;;
    stopped)
      begin together || return 1
      kill -STOP "${pids[lost]}"
      if [ "$lost" -eq 0 ]; then limit=$((limit + verdict_wait)); fi
      left_with 5 "$limit" "$lost" "${others[@]}" || return 1
      worst=$took
      kill -CONT "${pids[lost]}"
      left_with 5 "$limit" '[0-9]' "$lost" || return 1
      took=$worst
      ;;
    cut)
      begin apart || return 1
      ip -n "$net-hub" link set "port$lost" down
      left_with 5 $((limit * 3 / 2)) "$lost" 0 1 2 3 || return 1
      ip -n "$net-hub" link set "port$lost" up
      ;;
  esac
  ended "${pids[@]}" && nothing_saved && resumed "$run"
}

# all_lost HOW TEXT
all_lost() {
  local rank worst=0 count=0
  for rank in "${ranks[@]}"; do
    if lose "$1" "$rank"; then
      pass 1
      count=$((count + 1))
      if [ "$took" -gt "$worst" ]; then worst=$took; fi
    else
      fault "rank $rank of 4 was $2"
      kill -KILL "${pids[@]}" 2>/dev/null || true
    fi
  done
  echo "lost: $2, $count of ${#ranks[@]} runs (rank ${ranks[*]} of 4): the others ended after" \
    "$(in_seconds "$worst") s at most, time-out $timeout s; resumed to the same bytes"
}

# Four networks and a bridge, in namespaces, so that the machine's own network stays as it is.
net=tunas-$$
make_networks() {
  local rank
  if [ "$(id -u)" -ne 0 ] || ! command -v ip >/dev/null; then return 1; fi
  ip netns add "$net-hub" 2>/dev/null || return 1
  trap remove_networks EXIT
  ip -n "$net-hub" link add br0 type bridge && ip -n "$net-hub" link set br0 up || return 1
  for rank in 0 1 2 3; do
    ip netns add "$net-$rank" &&
      ip -n "$net-hub" link add "port$rank" type veth peer name eth0 netns "$net-$rank" &&
      ip -n "$net-hub" link set "port$rank" master br0 up &&
      ip -n "$net-$rank" addr add "10.0.0.$((rank + 1))/24" dev eth0 &&
      ip -n "$net-$rank" link set eth0 up && ip -n "$net-$rank" link set lo up || return 1
  done
}
# shellcheck disable=SC2317 # the trap calls it
remove_networks() {
  local name
  for name in hub 0 1 2 3; do ip netns del "$net-$name" 2>/dev/null || true; done
}

all_lost killed "killed"
all_lost stopped "stopped"
if make_networks; then
  all_lost cut "cut off from the network"
else
  skip ${#ranks[@]} "a rank that is cut off from the network: needs root and iproute2"
fi

# restart RANK: tunas launch gets over a stopped rank; sets `took`.
restart() {
  local launcher ranks code=0 began
  rm -rf "$run"
  "$tunas" launch -n 4 --max-restarts 1 -- "${search[@]}" --out "$run" >/dev/null 2>"$run.err" &
  launcher=$!
  at_most $((20 * second)) lines "$run" 12
  read -r -a ranks <"/proc/$launcher/task/$launcher/children"
  kill -STOP "${ranks[$1]}"
  began=$(now)
  { wait "$launcher" || code=$?; } 2>/dev/null
  took=$(($(now) - began))
  if [ "$code" -ne 0 ] || [ "$(grep -c 'are started again' "$run.err")" -ne 1 ]; then
    echo "the launcher ended with code $code: $(tail -n 1 "$run.err")"
    return 1
  fi
  ended "${ranks[@]}" && same "$run"
}
worst=0 well=0
for rank in "${ranks[@]}"; do
  if restart "$rank"; then pass 1 && well=$((well + 1)); else fault "rank $rank was stopped"; fi
  if [ "$took" -gt "$worst" ]; then worst=$took; fi
done
echo "lost: stopped under tunas launch --max-restarts 1, $well of ${#ranks[@]} runs (rank ${ranks[*]}" \
  "of 4): started again and ended in the same bytes, after $(in_seconds "$worst") s at most"

# terminate RANK: SIGTERM to it alone stops all; sets `took`.
terminate() {
  local last
  begin together || return 1
  kill -TERM "${pids[$1]}"
  left_with 75 $((5 * second)) nobody 0 1 2 3 || return 1
  last=$(basename "$(newest "$run")")
  [ $((10#${last#step-})) -eq "$(step "$run")" ] || {
    echo "its last checkpoint is $last"
    return 1
  }
  resumed "$run"
}
worst=0 well=0
for rank in "${ranks[@]}"; do
  if terminate "$rank"; then pass 1 && well=$((well + 1)); else fault "SIGTERM to rank $rank"; fi
  if [ "$took" -gt "$worst" ]; then worst=$took; fi
done
echo "lost: SIGTERM to one rank, $well of ${#ranks[@]} runs (rank ${ranks[*]} of 4): all ended with code" \
  "75 and a checkpoint after $(in_seconds "$worst") s at most; resumed to the same bytes"
finish
