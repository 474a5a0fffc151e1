# Stands in for the official `postgres` image: the same user, volume, variables and way to start.
ARG ROOT
FROM ${ROOT}
ENV PGDATA=/var/lib/postgresql/data
COPY postgres-entrypoint /usr/local/bin/docker-entrypoint.sh
RUN groupmod --gid 999 postgres && usermod --uid 999 postgres && \
    ln -s /usr/lib/postgresql/*/bin/* /usr/local/bin/ && \
    rm -rf /var/lib/postgresql/* && mkdir -p "$PGDATA" /var/run/postgresql && \
    chown -R postgres:postgres /var/lib/postgresql /var/run/postgresql && chmod 1777 "$PGDATA"
STOPSIGNAL SIGINT
EXPOSE 5432
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["postgres"]
