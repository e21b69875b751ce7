#!/usr/bin/env bash
# Set Trident up on the cluster; run it on a login node, from a clone in home or project space.
#
#   scripts/euler/setup.sh                                # the environment
#   scripts/euler/setup.sh --jupyter                      # and JupyterLab, for jupyter.sbatch
#   scripts/euler/setup.sh --prefetch flan_t5_base svamp  # and weights or data of configs/ to scratch
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=scripts/euler/cluster.sh
source "${TRIDENT_CLUSTER:-scripts/euler/cluster.sh}"

case "$TRIDENT_VENV" in
  "${SCRATCH:-/cluster/scratch}"/*)
    echo "Error: TRIDENT_VENV=$TRIDENT_VENV is on scratch, where files are deleted after two weeks;" \
      "choose home or project space." >&2
    exit 2 ;;
esac
packages="torch, lightning, hydra, transformers, peft, open_clip"
if ! "$TRIDENT_VENV/bin/python" -c "import $packages" 2>/dev/null; then
  echo "making the virtual environment $TRIDENT_VENV (some minutes)"
  # Made anew if it was made here: a package whose files were purged still counts as installed.
  if [ -e "$TRIDENT_VENV/.ready" ]; then rm -rf "$TRIDENT_VENV"; fi
fi
make setup VENV="$TRIDENT_VENV" PYTHON="$(command -v python3.11 || command -v python3)"
# shellcheck disable=SC1091
source "$TRIDENT_VENV/bin/activate"

if [ "${1:-}" = --jupyter ]; then
  shift
  python -m pip install "jupyterlab>=4,<5"
fi
if [ "${1:-}" = --prefetch ]; then
  shift
  mkdir -p "$HF_HOME"
  python scripts/euler/prefetch.py "$@"
fi
echo "ready: source scripts/euler/cluster.sh, then for example"
echo "  python train.py -m model=lora,adapter,prefix_tuning hydra/launcher=euler euler.dry_run=true"
