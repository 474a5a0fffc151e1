# Stands in for the official `rust` image.
ARG ROOT
FROM ${ROOT}
