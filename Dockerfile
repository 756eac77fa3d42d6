# The server, as one process of several: docs/deployment.md#with-docker tells how to run it.

FROM python:3.11-bookworm AS packages
RUN python -m venv /venv
WORKDIR /build
COPY requirements/runtime.txt .
RUN /venv/bin/pip install --no-cache-dir --require-hashes -r runtime.txt

FROM python:3.11-slim-bookworm
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin colloquy \
    && install -d -o colloquy -g colloquy -m 700 /data
COPY --from=packages /venv /venv
WORKDIR /app
COPY . .
RUN python -m compileall -q .

ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 DATA_DIR=/data PORT=8000
USER 10001:10001
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["python", "deploy/healthcheck.py"]

# Running replies finish first: let the grace period be longer than CHAT_DRAIN_SECONDS and the 15 seconds after that.
STOPSIGNAL SIGTERM

# Migrate first, and after each update: `python manage.py set_up` in this image.
CMD ["sh", "-c", "exec daphne -v 0 -b 0.0.0.0 -p \"$PORT\" config.asgi:application"]
