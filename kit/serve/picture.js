// The picture of an image: its pixels, the window of a DICOM, and what lies over it.

const $ = (id) => document.getElementById(id);
const canvas = document.querySelector("#stage canvas");
let values = null; // of a grey DICOM: numbers, and what they mean

export function clear() {
  values = null;
  canvas.width = canvas.height = 1;
  $("boxes").replaceChildren();
  for (const tag of document.querySelectorAll("#stage .tag")) tag.remove();
  $("map").hidden = true;
  $("map").removeAttribute("src");
  for (const part of document.querySelectorAll(".window")) part.hidden = true;
}

/** A picture as the server sends it, with its images decoded. */
export async function load(picture) {
  const image = await decoded(picture.image);
  const window = picture.window && { ...picture.window, values: await decoded(picture.window.values) };
  return { ...picture, image, window };
}

/** Show a loaded picture: pixels, and sliders for its window where it has values. */
export function show(picture, name) {
  const image = picture.image;
  canvas.width = image.naturalWidth;
  canvas.height = image.naturalHeight;
  canvas.getContext("2d").drawImage(image, 0, 0);
  canvas.setAttribute("aria-label", `The image ${name}, ${picture.width} by ${picture.height} pixels`);
  const small = Math.max(picture.width, picture.height) < 300;
  canvas.style.imageRendering = small ? "pixelated" : "auto";
  $("stage").style.maxWidth = `calc(70vh * ${picture.width / picture.height})`;
  $("caption").textContent = `${picture.width} × ${picture.height} pixels`;
  if (picture.window) withWindow(picture.window);
}

function withWindow(window) {
  const image = window.values;
  const hidden = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
  const context = hidden.getContext("2d");
  context.drawImage(image, 0, 0);
  const bytes = context.getImageData(0, 0, hidden.width, hidden.height).data;
  const deep = new Uint16Array(bytes.length / 4);
  for (let n = 0; n < deep.length; n++) deep[n] = bytes[4 * n] * 256 + bytes[4 * n + 1];
  values = { ...window, deep, columns: hidden.width, rows: hidden.height };
  const span = window.most - window.least || 1;
  const step = span > 20 ? 1 : span / 100;
  const level = (window.low + window.high) / 2;
  range($("level"), Math.min(window.least, level), Math.max(window.most, level), step, level);
  range($("width"), step, Math.max(span, window.high - window.low), step, window.high - window.low);
  for (const part of document.querySelectorAll(".window")) part.hidden = false;
  said();
}

function range(slider, least, most, step, value) {
  Object.assign(slider, { min: Math.floor(least / step) * step, max: Math.ceil(most / step) * step, step });
  slider.value = value;
}

/** Draw the values through the window of the sliders (PS3.3, C.11.2.1.2, in its exact form). */
function draw() {
  if (!values) return;
  const width = Number($("width").value);
  const low = Number($("level").value) - width / 2;
  const unit = (values.most - values.least) / 65535;
  const pixels = new ImageData(values.columns, values.rows);
  for (let n = 0; n < values.deep.length; n++) {
    const share = Math.min(1, Math.max(0, (values.least + unit * values.deep[n] - low) / width));
    pixels.data.fill(Math.round(255 * (values.inverted ? 1 - share : share)), 4 * n, 4 * n + 3);
    pixels.data[4 * n + 3] = 255;
  }
  canvas.width = values.columns;
  canvas.height = values.rows;
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  said();
}

function said() {
  for (const id of ["level", "width"]) {
    const text = String(Math.round(Number($(id).value) * 100) / 100);
    document.querySelector(`output[for=${id}]`).textContent = text;
  }
}

for (const id of ["level", "width"]) $(id).addEventListener("input", draw);
$("reset").addEventListener("click", () => {
  if (!values) return;
  $("level").value = (values.low + values.high) / 2;
  $("width").value = values.high - values.low;
  draw();
});

/** Lay a map, decoded, over its place: the part of the picture that the model sees. */
export function overlay(image, place) {
  const [left, top, width, height] = place.map((share) => `${100 * share}%`);
  Object.assign(image.style, { left, top, width, height });
  Object.assign(image, { id: "map", alt: "" });
  $("map").replaceWith(image);
  fade();
}

/** Draw boxes, each with its score. */
export function frame(boxes) {
  const shapes = boxes.map(({ shares: [x, y, width, height] }) => {
    const shape = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    for (const [key, value] of Object.entries({ x, y, width, height })) shape.setAttribute(key, value);
    return shape;
  });
  $("boxes").replaceChildren(...shapes);
  for (const { label, score, shares } of boxes) {
    const tag = document.createElement("span");
    tag.className = "tag";
    tag.textContent = `${label} ${score.toFixed(2)}`;
    Object.assign(tag.style, { left: `${100 * Math.max(0, shares[0])}%`, top: `${100 * Math.max(0, shares[1])}%` });
    $("stage").append(tag);
  }
  fade();
}

function fade() {
  const opacity = $("opacity").value / 100;
  for (const part of [$("map"), $("boxes"), ...document.querySelectorAll("#stage .tag")]) part.style.opacity = opacity;
  document.querySelector("output[for=opacity]").textContent = `${$("opacity").value} %`;
}
$("opacity").addEventListener("input", fade);

/** An image, once its pixels are there. */
export async function decoded(address) {
  const image = new Image();
  image.src = address;
  await image.decode();
  return image;
}
