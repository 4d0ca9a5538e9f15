#!/usr/bin/env bash
# Train on a SLURM cluster.
#   tools/slurm_train.sh PARTITION JOB_NAME CONFIG [options of tools/train.py]
# Environment variables: GPUS (4), GPUS_PER_NODE (4), CPUS_PER_TASK (5) and SRUN_ARGS.
# REQUEUE=1 in a batch job resumes the training and requeues the job after SIGTERM.
exec "$(dirname "$0")/misc/srun.sh" train "$@"
