# docker build -t i4vgen-studio . && docker run -p 7860:7860 i4vgen-studio
# With an NVIDIA GPU: docker run --gpus all -p 7860:7860 i4vgen-studio
FROM python:3.12-slim
RUN useradd --create-home studio
USER studio
WORKDIR /home/studio/app
ENV PATH=/home/studio/.local/bin:$PATH PYTHONUNBUFFERED=1 GRADIO_ANALYTICS_ENABLED=False
COPY --chown=studio requirements.txt .
RUN pip install --user --no-cache-dir -r requirements.txt
COPY --chown=studio . .
EXPOSE 7860
CMD ["python", "app.py", "--host", "0.0.0.0"]
