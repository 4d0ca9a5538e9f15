#!/usr/bin/env bash
# Train on a SLURM cluster.
#   tools/slurm_train.sh PARTITION JOB_NAME CONFIG [options of tools/train.py]
# GPUS (4), GPUS_PER_NODE (4), CPUS_PER_TASK (5) and SRUN_ARGS are taken from the environment.
# With REQUEUE=1, in a batch job, it goes on where it stopped, and requeues the job after SIGTERM.
exec "$(dirname "$0")/misc/srun.sh" train "$@"
