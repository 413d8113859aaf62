# Holds a pod's network namespace, and does nothing.
FROM scratch
COPY busybox /bin/busybox
USER 65534:65534
ENTRYPOINT ["/bin/busybox", "tail", "-f", "/dev/null"]
