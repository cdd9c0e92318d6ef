#!/usr/bin/env bash
# keep_report.sh OBJECT COMPILER...: compiles and keeps the assembler's report (-Xptxas -v) beside
# the object, for check.sh; everything else that the compiler says goes on as it was.
object=$1
shift
"$@" 2>"$object.report"
status=$?
grep -v '^ptxas info\|^    [0-9]* bytes stack frame\|^$' "$object.report" >&2
exit "$status"
