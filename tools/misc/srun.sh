#!/usr/bin/env bash
# The common part of slurm_train.sh and slurm_test.sh: srun.sh TASK PARTITION JOB_NAME [arguments].
set -euo pipefail

task=$1
files=$([ "$task" = test ] && echo 2 || echo 1)
if [ $# -lt $((files + 3)) ]; then
    sed -n 's/^#   //p' "$(dirname "$0")/../slurm_$task.sh" | head -n 1 >&2
    exit 2
fi
tools=$(cd "$(dirname "$0")/.." && pwd)
gpus=${GPUS:-4}
per_node=${GPUS_PER_NODE:-4}
if [ "$gpus" -lt "$per_node" ]; then
    per_node=$gpus
fi

export PYTHONPATH="$tools/..:${PYTHONPATH:-}"
# SRUN_ARGS is a list of words on purpose.
# shellcheck disable=SC2086,SC2206
command=(srun --partition="$2" --job-name="$3" --gres="gpu:$per_node" --ntasks="$gpus"
    --ntasks-per-node="$per_node" --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1
    ${SRUN_ARGS:-} "${PYTHON:-python}" -u "$tools/$task.py" "${@:4}" --launcher slurm)
if [ "$task" = test ] || [ -z "${REQUEUE:-}" ]; then
    exec "${command[@]}"
fi
# A training that ended by SIGTERM (exit code 143) left a checkpoint, so the job runs again.
trap : TERM
code=0
if [[ " ${*:4} " != *" --resume"* ]]; then
    command+=(--resume)
fi
"${command[@]}" || code=$?
if [ "$code" -eq 143 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
