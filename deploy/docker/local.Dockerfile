# The deployer for a machine without a cluster: its replicas are processes beside it, so the model server, and what the
# models of the `inference` runtime may import, are in the same image. Elsewhere it is services.Dockerfile's.
#
#   docker build -f deploy/docker/local.Dockerfile -t moorage/local .
#   docker run moorage/local services.deployer
FROM docker.io/library/debian:bookworm-slim AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3-venv \
 && python3 -m venv /tmp/pip \
 && python3 -m venv --without-pip /opt/moorage
COPY requirements/services.lock requirements/modelserver.lock /tmp/
RUN /tmp/pip/bin/pip --python /opt/moorage/bin/python install --no-cache-dir --require-hashes --only-binary :all: \
    -r /tmp/services.lock -r /tmp/modelserver.lock
COPY docs/openapi.json docs/errors.md /app/docs/
COPY shared /app/shared
COPY modelserver /app/modelserver
COPY services /app/services
# The filesystem is read-only where it runs, so this cannot be made up for; and no clock has a say in what is stale.
RUN /opt/moorage/bin/python -m compileall -q --invalidation-mode unchecked-hash /app

FROM docker.io/library/debian:bookworm-slim
# libgomp is for models whose library brings none of its own, as XGBoost's and LightGBM's do not.
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates libgomp1 python3 \
 && rm -rf /var/lib/apt/lists/* \
 && install -d -o 10001 -g 10001 /data
COPY --from=build /opt/moorage /opt/moorage
COPY --from=build /app /app
WORKDIR /app
ENV PATH=/opt/moorage/bin:/usr/bin:/bin PYTHONPATH=/app PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/tmp \
    MOORAGE_HOST=0.0.0.0 MOORAGE_PORT=8080
USER 10001:10001
EXPOSE 8080
ENTRYPOINT ["python", "-m"]
CMD ["services.deployer"]
