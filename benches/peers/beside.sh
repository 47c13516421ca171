#!/bin/bash
# Landline beside Kamailio and rtpengine, in turn, run for run; prints the
# ratios. beside.sh [stage ...]; stages: register wss call media
# talk memory overload.
# Environment: REPS (3), SECS (6), PATIENCE (how many seconds to wait for a
# quiet machine, 240), TRIES (4). About 20 minutes on a quiet machine.
set -u
cd "$(dirname "$0")"
REPS=${REPS:-3} SECS=${SECS:-6}
export KAM_CHILDREN=1
rm -f results/beside.jsonl
both() { # both PEER SUBCOMMAND ARGUMENTS...
	local peer=$1; shift
	for _ in $(seq "$REPS"); do
		for server in landline "$peer"; do
			./bench.py "$@" --server "servers/$server" --reps 1 --secs "$SECS" \
				--patience "${PATIENCE:-240}" --tries "${TRIES:-4}" --label beside --out beside || exit 1
		done
	done
}
for stage in ${*:-register wss call media talk memory overload}; do
	case $stage in
	register)
		export BENCH_USERS=10000
		both kamailio sip --profile register --rate 1500
		both kamailio sip --profile register --rate 4000 ;;
	wss)
		export BENCH_USERS=10000
		both kamailio wss --rate 1500
		both kamailio wss --rate 4000 ;;
	call)
		export BENCH_USERS=10000
		both kamailio sip --profile call-media-auth --rate 100
		both kamailio sip --profile call-media-auth --rate 200 ;;
	media)
		for mode in rtp sdes dtls; do
			both rtpengine media --mode $mode --sessions 200
		done
		both rtpengine media --mode rtp --sessions 500
		both rtpengine media --mode sdes --sessions 500 ;;
	talk)
		for codecs in PCMU:PCMA PCMU:G722 PCMU:opus; do
			both rtpengine talk --codecs $codecs --sessions 50
		done ;;
	memory)
		export BENCH_USERS=20000
		for server in landline kamailio; do
			./bench.py memory --server servers/$server --profile call-media-auth --users 20000 \
				--calls 1000 --rate 80 --patience "${PATIENCE:-240}" --out beside
		done ;;
	overload) # ten times what each carries, found first
		export BENCH_USERS=10000
		for server in landline kamailio; do
			most=$(./bench.py sip --server servers/$server --profile call-media-auth --search --search-secs 4 \
				--rate 600 --reps 0 --patience "${PATIENCE:-240}" --out beside | tee /dev/stderr |
				sed -n 's/^highest clean rate: \([0-9]*\).*/\1/p')
			./bench.py overload --server servers/$server --rate "$most" --secs 4 \
				--patience "${PATIENCE:-240}" --out beside
		done ;;
	*) echo "stage $stage? register, wss, call, media, talk, memory or overload" >&2; exit 2 ;;
	esac
done
./bench.py beside
