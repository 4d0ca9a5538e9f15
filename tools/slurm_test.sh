#!/usr/bin/env bash
# Test on a SLURM cluster.
#   tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [options of tools/test.py]
# Environment variables: GPUS (4), GPUS_PER_NODE (4), CPUS_PER_TASK (5) and SRUN_ARGS.
exec "$(dirname "$0")/misc/srun.sh" test "$@"
