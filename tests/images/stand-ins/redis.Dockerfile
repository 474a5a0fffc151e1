# Stands in for the official `redis` image: the same user, volume and way to start.
ARG ROOT
FROM ${ROOT}
RUN groupmod --gid 999 redis && usermod --uid 999 redis && \
    mkdir /data && chown redis:redis /data
WORKDIR /data
EXPOSE 6379
CMD ["redis-server"]
