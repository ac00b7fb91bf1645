# docker build -t i4vgen-studio . && docker run -p 127.0.0.1:7860:7860 -v i4vgen-models:/home/studio/.cache/huggingface i4vgen-studio
# With an NVIDIA GPU: docker run --gpus all ... (docs/serving.md)
FROM python:3.12-slim
RUN useradd --create-home --uid 1000 studio
USER studio
WORKDIR /home/studio/app
ENV PATH=/home/studio/.local/bin:$PATH PYTHONUNBUFFERED=1 GRADIO_ANALYTICS_ENABLED=False
# Models. A named volume that is mounted here becomes this user's, as the folder is.
ENV HF_HOME=/home/studio/.cache/huggingface
RUN mkdir -p "$HF_HOME"
COPY --chown=studio requirements.txt .
RUN pip install --user --no-cache-dir -r requirements.txt
COPY --chown=studio . .
EXPOSE 7860
STOPSIGNAL SIGINT
HEALTHCHECK --start-period=180s --timeout=10s CMD python -c "import os, urllib.request as web; web.urlopen('http://127.0.0.1:' + os.environ.get('GRADIO_SERVER_PORT', '7860'), timeout=9)"
CMD ["python", "app.py", "--host", "0.0.0.0"]
