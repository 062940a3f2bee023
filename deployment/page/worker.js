// Runs the network on one picture at a time, beside the page, with onnxruntime-web.
//
// In comes {id, model, bitmap, limits}, out goes {id, width, height, found, seconds, shrunk} or {id, error}.
// `model` is an entry of models.json: its graph takes bytes (1, H, W, 3), BGR, and has decoding and suppression inside.

import * as ort from "./ort.wasm.min.mjs";

// Threads share memory, which browsers allow on pages that are isolated from all others; `serve` sends the headers.
ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency || 1, 8) : 1;
ort.env.wasm.wasmPaths = new URL("./", import.meta.url).href;

const sessions = new Map();

/** Return the session of a model; it is loaded once. */
function sessionOf(model) {
  if (!sessions.has(model.file)) {
    const loading = ort.InferenceSession.create(new URL(model.file, import.meta.url).href, {
      executionProviders: ["wasm"],
      logSeverityLevel: 3,
    });
    loading.catch(() => sessions.delete(model.file));
    sessions.set(model.file, loading);
  }
  return sessions.get(model.file);
}

/** Round as Python does: halves to the even neighbour. */
function round(value) {
  const floor = Math.floor(value);
  return value - floor === 0.5 ? floor + (floor % 2) : Math.round(value);
}

/** Return at which size the network looks at a picture: as `detection.views` says, but never beyond the memory. */
function viewSize(width, height, model, limits) {
  const room = Math.max(1, limits.max_enlarged_side / Math.max(width, height));
  let factor = Math.min(Math.max(1, limits.minimum_side / Math.min(width, height)), room);
  const shrunk = width * height > model.max_pixels;
  if (shrunk) factor = Math.sqrt(model.max_pixels / (width * height));
  return { width: Math.max(1, round(width * factor)), height: Math.max(1, round(height * factor)), shrunk };
}

/** Return the RGBA pixels of a picture drawn at a size on white paper. */
function pixelsOf(bitmap, width, height) {
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width, height);
  return context.getImageData(0, 0, width, height).data;
}

/** Return where bilinear enlargement from `count` to `wanted` samples reads: two neighbours and the second's weight. */
function neighbours(count, wanted) {
  return Array.from({ length: wanted }, (_, index) => {
    const place = Math.min(Math.max(((index + 0.5) * count) / wanted - 0.5, 0), count - 1);
    const first = Math.floor(place);
    return [first, Math.min(first + 1, count - 1), place - first];
  });
}

/** Enlarge RGBA pixels as OpenCV's INTER_LINEAR does; a canvas smooths in its own way. */
function enlarge(pixels, width, height, view) {
  const result = new Uint8ClampedArray(4 * view.width * view.height);
  const columns = neighbours(width, view.width);
  neighbours(height, view.height).forEach(([top, bottom, down], y) => {
    columns.forEach(([left, right, along], x) => {
      for (let channel = 0; channel < 3; channel++) {
        const at = (row, column) => pixels[4 * (row * width + column) + channel];
        const upper = at(top, left) * (1 - along) + at(top, right) * along;
        const lower = at(bottom, left) * (1 - along) + at(bottom, right) * along;
        result[4 * (y * view.width + x) + channel] = upper * (1 - down) + lower * down;
      }
    });
  });
  return result;
}

/** Return BGR bytes of a view, with black to the right and below up to what the network takes. */
function tensorOf(pixels, view, model) {
  const fitting = (side) => Math.ceil(Math.max(side, model.minimum_input) / model.input_step) * model.input_step;
  const [rows, columns] = [fitting(view.height), fitting(view.width)];
  const bytes = new Uint8Array(3 * rows * columns);
  for (let y = 0, from = 0; y < view.height; y++) {
    for (let x = 0, to = 3 * y * columns; x < view.width; x++, from += 4, to += 3) {
      bytes[to] = pixels[from + 2];
      bytes[to + 1] = pixels[from + 1];
      bytes[to + 2] = pixels[from];
    }
  }
  return new ort.Tensor("uint8", bytes, [1, rows, columns, 3]);
}

/** Return detections in the picture's pixels, boxes clipped to it, best first; those that lie outside are left out. */
function inPicture({ boxes, scores, landmarks }, view, width, height) {
  const found = [];
  const sides = [width, height];
  const back = (value, place) => (value * sides[place % 2]) / (place % 2 ? view.height : view.width);
  for (let index = 0; index < scores.dims[0]; index++) {
    const box = Array.from(boxes.data.subarray(4 * index, 4 * index + 4), (value, place) =>
      Math.min(Math.max(back(value, place), 0), sides[place % 2]),
    );
    if (box[2] <= box[0] || box[3] <= box[1]) continue;
    const points = landmarks && Array.from(landmarks.data.subarray(10 * index, 10 * index + 10), back);
    const pairs = points && [0, 2, 4, 6, 8].map((place) => points.slice(place, place + 2));
    found.push({ box, score: scores.data[index], ...(pairs && { landmarks: pairs }) });
  }
  return found;
}

async function detect({ model, bitmap, limits }) {
  const { width, height } = bitmap;
  const session = await sessionOf(model);
  const started = performance.now();
  const view = viewSize(width, height, model, limits);
  const smaller = view.width <= width;
  const pixels = smaller
    ? pixelsOf(bitmap, view.width, view.height)
    : enlarge(pixelsOf(bitmap, width, height), width, height, view);
  bitmap.close();
  const found = inPicture(await session.run({ data: tensorOf(pixels, view, model) }), view, width, height);
  return { width, height, found, seconds: (performance.now() - started) / 1000, shrunk: view.shrunk };
}

self.onmessage = async ({ data }) => {
  try {
    self.postMessage({ id: data.id, ...(await detect(data)) });
  } catch (error) {
    self.postMessage({ id: data.id, error: String(error?.message ?? error) });
  }
};
