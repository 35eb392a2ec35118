#!/bin/bash
#SBATCH --job-name=t2g
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=48
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@600
# One command on a Ray cluster of all nodes of a Slurm job:
#
#   sbatch configs/slurm.sh t2g grpo configs/cluster_8x.yaml run_dir=/shared/runs/first
#
# Submit it from a checkout in a folder that all nodes see, with the environment of `make setup`
# active: Slurm passes that environment on. Ten minutes before the time is over the run is asked to
# end, and writes a checkpoint; the same command with resume=auto goes on.
set -euo pipefail

[ $# -gt 0 ] || { echo "slurm.sh needs a command, such as: t2g grpo CONFIG run_dir=FOLDER" >&2; exit 2; }

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]}
address=$(getent ahostsv4 "$head" | awk '{ print $1; exit }')
# Ports and folders of this job, since a node may be shared with others.
port=$((20000 + SLURM_JOB_ID % 20000))
folder=/tmp/ray-$SLURM_JOB_ID
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN
RAY_AUTH_TOKEN=$(python -c "import secrets; print(secrets.token_hex(32))")
# An address from before would be another cluster's.
unset RAY_ADDRESS

steps=()
run=
is_stopped=
# shellcheck disable=SC2329 # the trap calls it
stop_nodes() {
    [ ${#steps[@]} -eq 0 ] || kill "${steps[@]}" 2>/dev/null || true
    wait || true
}
trap stop_nodes EXIT
# The run ends between two steps, with a checkpoint.
trap 'is_stopped=1; [ -z "$run" ] || kill -TERM "$run" 2>/dev/null || true' TERM INT

start_node() { # HOST ARGUMENTS...
    local host=$1
    shift
    srun --nodes=1 --ntasks=1 --nodelist="$host" ray start "$@" --block --disable-usage-stats \
        --num-cpus="${SLURM_CPUS_PER_TASK:-1}" --dashboard-agent-listen-port=0 &
    steps+=($!)
}

start_node "$head" --head --node-ip-address="$address" --port="$port" --include-dashboard=false \
    --temp-dir="$folder"
for host in "${nodes[@]:1}"; do
    start_node "$host" --address="$address:$port"
done

export RAY_ADDRESS=$address:$port
python - "${#nodes[@]}" <<'PYTHON'
import sys
import time

import ray

wanted, end = int(sys.argv[1]), time.monotonic() + 300
while True:
    try:
        ray.init(logging_level="ERROR", log_to_driver=False)
        there = sum(node["Alive"] for node in ray.nodes())
    except ConnectionError:
        there = 0
    if there >= wanted:
        break
    if time.monotonic() > end:
        sys.exit(f"all {wanted} nodes must join within 300 s, found {there}; see the log above")
    ray.shutdown()
    time.sleep(2)
PYTHON

"$@" &
run=$!
status=0
wait "$run" || status=$?
# A signal ended the first wait and not the run.
[ -z "$is_stopped" ] || { status=0; wait "$run" || status=$?; }
exit "$status"
