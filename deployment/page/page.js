// The page: a photo or the camera in, boxes over it out. worker.js does the detecting.

const element = (id) => document.getElementById(id);
const [photo, video, boxes, status] = ["photo", "video", "boxes", "status"].map(element);
const [file, camera, choice, threshold] = ["file", "camera", "model", "threshold"].map(element);

const worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
const waiting = new Map();
let [manifest, picture, result, stream, turn] = [null, null, null, null, 0];

worker.onmessage = ({ data }) => {
  waiting.get(data.id)?.(data);
  waiting.delete(data.id);
};
worker.onerror = (event) => say(`The detector cannot be started: ${event.message || "see the console"}`, true);

function say(text, wrong = false) {
  status.textContent = text;
  status.classList.toggle("error", wrong);
}

/** Run the chosen model on a picture, which is used up. */
function detect(bitmap) {
  const id = crypto.getRandomValues(new Uint32Array(2)).join();
  const { models, ...limits } = manifest;
  worker.postMessage({ id, model: models[choice.selectedIndex], bitmap, limits }, [bitmap]);
  return new Promise((resolve) => waiting.set(id, resolve));
}

function make(name, attributes, text = "") {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}

/** Draw what scores over the slider, in the picture's own pixels. */
function draw() {
  element("threshold-value").textContent = Number(threshold.value).toFixed(2);
  boxes.replaceChildren();
  element("json").textContent = "";
  if (!result) return;
  const { width, height, name } = result;
  const found = result.found.filter(({ score }) => score > Number(threshold.value));
  boxes.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const size = (14 * width) / (boxes.clientWidth || width);
  for (const { box: [x0, y0, x1, y1], score, landmarks } of found) {
    boxes.append(make("rect", { x: x0, y: y0, width: x1 - x0, height: y1 - y0 }));
    for (const [x, y] of landmarks ?? []) boxes.append(make("circle", { cx: x, cy: y, r: size / 6 }));
    if (x1 - x0 < 2 * size) continue; // letters would hide their neighbours
    const place = { x: x0, y: Math.min(y1 + size, height - size / 4), "font-size": size, "stroke-width": size / 5 };
    boxes.append(make("text", place, score.toFixed(2)));
  }
  element("json").textContent = JSON.stringify({ image: name, width, height, detections: found });
  const count = `${found.length} found in ${width}×${height} pixels`;
  const note = result.shrunk ? "; shrunk first, to fit into the browser's memory" : "";
  say(`${count}, ${(result.seconds * 1000).toFixed(0)} ms with ${choice.value}${note}`);
}

/** Detect in a bitmap and draw; what came too late, after another photo was chosen, is dropped. */
async function show(bitmap, name, mine) {
  const answer = await detect(bitmap);
  if (mine !== turn) return;
  if (answer.error) {
    result = null;
    draw();
    say(`${name}: ${answer.error}`, true);
    return;
  }
  result = { ...answer, name };
  draw();
}

/** Return a file's pixels as they are stored, turned as the file says, not as a screen would show their colours. */
async function bitmapOf(chosen) {
  const address = URL.createObjectURL(chosen);
  try {
    const bitmap = await createImageBitmap(chosen, { colorSpaceConversion: "none", imageOrientation: "from-image" });
    URL.revokeObjectURL(photo.src);
    photo.src = address;
    await photo.decode();
    return bitmap;
  } catch {
    URL.revokeObjectURL(address);
    return null;
  }
}

async function open(chosen) {
  closeCamera();
  const mine = ++turn;
  [picture, result] = [chosen, null];
  draw();
  say(`Looking at ${chosen.name} …`);
  const bitmap = await bitmapOf(chosen);
  if (mine !== turn) return;
  photo.hidden = bitmap === null;
  if (bitmap === null) say(`${chosen.name}: this browser cannot read it as a picture`, true);
  else await show(bitmap, chosen.name, mine);
}

function closeCamera() {
  stream?.getTracks().forEach((track) => track.stop());
  stream = null;
  video.hidden = true;
  camera.setAttribute("aria-pressed", "false");
  camera.textContent = "Open the camera";
}

async function openCamera() {
  if (!navigator.mediaDevices) {
    say("Browsers open a camera only for pages from this machine (localhost) or over https", true);
    return;
  }
  const mine = ++turn;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: true });
  } catch (error) {
    say(`The camera cannot be opened: ${error.message}`, true);
    return;
  }
  [picture, result, video.srcObject] = [null, null, stream];
  photo.hidden = true;
  video.hidden = false;
  camera.setAttribute("aria-pressed", "true");
  camera.textContent = "Close the camera";
  draw();
  say("Looking at the camera …");
  await video.play();
  while (stream && mine === turn) await show(await createImageBitmap(video), "camera", mine);
}

const answer = await fetch(new URL("models.json", import.meta.url));
manifest = await answer.json();
for (const { name } of manifest.models) choice.add(new Option(name));
[threshold.min, threshold.max] = [manifest.lowest_score, 0.99];
threshold.value = manifest.score_threshold;
draw();
say("Ready.");

file.addEventListener("change", () => {
  const [chosen] = file.files;
  file.value = ""; // so that the same photo can be chosen again
  if (chosen) open(chosen);
});
threshold.addEventListener("input", draw);
choice.addEventListener("change", () => picture && open(picture));
camera.addEventListener("click", () => {
  if (!stream) return openCamera();
  closeCamera();
  [turn, result] = [turn + 1, null];
  draw();
  say("The camera is closed.");
});
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    document.body.classList.toggle("dragging", kind === "dragover");
    const dropped = kind === "drop" ? event.dataTransfer.files[0] : null;
    if (dropped) open(dropped);
  });
}
window.addEventListener("resize", draw);
