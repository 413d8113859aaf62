# Says of no user that it runs as, so it is root's.
FROM scratch
COPY busybox /bin/busybox
ENTRYPOINT ["/bin/busybox", "sh", "-c", "id; exec mkdir /var"]
