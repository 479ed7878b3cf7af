# sitegenctl with all deployment extras: the console, the reference worker for Celery and RQ, the live view for
# browsers, and the metrics. Build it with: docker build --tag sitegenctl .
FROM python:3.13-slim AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY completions completions
COPY sitegenctl sitegenctl
# Compile the bytecode now: the user that runs it cannot write there.
RUN python -m venv /opt/sitegenctl \
    && /opt/sitegenctl/bin/pip install '.[metrics,rq,web]' \
    && /opt/sitegenctl/bin/pip uninstall --yes pip

FROM python:3.13-slim

# The owner of the sites volume. Change it with: docker build --build-arg UID=1000
ARG UID=10001
RUN useradd --uid "$UID" --create-home --shell /usr/sbin/nologin sitegenctl \
    && install --directory --owner=sitegenctl --group=sitegenctl /app/generated_sites /var/lib/sitegenctl
COPY --from=build /opt/sitegenctl /opt/sitegenctl
ENV PATH=/opt/sitegenctl/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SITES_BASE_DIR=/app/generated_sites
USER $UID
WORKDIR /app
CMD ["sitegenctl", "inspect"]
