#!/usr/bin/env bash
# Train on several GPUs of one or more machines, through torchrun.
#   tools/dist_train.sh CONFIG GPUS [options of tools/train.py]
# On several machines, set NNODES, NODE_RANK, MASTER_ADDR and PORT on each. Without a GPU, add
#   --cfg-options env_cfg.dist_cfg.backend=gloo
exec "$(dirname "$0")/misc/torchrun.sh" train "$@"
