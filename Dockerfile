# All that a plain install does, on a CPU with ONNX Runtime; training needs an engine more (docs/install.md).
#   docker build -t lffd .
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/data" lffd predict photo.jpg
FROM python:3.12-slim
WORKDIR /opt/lffd
COPY . .
RUN pip install --no-cache-dir --root-user-action=ignore .
# Matplotlib keeps its list of fonts here, whoever runs the container.
ENV MPLCONFIGDIR=/tmp/matplotlib
WORKDIR /data
ENTRYPOINT ["lffd"]
