#!/usr/bin/env bash
# Everything that needs a GPU, in one command: tests, costs, step times, contracts, training on real images.
#   bash benchmarks/gpu.sh [OUT]               on a machine with an NVIDIA GPU, 7 minutes (docs/gpu.md)
#   bash benchmarks/gpu.sh --rehearse [OUT]    the same at toy size on a CPU
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-$(if [ -x "$root/.venv/bin/python" ]; then echo "$root/.venv/bin/python"; else command -v python3; fi)}
export PYTHONPATH="$root:$root/benchmarks:$root/tools:$root/tests:$root/tests/support${PYTHONPATH:+:$PYTHONPATH}"
exec "$python" -m gpu "$@"
