# mana-llm as an image. tests/house/test_image.py follows these instructions without a container.

FROM python:3.13-slim AS build
WORKDIR /build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
# The pins come first, so that a change of the source alone installs nothing anew.
COPY requirements.txt requirements-build.txt ./
RUN python -m venv --without-pip /opt/mana-llm
RUN python -m pip --python /opt/mana-llm/bin/python install --require-hashes -r requirements.txt
RUN python -m pip install --require-hashes -r requirements-build.txt
COPY LICENSE README.md pyproject.toml ./
COPY src ./src
RUN python -m pip wheel --no-deps --no-build-isolation --wheel-dir dist .
RUN python -m pip --python /opt/mana-llm/bin/python install --no-deps dist/*.whl

FROM python:3.13-slim
COPY --from=build /opt/mana-llm /opt/mana-llm
# An aliases.yaml or providers.yaml mounted here is found without a setting.
WORKDIR /etc/mana-llm
ENV PATH=/opt/mana-llm/bin:$PATH PYTHONUNBUFFERED=1 HOST=0.0.0.0 PORT=3025
# A number, not a name, so that an orchestrator can see that it is not root.
USER 10001:10001
EXPOSE 3025
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=5s --retries=3 CMD ["mana-llm", "health"]
CMD ["mana-llm", "serve"]
