# Trains the quickstart, then serves it to a browser:
#   docker build -t playable .                                    # CPU
#   docker build -t playable --build-arg TORCH=cu126 .            # CUDA; run it with --gpus all
#   docker run --rm -p 127.0.0.1:8000:8000 -v "$PWD/outputs:/app/outputs" playable
# The URL with its token is in the output.
FROM python:3.11-slim

# Where PyTorch comes from: cpu, or a CUDA version such as cu126.
ARG TORCH=cpu
WORKDIR /app
COPY requirements.txt ./
RUN pip install --no-cache-dir --extra-index-url "https://download.pytorch.org/whl/${TORCH}" -r requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY config ./config
COPY scripts ./scripts
COPY src ./src
RUN useradd --create-home player && mkdir -p outputs && chown player outputs
USER player
EXPOSE 8000
# The port is open to the container's network only; `docker run -p 127.0.0.1:…` decides who reaches it.
CMD ["sh", "-c", "[ -d outputs/quickstart ] || python src/main.py +experiment=quickstart hydra.run.dir=outputs/quickstart; exec python src/play.py --run outputs/quickstart --web --host 0.0.0.0 --port 8000"]
