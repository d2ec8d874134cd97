#!/usr/bin/env bash
# Train on several nodes under SLURM. The job saves before its time is over, requeues itself and continues.
#   sbatch examples/slurm_train.sh CONFIG [VARIANT] [key=value ...]
#   sbatch --nodes=1 --ntasks-per-node=8 --gpus-per-node=8 examples/slurm_train.sh gta2cs hrda training.batch=1
#SBATCH --job-name=blda
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4       # one for each GPU
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=9         # training.workers for the source, as many for the target, and one
#SBATCH --time=24:00:00
#SBATCH --requeue                 # what SLURM pre-empts, it starts again
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@300       # 5 minutes before the time is over, to this script
set -euo pipefail

export MASTER_ADDR MASTER_PORT
MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))

# srun starts the processes itself, with no launcher between them and its signals: a launcher kills what has not stopped
# within 30 seconds, in the middle of an evaluation for example.
# shellcheck disable=SC2016  # the variables are each task's own
srun --kill-on-bad-exit=1 --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" bash -c '
    export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID WORLD_SIZE=$SLURM_NTASKS
    exec "${PYTHON:-python}" -m blda_video.commands.train "$@" --resume
' train "$@" &
training=$!

# SIGUSR1: the time is nearly over. SIGTERM: pre-emption, after which SLURM requeues the job, or scancel. Both reach every
# process, which finishes its step and saves.
stopped=
trap 'stopped=USR1; kill -USR1 "$training"' USR1
trap 'stopped=TERM; kill -TERM "$training"' TERM

code=0
wait "$training" || code=$?
while [[ -n $stopped ]] && kill -0 "$training" 2> /dev/null; do # wait returns when a trap has run
    code=0
    wait "$training" || code=$?
done
if [[ $stopped == USR1 && $code == 0 ]]; then scontrol requeue "$SLURM_JOB_ID"; fi
exit "$code"
