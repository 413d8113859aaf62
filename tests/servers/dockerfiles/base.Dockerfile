# Stands in for the base image that our Dockerfiles name, where no image registry can be reached: Debian by debootstrap.
FROM scratch
ADD base.tar /
# As in the real one: apt leaves no caches behind.
RUN echo 'Dir::Cache::pkgcache ""; Dir::Cache::srcpkgcache "";' > /etc/apt/apt.conf.d/docker-clean
# pip trusts whom this machine trusts: the bundle is this machine's.
ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt PIP_DISABLE_PIP_VERSION_CHECK=1
CMD ["bash"]
