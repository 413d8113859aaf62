# Stands in for the base image that our Dockerfiles name, where no image registry can be reached: Debian by debootstrap.
FROM scratch
ADD base.tar /
# pip trusts whom this machine trusts: the bundle is this machine's.
ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt PIP_DISABLE_PIP_VERSION_CHECK=1
CMD ["bash"]
