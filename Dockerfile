# Training and prediction on NVIDIA GPUs; how to run it, with data mounted: docs/scaling.md, "In a container".
#   docker build -t blda .
ARG BASE=pytorch/pytorch:2.6.0-cuda12.4-cudnn9-runtime
FROM ${BASE}

# Triton compiles the kernels of the balanced loss when they are first called, and needs a C compiler for it.
# hadolint ignore=DL3008
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*

ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_BREAK_SYSTEM_PACKAGES=1 \
    PYTHONUNBUFFERED=1

COPY pyproject.toml setup.py README.md LICENSE /opt/blda/
COPY blda /opt/blda/blda
COPY blda_video /opt/blda/blda_video
COPY configs /opt/blda/configs
# The torch of the base image fits its CUDA, so pip must keep it.
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN python -m pip list --format=freeze | grep -E '^(torch|torchvision)==' > /opt/blda/torch.txt \
    && python -m pip install -c /opt/blda/torch.txt '/opt/blda[weights]' \
    && blda --version

# Not root; any user of `docker run --user` can write the caches of compiled kernels and of downloads, and the runs.
ENV HOME=/tmp
RUN useradd --non-unique --uid 1000 blda \
    && mkdir -p /workspace/data /workspace/runs /workspace/weights \
    && chmod -R a+rwX /workspace
USER 1000
WORKDIR /workspace

ENTRYPOINT ["blda"]
CMD ["--help"]
