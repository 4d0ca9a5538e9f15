#!/usr/bin/env bash
# The common part of dist_train.sh and dist_test.sh: torchrun.sh train CONFIG GPUS [options], or
# torchrun.sh test CONFIG CHECKPOINT GPUS [options].
set -euo pipefail

task=$1
files=$([ "$task" = test ] && echo 2 || echo 1)
if [ $# -lt $((files + 2)) ]; then
    sed -n 's/^#   //p' "$(dirname "$0")/../dist_$task.sh" | head -n 1 >&2
    exit 2
fi
inputs=("${@:2:files}")
gpus=${*:files+2:1}
options=("${@:files+3}")
tools=$(cd "$(dirname "$0")/.." && pwd)

# One thread per process by default, which torchrun itself would set with a warning.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" PYTHONPATH="$tools/..:${PYTHONPATH:-}"
exec "${PYTHON:-python}" -m torch.distributed.run \
    --nnodes="${NNODES:-1}" --node-rank="${NODE_RANK:-0}" \
    --master-addr="${MASTER_ADDR:-127.0.0.1}" --master-port="${PORT:-29500}" \
    --nproc-per-node="$gpus" \
    "$tools/$task.py" "${inputs[@]}" --launcher pytorch "${options[@]}"
