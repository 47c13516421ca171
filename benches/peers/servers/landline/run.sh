#!/bin/bash
# Server under test: Landline's relay, its sessions opened through the control
# protocol by relay_legs; SESSIONS and MODE come from bench.py.
#   cargo build --release -p landline-benches --bin relay_legs
set -eu
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../../../.." && pwd)
legs=${LANDLINE_RELAY_LEGS:-${CARGO_TARGET_DIR:-$top/target}/release/relay_legs}
case $1 in
start)
	[ "$2" = media ] || { echo "landline serves no profile $2 here" >&2; exit 1; }
	rd=$3; mkdir -p "$rd"; rm -f "$rd/legs.json"
	( exec "$here/../../lib/hi" "${SRV_CPUS:-0}" "$legs" "$rd" > "$rd/log" 2>&1 < /dev/null ) &
	pid=$!
	echo $pid > "$rd/pids"
	for _ in $(seq 300); do
		[ -f "$rd/legs.json" ] && break
		kill -0 $pid 2>/dev/null || { cat "$rd/log" >&2; exit 1; }
		sleep 0.1
	done
	echo "{\"legs\":\"$rd/legs.json\",\"pids\":{\"landline\":$pid}}"
	;;
stop) kill "$(cat "$2/pids")" 2>/dev/null || true ;;
mem) echo '{}' ;;
esac
