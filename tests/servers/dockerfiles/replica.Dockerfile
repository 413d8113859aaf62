# A replica that behaves as it is told: tests/deployer/platforms/replica_server.py.
FROM docker.io/library/debian:bookworm-slim
COPY replica_server.py /app/
WORKDIR /app
ENV PYTHONDONTWRITEBYTECODE=1 MOORAGE_HOST=0.0.0.0 MOORAGE_PORT=8080
USER 10001:10001
EXPOSE 8080
ENTRYPOINT ["python3", "/app/replica_server.py"]
