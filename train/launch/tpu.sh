#!/bin/bash
# A run on a slice of TPUs, started from your own machine: TPU=NAME ZONE=ZONE train/launch/tpu.sh
# The slice's machines find each other; run and data lie in a bucket, as no machine sees another one's disk.
set -euo pipefail
: "${TPU:?the name of the slice}" "${ZONE:?its zone}"

on_all() {
  gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker=all --command="$1"
}

on_all "test -d jaxgen || git clone REPOSITORY jaxgen; cd jaxgen && python3 -m venv .venv && .venv/bin/pip install -q '.[tpu,gcs]'"
on_all "cd jaxgen && . .venv/bin/activate && python -m train.diffusion --preset edm --data.source folder:gs://BUCKET/DIR --mesh.data 4 --mesh.fsdp 4 --compute.precision bf16 --out gs://BUCKET/RUN"
