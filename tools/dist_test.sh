#!/usr/bin/env bash
# Test on several GPUs of one or more machines, through torchrun.
#   tools/dist_test.sh CONFIG CHECKPOINT GPUS [options of tools/test.py]
# On several machines, set NNODES, NODE_RANK, MASTER_ADDR and PORT on each. Without a GPU, add
#   --cfg-options env_cfg.dist_cfg.backend=gloo
exec "$(dirname "$0")/misc/torchrun.sh" test "$@"
