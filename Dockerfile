# Nebulous: one image for `nebu api` and `nebu worker`. Built from a checkout:  docker build --tag nebulous .
# BASE is any Python 3.11 or newer on glibc or musl, such as one of your own registry.
ARG BASE=python:3.12-slim
FROM ${BASE} AS build
WORKDIR /src
RUN python3 -m venv /opt/nebulous
# Dependencies first: they change less often, and every one is pinned with its hash.
COPY requirements.txt ./
RUN /opt/nebulous/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes --requirement requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY nebulous nebulous
COPY activities activities
COPY api api
COPY worker worker
COPY workflows workflows
RUN /opt/nebulous/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps .

ARG BASE=python:3.12-slim
FROM ${BASE}
ENV PATH=/opt/nebulous/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    NEBU_HOST=0.0.0.0 NEBU_PORT=3000 NEBU_DATA_DIR=/data
COPY --from=build /opt/nebulous /opt/nebulous
# A user of our own; the volume takes over the owner of this folder when it is first used.
RUN mkdir -p /data/archive && chown -R 10001:10001 /data && chmod 700 /data
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 3000
ENTRYPOINT ["nebu"]
CMD ["api"]
