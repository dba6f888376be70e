# What Nomad's docker and podman drivers start where they would start Envoy's image. First `make build`;
# `make image` makes the same without an engine. User 101 is Envoy's, which Nomad takes a transparent proxy to have.
FROM scratch
COPY bin/serai /envoy
USER 101:101
ENTRYPOINT ["/envoy"]
