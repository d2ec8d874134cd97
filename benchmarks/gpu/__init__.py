"""The parts of `bash benchmarks/gpu.sh`, one file per part; see docs/gpu.md."""
