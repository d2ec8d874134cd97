"""The parts of `bash benchmarks/gpu.sh`, one file each; see docs/gpu.md."""
