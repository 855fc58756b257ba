#!/bin/bash
# A run on two machines of eight GPUs: sbatch train/launch/slurm.sh. A run that was stopped goes on where it was saved.
#SBATCH --job-name=jaxgen
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
# Before the time is over every process gets SIGTERM: the run saves and leaves, and the job is queued again.
#SBATCH --signal=TERM@180
set -uo pipefail

# Copies between devices while they compute.
export XLA_FLAGS="--xla_gpu_enable_latency_hiding_scheduler=true ${XLA_FLAGS:-}"
export XLA_PYTHON_CLIENT_MEM_FRACTION=0.9

srun --kill-on-bad-exit=1 python -m train.diffusion --preset edm --data.source folder:DIR --mesh.data 8 --mesh.fsdp 2 --compute.precision bf16 --out RUN
status=$?
# 143: saved after SIGTERM. Any other status but 0 is a fault, which the next start would meet again.
if [ "$status" -eq 143 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
