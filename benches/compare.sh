#!/usr/bin/env bash
# What a turn costs: `seq run -d x -- true` beside `flock FILE true` and `true` alone, on a warm daemon; and the first
# run, which has to start the daemon, beside the second.
#
#     benches/compare.sh [--rounds N] [--runs N] [--json FILE]
#
# One command does it all: it builds the release, works in a home of its own with a daemon of its own, and ends that
# daemon. Each round measures all three one after the other, so that what else the machine does meets all of them;
# the figures are the medians over the rounds of hyperfine's medians in each.
set -euo pipefail
cd "$(dirname "$0")/.."

rounds=7 runs=300 json=
while [ $# -gt 0 ]; do
    case $1 in
        --rounds) rounds=$2 && shift 2 ;;
        --runs) runs=$2 && shift 2 ;;
        --json) json=$(realpath -m "$2") && shift 2 ;;
        *) echo "usage: benches/compare.sh [--rounds N] [--runs N] [--json FILE]" >&2 && exit 2 ;;
    esac
done

for tool in hyperfine flock awk; do
    if ! command -v "$tool" >/dev/null; then
        echo "compare.sh: $tool is missing: apt-get install hyperfine util-linux mawk (or: cargo install hyperfine)" >&2
        exit 1
    fi
done

cargo build --release --locked --quiet
seq=$(realpath "${CARGO_TARGET_DIR:-target}/release/seq")

HOME=$(mktemp -d /tmp/seq-bench-XXXXXX)
export HOME
unset SEQ_SOCKET XDG_STATE_HOME CI
tidy() {
    "$seq" stop >/dev/null 2>&1 || true
    rm -rf "$HOME"
}
trap tidy EXIT
cd "$HOME"

# Measures the commands given, in this order, and adds a line "NAME SECONDS" for each to the file $samples.
samples=$HOME/samples
measure() {
    local prepare=$1 count=$2
    shift 2
    local options=(--shell=none --style=none --runs "$count" --export-csv "$HOME/round.csv")
    if [ -n "$prepare" ]; then options+=(--prepare "$prepare"); else options+=(--warmup 20); fi
    local names=()
    while [ $# -gt 0 ]; do
        names+=("$1")
        options+=(--command-name "$1" "$2")
        shift 2
    done
    hyperfine "${options[@]}" >"$HOME/hyperfine.log" 2>&1 || { cat "$HOME/hyperfine.log" >&2 && exit 1; }
    # The columns: command, mean, stddev, median, user, system, min, max.
    awk -F, 'NR > 1 { print $1, $4 }' "$HOME/round.csv" >>"$samples"
}

"$seq" run -d x -- true
for round in $(command seq "$rounds"); do
    measure '' "$runs" true true flock "flock $HOME/lock true" seq "$seq run -d x -- true"
    measure "$seq stop" 20 first "$seq run -d x -- true"
    measure '' 20 second "$seq run -d x -- true"
    echo "round $round of $rounds" >&2
done

sort -k1,1 -k2,2g "$samples" | awk -v json="$json" '
    { value[$1, ++count[$1]] = $2 * 1000 }
    function median(name) { return value[name, int((count[name] + 1) / 2)] }
    END {
        t = median("true"); f = median("flock"); s = median("seq"); first = median("first"); second = median("second")
        printf "true                  %8.3f ms\n", t
        printf "flock FILE true       %8.3f ms\n", f
        printf "seq run -d x -- true  %8.3f ms   %.2f times flock (at most 1.30 wanted)\n", s, s / f
        printf "first run             %8.3f ms   %.1f ms more than the second (at most 50 wanted)\n", first, first - second
        if (json != "")
            printf "{\"true_ms\":%.4f,\"flock_ms\":%.4f,\"seq_ms\":%.4f,\"seq_to_flock\":%.4f,\"first_ms\":%.4f,\"second_ms\":%.4f,\"start_ms\":%.4f}\n", \
                t, f, s, s / f, first, second, first - second >json
    }'
