#!/usr/bin/env bash
# check.sh BUILD            holds what the assembler reports for every kernel against budgets.txt
# check.sh --write BUILD    prints a table that fits the build
# check.sh --self-test      shows that each kind of failure is found
#
# BUILD is a build folder with -DTUNAS_CUDA=ON; keep_report.sh left the reports there. budgets.txt
# says what a row means. Exit code 1: a kernel exceeds its row, or a kernel and a row miss each other.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

# Lines `file kernel arch registers shared stack spill` of all reports below folder $1. A name loses
# its namespaces, arguments and the hash of the anonymous namespace; __nv_bfloat16 becomes bf16.
measured() {
  local reports
  mapfile -t reports < <(find "$1" -path '*tunas_cuda.dir*' -name '*.cu.o.report' 2>/dev/null | sort)
  if ((${#reports[@]} == 0)); then
    echo "no report below $1; build it with -DTUNAS_CUDA=ON" >&2
    return 1
  fi
  awk '
    /Compiling entry function/ {
      file = FILENAME
      sub(/.*\//, "", file)
      sub(/\.cu\.o\.report$/, "", file)
      split($0, part, "\047")
      name = part[2]
      arch = part[4]
      stack = spill = 0
    }
    /bytes stack frame/ {
      if ($1 > stack) stack = $1
      spill += $5 + $9
    }
    /: Used [0-9]+ registers/ {
      shared = 0
      for (i = 2; i <= NF; ++i) {
        if ($i ~ /^registers/) registers = $(i - 1)
        if ($i ~ /^smem/) shared = $(i - 2)
      }
      print file, arch, registers, shared, stack, spill, name
    }' "${reports[@]}" | c++filt | sed -E '
      s/\(anonymous namespace\):://g
      s/tunas::kernels::(cuda::)?//g
      s/__nv_bfloat16/bf16/g
      s/ void / /
      s/\(.*//' | awk '{
      name = $7
      for (i = 8; i <= NF; ++i) name = name $i
      print $1, name, $2, $3, $4, $5, $6
    }'
}

# A table: one row a kernel. Registers are rounded up to 8, as the hardware hands them out.
table() {
  awk '
    function up(registers) { return int((registers + 7) / 8) * 8 }
    {
      row = $1 " " $2
      rows[row] = 1
      registers[row, $3] = up($4)
      if ($5 > shared[row]) shared[row] = $5
      if ($6 > stack[row]) stack[row] = $6
      if ($7 > spill[row]) spill[row] = $7
    }
    END {
      for (row in rows) {
        split(row, part, " ")
        line = sprintf("%-19s %-44s %4d %4d %6d", part[1], part[2], registers[row, "sm_80"],
                       registers[row, "sm_90a"], shared[row])
        if (stack[row] || spill[row]) line = line sprintf(" %4d %4d", stack[row], spill[row])
        print line
      }
    }' | LC_ALL=C sort
}

# Compares the table $1 with measured lines on the standard input.
compare() {
  awk -v budgets="$1" '
    function hold(what, value, limit) {
      if (value + 0 <= limit + 0) return
      printf "%s %s on %s: %s %d, budget %d\n", $1, $2, $3, what, value, limit
      bad = 1
    }
    BEGIN {
      while ((getline line < budgets) > 0) {
        if (line ~ /^#/ || split(line, part, " ") < 5) continue
        row = part[1] " " part[2]
        known[row] = 1
        limit[row, "sm_80"] = part[3]
        limit[row, "sm_90a"] = part[4]
        shared[row] = part[5]
        stack[row] = part[6] + 0
        spill[row] = part[7] + 0
      }
    }
    {
      row = $1 " " $2
      if (!(row in seen)) ++count
      seen[row] = 1
      if (!(row in known)) {
        printf "%s on %s: no row in budgets.txt\n", row, $3
        bad = 1
        next
      }
      if (!((row, $3) in limit)) {
        printf "%s on %s: budgets.txt has no column for this architecture\n", row, $3
        bad = 1
        next
      }
      hold("registers", $4, limit[row, $3])
      hold("bytes of static shared memory", $5, shared[row])
      hold("bytes of stack", $6, stack[row])
      hold("bytes spilled", $7, spill[row])
    }
    END {
      for (row in known) {
        if (row in seen) continue
        printf "%s: a row in budgets.txt, but no such kernel\n", row
        bad = 1
      }
      if (count == 0) {
        print "the reports name no kernel"
        bad = 1
      }
      if (bad) exit 1
      printf "%d kernels within budget\n", count
    }'
}

# A doctored report for each way to fail, and one that passes.
self_test() {
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  local folder=$work/build/tunas_cuda.dir
  # report REGISTERS SHARED STACK SPILL
  report() {
    mkdir -p "$folder"
    cat >"$folder/toy.cu.o.report" <<END
ptxas info    : Compiling entry function '_ZN5tunas7kernels4cuda38_GLOBAL__N__7b3f32f4_6_toy_cu_56c320d910toy_kernelI13__nv_bfloat16Li3EEEvPf' for 'sm_80'
ptxas info    : Function properties for toy
    $3 bytes stack frame, $4 bytes spill stores, 0 bytes spill loads
ptxas info    : Used $1 registers, used 1 barriers, $2 bytes smem, 568 bytes cmem[0]
END
  }
  # expect TEXT: what check says of the report and the table.
  expect() {
    local said
    said=$(check "$work/build" "$work/table" 2>&1) || true
    if [[ $said != *"$1"* ]]; then
      echo "self-test: expected '$1', check said '$said'" >&2
      exit 1
    fi
  }
  local row='toy toy_kernel<bf16,3> 40 40 512'
  echo "$row" >"$work/table"
  mkdir -p "$work/build"
  expect 'no report below'
  report 40 512 0 0
  expect '1 kernels within budget'
  report 41 512 0 0
  expect 'toy toy_kernel<bf16,3> on sm_80: registers 41, budget 40'
  report 40 513 0 0
  expect 'bytes of static shared memory 513, budget 512'
  report 40 512 8 0
  expect 'bytes of stack 8, budget 0'
  report 40 512 0 4
  expect 'bytes spilled 4, budget 0'
  report 40 512 0 0
  echo 'toy gone_kernel 8 8 0' >>"$work/table"
  expect 'toy gone_kernel: a row in budgets.txt, but no such kernel'
  : >"$work/table"
  expect 'toy toy_kernel<bf16,3> on sm_80: no row in budgets.txt'
  : >"$folder/toy.cu.o.report"
  expect 'the reports name no kernel'
  echo "budgets: self-test passed"
}

# check BUILD TABLE
check() {
  local lines
  lines=$(measured "$1") || return 1
  printf '%s' "${lines:+$lines$'\n'}" | compare "$2"
}

case ${1:-} in
  --self-test) self_test ;;
  --write) measured "${2:?build folder}" | table ;;
  '' | -*)
    sed -n '2,7s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
  *) check "$1" "$here/budgets.txt" ;;
esac
