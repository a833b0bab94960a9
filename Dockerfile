# docker build -t limn . && docker run -p 3000:3000 -e LIMN_DATABASE_URL=… -e LIMN_SECRET=… -v limn:/var/lib/limn limn
FROM rust:1.95-bookworm AS build
# The image's own Rust, instead of a newer one that rust-toolchain.toml would fetch.
ENV RUSTUP_TOOLCHAIN=1.95.0
WORKDIR /src
COPY . .
RUN container/build.sh && container/check.sh target/release/limn && mkdir -p /image/var/lib/limn

# The C library and certificates, no shell; the user `nonroot` has the id 65532.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /src/target/release/limn /usr/local/bin/limn
COPY --from=build --chown=65532:65532 /image/var/lib/limn /var/lib/limn
USER 65532:65532
ENV LIMN_STORAGE_DIR=/var/lib/limn
VOLUME /var/lib/limn
EXPOSE 3000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s CMD ["limn", "health"]
ENTRYPOINT ["limn"]
CMD ["serve"]
