# Quire's image, for CPUs (--target cpu) and for CUDA (--target cuda). All that Python needs is
# locked in uv.lock; PyTorch's CUDA comes with it, so both stand on the same Debian.
#   docker build --target cuda -t quire:0.1.0-cuda .
ARG PYTHON=3.11.14-slim-bookworm

FROM python:${PYTHON} AS build
ARG UV=0.13.8
RUN pip install --no-cache-dir uv==${UV}
ENV UV_PROJECT_ENVIRONMENT=/opt/quire \
    UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_PYTHON_DOWNLOADS=never
WORKDIR /src
COPY pyproject.toml uv.lock ./

FROM build AS build-cuda
RUN uv sync --frozen --no-dev --extra s3 --no-install-project --no-cache
COPY . .
RUN uv sync --frozen --no-dev --extra s3 --no-editable --no-cache

# PyTorch's own index has the same versions without CUDA, some 5 GB less.
FROM build AS build-cpu
RUN uv export --frozen --no-dev --extra s3 --no-emit-project --no-hashes -o plain.txt -q \
    && grep -oE '^(torch|torchvision)==[0-9.]+' plain.txt | sed 's/$/+cpu/' > torch.txt \
    && grep -oE '^(torch|torchvision|triton|nvidia|cuda)[a-z0-9-]*' plain.txt \
       | sed 's/^/--no-emit-package /' > without.txt \
    && uv export --frozen --no-dev --extra s3 --no-emit-project $(cat without.txt) -o rest.txt -q \
    && uv venv /opt/quire \
    && uv pip install --python /opt/quire --no-cache --no-deps --require-hashes -r rest.txt \
    && uv pip install --python /opt/quire --no-cache --no-deps -r torch.txt \
       --index-url https://download.pytorch.org/whl/cpu
COPY . .
RUN uv pip install --python /opt/quire --no-cache --no-deps .

FROM python:${PYTHON} AS runtime
# wget: KubeRay's probes. libgomp1: LightGBM. The rest reads scanned pages.
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
       libgomp1 tesseract-ocr tesseract-ocr-eng tesseract-ocr-jpn tesseract-ocr-kor wget \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --create-home quire \
    && install -d -o quire -g quire /data /models \
    && ln -s /opt/quire/bin/quire /opt/quire/bin/ray /opt/quire/bin/serve /usr/local/bin/
ENV PATH=/opt/quire/bin:$PATH \
    HF_HOME=/models \
    PYTHONUNBUFFERED=1
USER 1000:1000
WORKDIR /data
# /data: what is indexed, keys, jobs. /models: checkpoints from the Hugging Face hub.
VOLUME ["/data", "/models"]
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 \
    CMD wget -q -O /dev/null http://127.0.0.1:8000/healthz
CMD ["quire", "serve", "--host", "0.0.0.0"]

FROM runtime AS cuda
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=build-cuda /opt/quire /opt/quire

FROM runtime AS cpu
COPY --from=build-cpu /opt/quire /opt/quire
