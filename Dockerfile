# One image for every role: `docker build -t waybill .`, then `waybill ROLE`.

FROM rust:1.95.0-slim-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --locked --release --package waybill \
    && install -D target/release/waybill /out/waybill \
    && mkdir /out/data

FROM debian:12.12-slim
# Certificates of the outside world, for providers that are reached over TLS.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/waybill /usr/local/bin/waybill
# Where the sandbox keeps its books.
COPY --from=build --chown=10001:10001 /out/data /data
# Nobody in particular, and not root.
USER 10001:10001
ENTRYPOINT ["waybill"]
CMD ["--help"]
