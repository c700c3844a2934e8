#!/bin/bash
# One job of a SLURM array for each participant:
#   sbatch --array=1-$(ls -d "$BIDS"/sub-* | wc -l)%50 array.sh
# A job that was killed or ran out of time is sent again by the same line: --resume keeps what is whole.
#SBATCH --cpus-per-task=4
#SBATCH --mem=8G
#SBATCH --time=02:00:00
#SBATCH --output=pellucid-%A_%a.log
set -euo pipefail
: "${BIDS:?folder of the dataset}" "${OUT:?folder of the derivatives}"
subject=$(basename "$(ls -d "$BIDS"/sub-* | sed -n "${SLURM_ARRAY_TASK_ID}p")")
pellucid bids "$BIDS" "$OUT" participant --participant-label "$subject" \
    --omp-nthreads "${SLURM_CPUS_PER_TASK:-4}" --resume --skip-bids-validation
# With Apptainer: apptainer run --cleanenv -B "$BIDS:/data:ro" -B "$OUT:/out" pellucid.sif /data /out participant ...
# When all are done: pellucid bids "$BIDS" "$OUT" group
