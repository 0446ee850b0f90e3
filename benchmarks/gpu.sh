#!/usr/bin/env bash
# Correctness and speed on a CUDA GPU, in some minutes and without network: bash benchmarks/gpu.sh
#
# Needs a Python with torch >= 2.11, transformers >= 5.17, peft, pandas and what these bring themselves; no Snakemake, no
# model, no data. PYTHON names it; otherwise .venv of the repository is used, otherwise python3. Options go to
# benchmarks/gpu.py (--help lists them), such as --output results.json. The exit status is 0 when every bar is reached or
# there is no GPU, 1 when one is missed, 2 when something is wrong with the options or the Python.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

own=.venv/bin/python
[ -x "$own" ] || own=python3
python=${PYTHON:-$own}
# Asked here, so that not the first of many imports fails. None of the other packages brings pandas.
missing=$("$python" -c 'from importlib.util import find_spec
print(*(name for name in ("torch", "transformers", "peft", "pandas") if find_spec(name) is None))')
if [ -n "$missing" ]; then
  echo "error: $python lacks $missing: $python -m pip install $missing, or name another one with PYTHON=..." >&2
  exit 2
fi
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false TRANSFORMERS_VERBOSITY=error
exec "$python" benchmarks/gpu.py "$@"
