#!/usr/bin/env bash
# What only a GPU can answer, in at most 9 minutes of one H100 or H200, as one table and JSON.
#
#   benchmarks/gpu.sh [OUT]        needs JAX with CUDA, flax, optax, orbax, scipy, jaxtyping; PyTorch to compare with
#   benchmarks/gpu.sh --dry [OUT]  the same parts at tiny sizes on a CPU: shows that they run
#
# Each part is a process of its own with a time limit. One that fails or runs too long leaves its log, and the others
# run. OUT (default: benchmarks/results/gpu) gets gpu.md, a JSON file for each part, and log.txt.
set -uo pipefail
cd "$(dirname "$0")/.."
dry= patience=1
[[ ${1:-} == --dry ]] && { dry=--dry patience=4; shift; export JAX_PLATFORMS=cpu; }
out=${1:-benchmarks/results/gpu}
mkdir -p "$out"
rm -f "$out"/{bench,decoding}.{md,json} "$out/gpu.md"
: > "$out/log.txt"
export PYTHONPATH=$PWD XLA_PYTHON_CLIENT_PREALLOCATE=false
[[ $dry ]] || export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$out/compiled}
torch=()
[[ ! $dry ]] && python -c 'import torch' 2> /dev/null && torch=(--torch-python python)
failed=0

part() { # SECONDS NAME COMMAND ...
  local limit=$(($1 * patience)) name=$2 begin=$SECONDS
  shift 2
  echo "== $name" >> "$out/log.txt"
  timeout -k 10 "$limit" "$@" >> "$out/log.txt" 2>&1 || { echo "$name: ended with exit code $? (log.txt)"; failed=1; }
  echo "$name: $((SECONDS - begin)) s"
}

part 380 steps python -m mdlm_jax bench --suite "$([[ $dry ]] && echo smallest || echo gpu)" "${torch[@]}" --out "$out"
part 150 decoding python benchmarks/gpu_decoding.py $dry --out "$out"
for name in bench decoding; do [[ -e $out/$name.md ]] && { cat "$out/$name.md"; echo; }; done > "$out/gpu.md"
cat "$out/gpu.md"
exit $failed
