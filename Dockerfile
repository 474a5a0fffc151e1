# The images of the services and of the checker: one build stage, then one target for each image
# that holds the static binary and nothing else. Needs BuildKit. docs/images.md has the commands.

ARG RUST_IMAGE=rust:1.95.0-slim-bookworm

# The compiler runs on the machine that builds, whatever the image is for: no emulation. (A builder
# without BuildKit does not know that platform, and should get as far as saying what it misses.)
FROM --platform=${BUILDPLATFORM:-linux} ${RUST_IMAGE} AS toolchain
# The image's own toolchain, without the components for development that rust-toolchain.toml names.
ENV RUSTUP_TOOLCHAIN=1.95.0
SHELL ["/bin/sh", "-euc"]
# Writes the list of crates into each binary, where vulnerability scanners look for it.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    cargo install cargo-auditable@0.7.7 --locked
ARG BUILDARCH
ARG TARGETARCH
COPY docker/toolchain /usr/local/bin/
RUN toolchain "$BUILDARCH" "$TARGETARCH"

FROM toolchain AS build
WORKDIR /build
COPY . .
# The commit, and its time in seconds since 1970: with both the same, the layers are the same.
ARG REVISION
ARG SOURCE_DATE_EPOCH=0
# How cargo compiles: release is small and fast, dev is there sooner.
ARG PROFILE=release
# The dependencies, and all that did not change since the last build, wait in the cache mounts.
ARG CACHE=build
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target,sharing=locked \
    docker/compile "$TARGETARCH" /out

# The crates of each program, as CycloneDX: docker build --target sbom --output target/sbom .
FROM toolchain AS lists
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    cargo install auditable2cdx@0.1.0 --locked
COPY --from=build /out /out
RUN mkdir /sbom && \
    for program in checker hash_server hello_server persistence_server; do \
        auditable2cdx "/out/$program" >"/sbom/$program.cdx.json"; \
    done

FROM scratch AS sbom
COPY --from=lists /sbom /

# What the four images have in common.
FROM scratch AS image
ARG VERSION=0.1.0
ARG REVISION
# Where the source code is published, as a URL.
ARG SOURCE
LABEL org.opencontainers.image.version=$VERSION \
      org.opencontainers.image.revision=$REVISION \
      org.opencontainers.image.source=$SOURCE \
      org.opencontainers.image.licenses=MIT
# By number, so that Kubernetes can see that it is not root.
USER 65532:65532
STOPSIGNAL SIGTERM

FROM image AS checker
LABEL org.opencontainers.image.title=checker \
      org.opencontainers.image.description="Drives load and proves that no number is repeated or out of order"
COPY --from=build /out/checker /
ENTRYPOINT ["/checker"]

FROM image AS service
# All interfaces: IPv6 and IPv4.
ENV HOST=::

FROM service AS persistence_server
LABEL org.opencontainers.image.title=persistence_server \
      org.opencontainers.image.description="Hands out the next unique integer"
# The system's authorities, for PGSSLROOTCERT=system.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
# A new volume that is mounted here gets this directory's owner and mode, which `COPY` keeps only of
# what is in the directory that it copies. The group is that of a user without an entry in /etc/passwd,
# so any user may write (OpenShift runs each project as another one).
COPY --from=build --chown=65532:0 /out/root /
COPY --from=build /out/persistence_server /
ENV DATA_DIR=/data
EXPOSE 8081
HEALTHCHECK --interval=5s --timeout=5s --start-period=5s --retries=3 \
    CMD ["/persistence_server", "healthcheck"]
ENTRYPOINT ["/persistence_server"]

FROM service AS hash_server
LABEL org.opencontainers.image.title=hash_server \
      org.opencontainers.image.description="Answers with the next unique integer and its SHA-256"
COPY --from=build /out/hash_server /
EXPOSE 8082
HEALTHCHECK --interval=5s --timeout=5s --start-period=5s --retries=3 \
    CMD ["/hash_server", "healthcheck"]
ENTRYPOINT ["/hash_server"]

FROM service AS hello_server
LABEL org.opencontainers.image.title=hello_server \
      org.opencontainers.image.description="Says hello"
COPY --from=build /out/hello_server /
EXPOSE 8080
HEALTHCHECK --interval=5s --timeout=5s --start-period=5s --retries=3 \
    CMD ["/hello_server", "healthcheck"]
ENTRYPOINT ["/hello_server"]
