# Nebulous: one image for `nebu api` and `nebu worker`. Built from a checkout:  docker build --tag nebulous .
#
# BASE is any Python 3.11 or newer on glibc or musl, such as one of your own registry. Packages come from the index that
# pip knows; another one is named by --build-arg PIP_INDEX_URL=…, and none is asked with wheels in a folder `wheels`, made
# by the same version of Python:
#   pip download --dest wheels --require-hashes --requirement requirements.txt && pip download --dest wheels hatchling
#   docker build --build-arg PIP_NO_INDEX=1 --tag nebulous .
# (Arguments are seen in the history of the first stage, which nobody pushes, and not in the image.)
ARG BASE=python:3.12-slim
FROM ${BASE} AS build
ARG PIP_INDEX_URL
ARG PIP_NO_INDEX
ENV PIP_FIND_LINKS=/wheels PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
RUN python3 -m venv /opt/nebulous
# Dependencies first: they change less often, and every one is pinned with its hash.
COPY requirements.txt wheel[s] /wheels/
RUN /opt/nebulous/bin/pip install --require-hashes --requirement /wheels/requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY nebulous nebulous
COPY activities activities
COPY api api
COPY worker worker
COPY workflows workflows
RUN /opt/nebulous/bin/pip install --no-deps . && python3 -m compileall -q /opt/nebulous

FROM ${BASE}
ENV PATH=/opt/nebulous/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    NEBU_HOST=0.0.0.0 NEBU_PORT=3000 NEBU_DATA_DIR=/data \
    USER=nebulous HOME=/data
COPY --from=build /opt/nebulous /opt/nebulous
# A user of our own; the volume takes over the owner of this folder when it is first used.
RUN mkdir -p /data/archive && chown -R 10001:10001 /data && chmod 700 /data
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 3000
ENTRYPOINT ["nebu"]
CMD ["api"]
