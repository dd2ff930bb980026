# What stands in for the image rust on Docker Hub; stand-ins.sh builds it.
ARG BASE
FROM ${BASE}
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates gcc g++ libc6-dev openssl \
    && rm -rf /var/lib/apt/lists/*
COPY rust /usr/local/rust
COPY tools /usr/local/cargo/bin
ENV CARGO_HOME=/usr/local/cargo PATH=/usr/local/cargo/bin:/usr/local/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# One that was built for a younger Debian does not run here; the image that needs it builds it.
RUN cd /usr/local/cargo/bin && for tool in *; do "./$tool" "${tool#cargo-}" --version >/dev/null 2>&1 || rm -f "$tool"; done
