# A worker for the example pipelines. For your own: install your package here and name its modules after `worker`.
FROM python:3.13-slim

WORKDIR /app
COPY pyproject.toml README.md LICENSE ./
COPY flowq ./flowq
RUN pip install --no-cache-dir ".[fast,media]"
COPY examples ./examples

RUN useradd --create-home flowq
USER flowq
ENTRYPOINT ["flowq"]
CMD ["worker", "examples/pipelines/short_video.py"]
