# Stands in for the official `etcd` image: the same paths and way to start.
ARG ROOT
FROM ${ROOT}
RUN ln -s /usr/bin/etcd /usr/bin/etcdctl /usr/local/bin/ && rm -rf /var/lib/etcd
WORKDIR /var/lib/etcd/
EXPOSE 2379 2380
CMD ["/usr/local/bin/etcd"]
