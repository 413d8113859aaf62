# The model server, with what the models of the `inference` runtime may import (requirements/modelserver.in).
#
#   docker build -f deploy/docker/modelserver.Dockerfile -t moorage/modelserver .
#   docker run -v ./model:/model:ro -p 8080:8080 moorage/modelserver modelserver --model-path /model --name churn --version 1
#   docker run … moorage/modelserver modelserver.pull …     fetches a model, as the first step of a replica
FROM docker.io/library/debian:bookworm-slim AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3-venv \
 && python3 -m venv /tmp/pip \
 && python3 -m venv --without-pip /opt/moorage
COPY requirements/modelserver.lock /tmp/
RUN /tmp/pip/bin/pip --python /opt/moorage/bin/python install --require-hashes --only-binary :all: \
    -r /tmp/modelserver.lock
COPY modelserver /app/modelserver
# The filesystem is read-only where it runs, so this cannot be made up for; and no clock has a say in what is stale.
RUN /opt/moorage/bin/python -m compileall -q --invalidation-mode unchecked-hash /app

FROM docker.io/library/debian:bookworm-slim
# libgomp is for models whose library brings none of its own, as XGBoost's and LightGBM's do not.
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates libgomp1 python3 \
 && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/moorage /opt/moorage
COPY --from=build /app /app
WORKDIR /app
ENV PATH=/opt/moorage/bin:/usr/bin:/bin PYTHONPATH=/app PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/tmp \
    MOORAGE_HOST=0.0.0.0 MOORAGE_PORT=8080
USER 10001:10001
EXPOSE 8080
ENTRYPOINT ["python", "-m"]
CMD ["modelserver"]
