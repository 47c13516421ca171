#!/bin/bash
# Server under test: Landline.
#   run.sh start PROFILE RUNDIR | stop RUNDIR | mem RUNDIR
# PROFILE: media: the relay alone, its sessions opened through the control
# protocol by relay_legs (SESSIONS and MODE come from bench.py); register, wss,
# call-media-auth: `landline up`, where every call is authenticated, relayed
# and written down.
# Build first: cargo build --release -p landline -p landline-benches --bins
# Environment: SRV_CPUS, SRV_IP, GEN_IP, BENCH_USERS.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
built=${CARGO_TARGET_DIR:-$here/../../../../target}/release
SRV_IP=${SRV_IP:-127.0.11.2}
run() { exec "$here/../../lib/hi" "${SRV_CPUS:-0}" "$@"; }
ready() { # ready COMMAND...: until it succeeds or the server has ended
	for _ in $(seq 300); do
		"$@" > /dev/null 2>&1 && return
		kill -0 "$pid" 2>/dev/null || break
		sleep 0.1
	done
	cat "$rd"/*.log >&2; exit 1
}
case $1 in
start)
	rd=$3; mkdir -p "$rd"; rm -f "$rd/legs.json"
	case $2 in
	media)
		( run "$built/relay_legs" "$rd" > "$rd/relay.log" 2>&1 < /dev/null ) &
		pid=$!; echo $pid > "$rd/pids"
		ready test -f "$rd/legs.json"
		echo "{\"legs\":\"$rd/legs.json\",\"pids\":{\"landline\":$pid}}" ;;
	register|wss|call-media-auth)
		# Thousands of users take a while: made once, copied for each run.
		made=/tmp/landline-bench-region-wss-${BENCH_USERS:-10000}
		if [ ! -d "$made" ]; then
			rm -rf "$made.part"
			"$built/landline" pki init "$made.part/pki" --region ie1 >&2
			"$built/bench_region" "$made.part" "$SRV_IP" "${BENCH_USERS:-10000}" >&2
			mv "$made.part" "$made"
		fi
		cp -r "$made" "$rd/region"
		( run "$built/landline" up --config "$rd/region/config.toml" > "$rd/landline.log" 2>&1 < /dev/null ) &
		pid=$!; echo $pid > "$rd/pids"
		ready python3 -c "import urllib.request as u; u.urlopen('http://$SRV_IP:9090/health')"
		echo "{\"sip\":\"$SRV_IP:5060\",\"wss\":\"$SRV_IP:5063\",\"pids\":{\"landline\":$pid}}" ;;
	*) echo "landline serves no profile $2 here" >&2; exit 1 ;;
	esac ;;
stop)
	pid=$(cat "$2/pids")
	kill "$pid" 2>/dev/null || true
	for _ in $(seq 100); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done ;;
mem) echo '{}' ;;
esac
