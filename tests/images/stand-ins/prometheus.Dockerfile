# Stands in for the image of Prometheus.
ARG ROOT
FROM $ROOT
RUN install -d -o 65534 -g 65534 /prometheus
USER 65534:65534
VOLUME /prometheus
ENTRYPOINT ["prometheus"]
