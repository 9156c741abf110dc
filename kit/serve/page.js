// The page: files go to the server one by one, answers become a table, and one of them is shown.

import { csv, dropped, pathOf, visible } from "./files.js";
import * as picture from "./picture.js";

const $ = (id) => document.getElementById(id);
const AT_ONCE = 6; // requests of this page: as many as browsers have open to one server
const MOST = 1000; // files at a time
const RETRIES = 20; // of a request that the server is too busy for, a second apart

const model = await (await fetch("api/model")).json();
let items = [];
let shown = null;
let turn = 0; // counts what the user asks for: answers to what was asked before are dropped

/** An element with a text and properties. Texts are never HTML. */
function element(tag, text = "", properties = {}) {
  const made = document.createElement(tag);
  made.textContent = text;
  return Object.assign(made, properties);
}

function percent(p) {
  if (p < 0.005) return "<\u00a01\u00a0%";
  return p > 0.995 ? ">\u00a099\u00a0%" : `${(100 * p).toFixed(0)}\u00a0%`;
}

/** The JSON that the server answers; raises an Error with its sentence. */
async function post(address, body) {
  for (let n = 0; ; n++) {
    let response;
    try {
      response = await fetch(address, { method: "POST", body, headers: { "content-type": "application/octet-stream" } });
    } catch {
      throw new Error("The server cannot be reached.");
    }
    if (response.status === 503 && n < RETRIES) {
      await new Promise((done) => setTimeout(done, 1000));
      continue;
    }
    const content = await response.json();
    if (content.error) throw new Error(content.error);
    return content;
  }
}

async function predict(files) {
  const mine = ++turn;
  items = [];
  shown = null;
  for (const id of ["many", "one"]) $(id).hidden = true;
  if (!files.length) return say("There is no file in that.");
  if (files.length > MOST) return say(`These are ${files.length} files: up to ${MOST} are taken at a time.`);
  const parts = files.map(() => []);
  let next = 0;
  let done = 0;
  say(files.length > 1 ? `0 of ${files.length} files` : "Reading …");
  const worker = async () => {
    while (next < files.length && mine === turn) {
      const n = next++;
      parts[n] = await answersOf(files[n]);
      if (mine !== turn) return;
      items = parts.flat();
      done++;
      if (files.length > 1) say(`${done} of ${files.length} files`);
      if (items.length > 1) table();
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  if (mine !== turn) return;
  const failed = items.filter((item) => item.error).length;
  const count = items.length === 1 ? "1 image" : `${items.length} files`;
  say(items.length === 1 ? items[0].error || "" : `${count}, ${failed || "none"} of them not readable.`);
  $("status").className = items.length === 1 && items[0].error ? "error" : "";
  const first = items.find((item) => item.answer);
  if (first) await show(first, items.length === 1);
}

/** The answers for a file: one, or of a zip one for each image in it. */
async function answersOf(file) {
  const name = pathOf(file);
  if (file.size > model.limits.size) {
    return [{ name, error: `It is larger than ${Math.floor(model.limits.size / 2 ** 20)} MiB.` }];
  }
  try {
    const { images } = await post("api/predict", file);
    return images.map((image, n) => ({
      name: image.name === undefined ? name : `${name}: ${image.name}`,
      file,
      query: image.name === undefined ? "" : `member=${n}`,
      error: image.error,
      answer: image.error ? null : image,
    }));
  } catch (error) {
    return [{ name, error: error.message }];
  }
}

function say(text) {
  $("status").className = "";
  $("status").textContent = text;
}

function table() {
  $("many").hidden = false;
  const several = model.labels.length <= 6;
  const names = several ? model.labels : [];
  const head = ["image", "decision", ...names.map((name) => (model.kind === "boxes" ? `${name}: boxes` : name))];
  $("columns").replaceChildren(
    ...head.map((text, n) => element("th", text, { scope: "col", className: n > 1 ? "number" : "" })),
  );
  $("rows").replaceChildren(...items.map((item) => row(item, names)));
}

function row(item, names) {
  const line = element("tr");
  const first = element("th", "", { scope: "row" });
  line.append(first);
  if (item.error) {
    first.textContent = item.name;
    line.append(element("td", item.error, { className: "failed", colSpan: 1 + names.length }));
    return line;
  }
  const open = element("button", item.name, { type: "button" });
  open.addEventListener("click", () => show(item, true));
  first.append(open);
  line.append(element("td", item.answer.decision));
  for (const label of names.length ? item.answer.labels : []) {
    const text = model.kind === "boxes" ? String(label.boxes) : percent(label.probability);
    line.append(element("td", text, { className: "number" }));
  }
  if (item === shown) line.setAttribute("aria-current", "true");
  return line;
}

/** Show an image: what is said of it at once, then its picture, then what lies over it. */
async function show(item, focus) {
  shown = item;
  if (items.length > 1) table();
  $("one").hidden = false;
  $("one-title").textContent = item.name;
  words(item.answer);
  picture.clear();
  overlaid("", false);
  $("caption").textContent = "";
  if (focus) $("one-title").focus();
  const query = item.query ? `?${item.query}` : "";
  try {
    const loaded = await picture.load(await post(`api/picture${query}`, item.file));
    if (shown !== item) return;
    picture.show(loaded, item.name);
    if (model.kind === "boxes") {
      overlaid("Box opacity", item.answer.boxes.length > 0, 100);
      picture.frame(item.answer.boxes);
    } else await map(item);
  } catch (error) {
    if (shown === item) $("caption").textContent = error.message;
  }
}

/** The map of what speaks for the chosen label; it is asked for after everything else. */
async function map(item) {
  const label = $("label").value;
  const stale = () => shown !== item || $("label").value !== label; // the user has gone on meanwhile
  const query = `label=${encodeURIComponent(label)}${item.query ? `&${item.query}` : ""}`;
  try {
    const content = await post(`api/map?${query}`, item.file);
    const image = await picture.decoded(content.image);
    if (stale()) return;
    picture.overlay(image, content.place);
    overlaid("Map opacity", true);
    $("label-control").hidden = model.labels.length < 2;
    const said = content.empty ? `no place speaks for ${label}` : `bright is what speaks most for ${label}`;
    $("caption").textContent = `${item.answer.width} × ${item.answer.height} pixels. The map (Grad-CAM): ${said}.`;
  } catch {
    if (!stale()) overlaid("", false);
  }
}

function overlaid(text, there, start) {
  $("opacity-control").hidden = !there;
  document.querySelector("label[for=opacity]").textContent = text;
  if (start !== undefined && !$("opacity").dataset.moved) $("opacity").value = start;
}
$("opacity").addEventListener("input", () => ($("opacity").dataset.moved = "yes"));

function words(answer) {
  $("decision").textContent = answer.decision.replaceAll("|", ", ");
  $("sentence").textContent = answer.sentence;
  const likeliest = answer.labels.reduce((best, label) => (label.probability > best.probability ? label : best));
  const chosen = answer.labels.find((label) => label.present) || likeliest;
  $("label").value = chosen.label;
  $("labels").replaceChildren(...answer.labels.map(bar));
}

/** A label: its probability as a number, in words and as a bar with the cut, and what that has meant before. */
function bar(label) {
  const item = element("li", "", { className: label.present ? "present" : "" });
  const name = element("div", "", { className: "name" });
  const p = label.probability;
  const said = model.kind === "boxes" ? (p === null ? "no box" : `best score ${p.toFixed(2)}`) : `${label.likelihood}, ${percent(p)}`;
  name.append(element("b", label.label), element("span", said));
  const track = element("div", "", { className: "bar" });
  track.setAttribute("aria-hidden", "true");
  const fill = element("i");
  fill.style.width = `${100 * (p || 0)}%`;
  track.append(fill);
  item.append(name, track);
  if (label.cut !== null) {
    const mark = element("s");
    mark.style.left = `${100 * label.cut}%`;
    track.append(mark);
    const cut = model.kind === "boxes" ? `The mark: boxes are shown from a score of ${label.cut.toFixed(2)} on.` : `The mark: the cut, ${percent(label.cut)}.`;
    item.append(element("p", cut, { className: "note" }));
  }
  if (label.meaning) item.append(element("p", label.meaning, { className: "note" }));
  return item;
}

function save() {
  const link = element("a", "", { download: "predictions.csv" });
  link.href = URL.createObjectURL(new Blob([csv(items, model)], { type: "text/csv" }));
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function examples() {
  $("try").hidden = !model.examples.length;
  $("examples-are").textContent = `${model.examples_are}:`;
  model.examples.forEach(async (address, n) => {
    const button = element("button", "", { type: "button" });
    const image = element("img", "", { alt: `Example ${n + 1}` });
    button.append(image);
    $("examples").append(button);
    const blob = await (await fetch(address)).blob();
    const file = new File([blob], `Example ${n + 1}`);
    button.addEventListener("click", () => predict([file]));
    image.src = (await post("api/picture", file)).image;
  });
}

const mib = Math.floor(model.limits.size / 2 ** 20);
$("limits").textContent = `Up to ${mib} MiB a file, ${model.limits.pixels / 1e6} million pixels an image, ${model.limits.files} images a zip. PNG, JPEG, TIFF, DICOM and more.`;
$("how-good").textContent = model.how_good.join(" ");
$("card").innerHTML = model.card; // made by the server of Markdown, in which HTML is text
for (const scroll of document.querySelectorAll("#card table")) scroll.tabIndex = -1;
$("kit").textContent = `kit ${model.kit}`;
$("curl").textContent = `curl --data-binary @scan.dcm ${new URL("api/predict", location.href)}`;
for (const label of model.labels) $("label").append(element("option", label, { value: label }));
$("label").addEventListener("change", () => shown && map(shown));
$("csv").addEventListener("click", save);
for (const [button, input] of [["choose", "files"], ["choose-folder", "folder"]]) {
  $(button).addEventListener("click", () => $(input).click());
  $(input).addEventListener("change", () => {
    const files = visible([...$(input).files]);
    $(input).value = "";
    predict(files);
  });
}
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", kind === "dragover");
  });
}
document.addEventListener("drop", async (event) => predict(await dropped(event.dataTransfer)));
examples();
document.documentElement.dataset.ready = "yes";
