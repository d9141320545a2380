#!/usr/bin/env bash
#SBATCH --job-name=hebbcore
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=8       # one process for each GPU
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=12        # threads that decode images
#SBATCH --time=08:00:00
#SBATCH --signal=TERM@120         # two minutes before the end: all finish the step, save and exit
#SBATCH --requeue                 # and the same command goes on
set -euo pipefail
config=${1:?usage: sbatch slurm.sh CONFIG.toml RUN}
run=${2:?usage: sbatch slurm.sh CONFIG.toml RUN}

export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1} OPENBLAS_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}
status=0
srun --kill-on-bad-exit=1 --mpi=pmix python -m mpi4py -m hebbcore train "$config" --out "$run" || status=$?
if [ "$status" -eq 143 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
