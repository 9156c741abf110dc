// What was dropped or chosen, as files; and a table of answers as CSV.

/** All files of a drop, those in folders too, without hidden ones. */
export async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return visible([...transfer.files]);
  const files = [];
  for (const entry of entries) await collect(entry, files);
  return visible(files);
}

/** Files without those that systems leave behind. */
export function visible(files) {
  return files.filter((file) => !/(^|\/)(\.|__MACOSX|thumbs\.db$|desktop\.ini$)/i.test(pathOf(file)));
}

/** The path of a file in its folder, else its name. */
export function pathOf(file) {
  return file.webkitRelativePath || file.kitPath || file.name;
}

async function collect(entry, files) {
  if (entry.isFile) {
    const file = await new Promise((done, fail) => entry.file(done, fail));
    file.kitPath = entry.fullPath.replace(/^\//, "");
    files.push(file);
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    const part = await new Promise((done, fail) => reader.readEntries(done, fail));
    if (!part.length) return;
    for (const each of part) await collect(each, files);
  }
}

/** The columns and rows of `kit predict --out`, of the images that could be read. */
export function csv(items, model) {
  const good = items.filter((item) => item.answer);
  const lines = model.kind === "boxes" ? boxLines(good) : probabilityLines(good, model.labels);
  return lines.map((line) => line.map(cell).join(",")).join("\n") + "\n";
}

function probabilityLines(items, labels) {
  const rows = items.map(({ name, answer }) => [name, ...answer.labels.map((label) => label.probability), answer.decision]);
  return [["id", ...labels.map((label) => `p_${label}`), "decision"], ...rows];
}

function boxLines(items) {
  const lines = [["id", "decision", "label", "score", "x", "y", "width", "height"]];
  for (const { name, answer } of items) {
    const boxes = answer.boxes.map((b) => [name, answer.decision, b.label, b.score, b.x, b.y, b.width, b.height]);
    lines.push(...(boxes.length ? boxes : [[name, answer.decision, "", "", "", "", "", ""]]));
  }
  return lines;
}

/** A cell; texts that a spreadsheet would compute are marked as texts. */
function cell(value) {
  const text = typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
