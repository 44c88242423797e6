"use strict";

const find = (id) => document.getElementById(id);
const state = { models: [], image: null, history: [] };

function make(tag, text, attributes = {}) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

const percent = (value) => `${(100 * value).toFixed(1)} %`;
const headers = () => (find("key").value ? { Authorization: `Bearer ${find("key").value}` } : {});
const chosen = () => state.models.find((model) => model.name === find("model").value);

async function fetched(path, options = {}) {
  const response = await fetch(path, { ...options, headers: { ...headers(), ...(options.headers || {}) } });
  if (response.ok) return response;
  if (response.status === 401) find("key-row").hidden = false;
  const body = await response.json().catch(() => ({ error: `The server said ${response.status}.` }));
  throw new Error(body.error || `The server said ${response.status}.`);
}

async function start() {
  state.models = await (await fetched("v1/models")).json();
  const picker = find("model");
  const before = picker.value || new URLSearchParams(location.search).get("model");
  picker.replaceChildren(...state.models.map((model) => make("option", `${model.name} (${model.vertical.replaceAll("_", " ")}, version ${model.version})`, { value: model.name })));
  if (state.models.some((model) => model.name === before)) picker.value = before;
  showForm();
  if (!state.models.length) fail(new Error("No model is loaded."));
}

function showForm() {
  const takes = chosen() ? chosen().takes : "";
  find("image-row").hidden = takes !== "image";
  find("history-row").hidden = takes !== "history";
  find("text-row").hidden = takes === "image" || takes === "history" || !takes;
  find("text-label").textContent = takes === "text" ? "Text" : "JSON";
  find("explain-row").hidden = !(chosen() && chosen().explains);
  find("answer").hidden = true;
}

function takeImage(file) {
  if (!file) return;
  state.image = file;
  find("preview").src = URL.createObjectURL(file);
  find("preview").hidden = false;
}

function showHistory() {
  const buttons = state.history.map((item, place) => {
    const button = make("button", `${item} ×`, { type: "button", "aria-label": `Remove ${item}` });
    button.addEventListener("click", () => { state.history.splice(place, 1); showHistory(); });
    const row = make("li");
    row.append(button);
    return row;
  });
  find("history").replaceChildren(...buttons);
}

function request() {
  const takes = chosen().takes;
  if (takes === "image") {
    if (!state.image) throw new Error("Choose an image first.");
    return { body: state.image, headers: { "Content-Type": state.image.type || "application/octet-stream" } };
  }
  if (takes === "history") return json({ history: state.history });
  if (!find("text").value.trim()) throw new Error("Write something first.");
  if (takes === "text") return json({ text: find("text").value });
  return { body: find("text").value, headers: { "Content-Type": "application/json" } };
}

const json = (value) => ({ body: JSON.stringify(value), headers: { "Content-Type": "application/json" } });

async function predict() {
  try {
    const model = chosen();
    const wishes = new URLSearchParams({ blocks: "true", ...(model.explains && find("explain").checked ? { explain: "true" } : {}) });
    const started = performance.now();
    const response = await fetched(`v1/models/${encodeURIComponent(model.name)}:predict?${wishes}`, { method: "POST", ...request() });
    show(await response.json(), performance.now() - started);
  } catch (error) {
    fail(error);
  }
}

async function predictExample() {
  try {
    const model = chosen();
    const response = await fetched(`v1/models/${encodeURIComponent(model.name)}/example`);
    if (model.takes === "image") takeImage(await response.blob());
    else if (model.takes === "history") {
      const given = await response.json();
      state.history = (given.history || given).map(String);
      showHistory();
    } else find("text").value = model.takes === "text" ? textOf(await response.text()) : await response.text();
    await predict();
  } catch (error) {
    fail(error);
  }
}

function textOf(written) {
  try {
    const value = JSON.parse(written);
    return typeof value === "string" ? value : value.text || written;
  } catch {
    return written;
  }
}

function fail(error) {
  find("answer").replaceChildren(make("p", error.message, { class: "error", role: "alert" }));
  find("answer").hidden = false;
}

// -- blocks: what a person sees of an answer; tasks/contract/blocks.py lists their fields ---------------------------------
const draw = {
  bars: (block) => {
    const values = block.items.map((item) => Math.abs(item.value ?? 0));
    const full = block.unit === "share" ? 1 : Math.max(...values) || 1;
    return inside("ul", "bars", block.items.map((item) => (item.value === undefined || item.value === null
      ? inside("li", "remark", [item.label])
      : inside("li", "", [make("span", item.label), bar(item.value, full), make("span", withUnit(item.value, block.unit), { class: "number" })]))));
  },
  words: (block) => inside("div", "texts", block.items.map((item) => inside("figure", "", [
    ...(item.title ? [make("figcaption", item.title)] : []), marked(item.text, item.marks),
  ]))),
  ranking: (block) => inside("ol", "ranking", block.items.map((row) => {
    const remarks = [row.detail, row.id === row.label ? "" : row.id].filter(Boolean).join(" · ");
    return inside("li", "", [named(row), make("span", remarks, { class: "muted" }), make("span", row.value.toFixed(3), { class: "number" })]);
  })),
  overlay: (block) => inside("figure", "", [
    ...(block.image && block.image.startsWith("data:image/") ? [make("img", undefined, { src: block.image, alt: block.title })] : []),
    ...(block.items.length ? [inside("ul", "regions", block.items.map((item) => inside("li", "", [
      swatch(item.colour), make("span", item.label), make("span", percent(item.value), { class: "number" }),
    ])))] : []),
  ]),
  gauge: (block) => {
    const place = (value) => 100 * Math.min(Math.max((value - block.low) / ((block.high - block.low) || 1), 0), 1);
    const [low, high] = [place(block.value - (block.deviation || 0)), place(block.value + (block.deviation || 0))];
    const decimals = Math.min(Math.max(3 - Math.floor(Math.log10(block.high - block.low || 1)), 0), 6);
    const sign = block.low < 0 && block.value >= 0 ? "+" : "";
    const deviation = block.deviation === undefined ? "" : ` ± ${block.deviation.toFixed(decimals)}`;
    const words = `${sign}${block.value.toFixed(decimals)}${deviation} ${block.unit || ""}`.trim();
    const ends = block.ends && block.ends.length ? block.ends : [block.low, block.high];
    return inside("div", "gauge", [
      inside("div", "scale", [styled("band", { left: `${low}%`, width: `${high - low}%` }), styled("needle", { left: `${place(block.value)}%` })]),
      inside("p", "muted", [make("span", ends[0]), make("strong", words), make("span", ends[1])]),
    ]);
  },
  note: (block) => make("p", block.text || ""),
};

function drawn(block) {
  const title = make("h2", block.title, block.warning ? { class: "error", role: "alert" } : {});
  return inside("article", "", [title, ...(block.caption ? [make("p", block.caption, { class: "muted" })] : []), draw[block.kind](block)]);
}

function inside(tag, name, children) {
  const element = make(tag, undefined, name ? { class: name } : {});
  element.append(...children);
  return element;
}

function styled(name, style) {
  const element = make("i", undefined, { class: name });
  for (const [property, value] of Object.entries(style)) element.style.setProperty(property, value);
  return element;
}

const short = (value) => String(Number(value.toPrecision(4)));
const signed = (value) => (value < 0 ? "" : "+") + value.toFixed(3);
const withUnit = (value, unit) => (unit === "share" ? percent(value) : `${short(value)} ${unit || ""}`.trim());
const swatch = (colour) => styled("swatch", colour ? { background: colour } : { display: "none" });
const bar = (value, full) => inside("span", "track", [styled(value < 0 ? "against" : "", { width: `${100 * Math.min(Math.abs(value) / full, 1)}%` })]);

function marked(text, marks) {
  const line = make("p", undefined, { dir: "auto" });
  const letters = Array.from(text); // places are counted in code points
  let end = 0;
  for (const mark of marks) {
    const part = make("mark", letters.slice(mark.start, mark.end).join(""), { title: signed(mark.weight), ...(mark.weight < 0 ? { class: "against" } : {}) });
    part.style.setProperty("--a", Math.min(Math.abs(mark.weight), 1));
    if (mark.label) part.append(make("small", mark.label));
    line.append(letters.slice(end, mark.start).join(""), part);
    end = mark.end;
  }
  line.append(letters.slice(end).join(""));
  return line;
}

function named(row) {
  if (chosen().takes !== "history") return make("span", row.label);
  const button = make("button", row.label, { type: "button", "aria-label": `Add ${row.label} to the history` });
  button.addEventListener("click", () => { state.history.push(row.id); showHistory(); predict(); });
  return button;
}

function show({ blocks, ...answer }, milliseconds) {
  const details = make("details");
  details.append(make("summary", "The whole answer"), make("pre", JSON.stringify(answer, shortened, 1)));
  const server = make("p", `${answer.model}, version ${answer.version}, ${milliseconds.toFixed(0)} ms round trip`, { class: "muted" });
  find("answer").replaceChildren(...blocks.map(drawn), server, details);
  find("answer").hidden = false;
}

const shortened = (name, value) => (typeof value === "string" && value.length > 1000 ? `${value.slice(0, 40)} … (${value.length} characters)` : value);

find("model").addEventListener("change", showForm);
find("file").addEventListener("change", () => takeImage(find("file").files[0]));
find("example").addEventListener("click", predictExample);
find("key").addEventListener("change", () => start().catch(fail));
find("item").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !find("item").value.trim()) return;
  event.preventDefault();
  state.history.push(find("item").value.trim());
  find("item").value = "";
  showHistory();
});
find("request").addEventListener("submit", (event) => { event.preventDefault(); predict(); });
find("request").addEventListener("dragover", (event) => { event.preventDefault(); find("request").classList.add("over"); });
find("request").addEventListener("dragleave", () => find("request").classList.remove("over"));
find("request").addEventListener("drop", (event) => { event.preventDefault(); find("request").classList.remove("over"); takeImage(event.dataTransfer.files[0]); });
document.addEventListener("paste", (event) => takeImage(event.clipboardData.files[0]));
start().then(() => { // such as ?model=NAME&explain&example
  const given = new URLSearchParams(location.search);
  find("explain").checked = given.has("explain");
  if (given.has("example")) predictExample();
}).catch(fail);
