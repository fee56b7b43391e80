# Backbench without a GPU:
#   docker build --tag backbench .
#   docker run --rm --volume "$PWD:/work" backbench run --backbone gloma --suite d4rl
# The packages are those of locks/run.txt, with their hashes. TORCH_INDEX has torch's CPU builds.
FROM python:3.12.12-bookworm AS build
WORKDIR /source
COPY . .
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN python -m venv /opt/backbench && PATH="/opt/backbench/bin:$PATH" \
    && sed -n '/^setuptools==/,/[^\\]$/p' locks/run.txt > /tmp/build.txt \
    && pip install --no-cache-dir --require-hashes --no-deps --requirement /tmp/build.txt \
    && pip install --no-cache-dir --require-hashes --no-deps --requirement locks/run.txt \
    && pip install --no-cache-dir --constraint constraints.txt --extra-index-url "$TORCH_INDEX" torch==2.13.0+cpu \
    && pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.12.12-slim-bookworm
COPY --from=build /opt/backbench /opt/backbench
ENV PATH="/opt/backbench/bin:$PATH" OMP_NUM_THREADS=1
RUN useradd --create-home --uid 1000 bench
USER 1000
WORKDIR /work
ENTRYPOINT ["bench"]
