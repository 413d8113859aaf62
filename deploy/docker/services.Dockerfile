# The services, one image for all: what runs in a container is said by its arguments.
#
#   docker build -f deploy/docker/services.Dockerfile -t moorage/services .
#   docker run moorage/services services.registry      or services.deployer, services.gateway, services.metrics,
#                                                       services.gateway.snapshot, shared.bus.replay, migrations up
FROM docker.io/library/debian:bookworm-slim AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3-venv \
 && python3 -m venv /tmp/pip \
 && python3 -m venv --without-pip /opt/moorage
COPY requirements/services.lock /tmp/
RUN /tmp/pip/bin/pip --python /opt/moorage/bin/python install --require-hashes --only-binary :all: \
    -r /tmp/services.lock
COPY docs/openapi.json docs/errors.md /app/docs/
COPY migrations /app/migrations
COPY shared /app/shared
COPY services /app/services
# The filesystem is read-only where it runs, so this cannot be made up for; and no clock has a say in what is stale.
RUN /opt/moorage/bin/python -m compileall -q --invalidation-mode unchecked-hash /app

FROM docker.io/library/debian:bookworm-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates python3 \
 && rm -rf /var/lib/apt/lists/* \
 && install -d -o 10001 -g 10001 /data
# /data is for a volume: one that is made there is then ours to write to.
COPY --from=build /opt/moorage /opt/moorage
COPY --from=build /app /app
WORKDIR /app
ENV PATH=/opt/moorage/bin:/usr/bin:/bin PYTHONPATH=/app PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/tmp \
    MOORAGE_HOST=0.0.0.0 MOORAGE_PORT=8080 MOORAGE_XDS_HOST=0.0.0.0
USER 10001:10001
EXPOSE 8080
ENTRYPOINT ["python", "-m"]
CMD ["services.registry"]
