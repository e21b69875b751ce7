# shellcheck shell=bash
# Everything that differs between clusters. Sourced by the job scripts, by setup.sh, by
# hydra/launcher=euler and by you after login; copy and edit it for another cluster.
# These are the values for ETH's Euler.

# Software. Login nodes and compute nodes have the same modules; eth_proxy gives network.
TRIDENT_MODULES="stack/2024-06 python_cuda/3.11.6 eth_proxy"

# The virtual environment: home (50 GB, 500k files) or project space. Not scratch: files there are
# deleted after two weeks, which would hollow it out.
export TRIDENT_VENV="${TRIDENT_VENV:-$HOME/.venvs/trident}"

# Downloaded weights and data: scratch (2.5 TB). They can be fetched again at any time.
export HF_HOME="${HF_HOME:-${SCRATCH:-/cluster/scratch/$USER}/huggingface}"

# The GPU that hydra/launcher=euler asks for, a type of `sinfo -o %G`; any takes what is free.
export TRIDENT_GPU="${TRIDENT_GPU:-rtx_3090}"

# The host that a tunnel goes through.
export TRIDENT_LOGIN_HOST="${TRIDENT_LOGIN_HOST:-euler.ethz.ch}"

if [ -z "${TRIDENT_NO_MODULES:-}" ] && command -v module >/dev/null; then
  # shellcheck disable=SC2086  # one word per module
  module load $TRIDENT_MODULES
fi
if [ -f "$TRIDENT_VENV/bin/activate" ]; then
  # shellcheck disable=SC1091
  source "$TRIDENT_VENV/bin/activate"
fi
