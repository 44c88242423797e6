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

async function ask() {
  try {
    const model = chosen();
    const why = find("explain").checked || model.vertical === "driving_perception";
    const started = performance.now();
    const response = await fetched(`v1/models/${encodeURIComponent(model.name)}:predict${why ? "?explain=true" : ""}`, { method: "POST", ...request() });
    show(await response.json(), performance.now() - started);
  } catch (error) {
    fail(error);
  }
}

async function askExample() {
  try {
    const model = chosen();
    const response = await fetched(`v1/models/${encodeURIComponent(model.name)}/example`);
    if (model.takes === "image") takeImage(await response.blob());
    else if (model.takes === "history") {
      const given = await response.json();
      state.history = (given.history || given).map(String);
      showHistory();
    } else find("text").value = model.takes === "text" ? textOf(await response.text()) : await response.text();
    await ask();
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

function bars(rows) {
  const grid = make("div", undefined, { class: "bars" });
  for (const [name, value] of rows) {
    grid.append(make("span", name), make("meter", percent(value), { min: 0, max: 1, value, "aria-label": name }), make("span", percent(value), { class: "number" }));
  }
  return grid;
}

function marked(text, entities) {
  const line = make("p");
  let end = 0;
  for (const entity of [...entities].sort((a, b) => a.start - b.start)) {
    if (entity.start < end) continue;
    line.append(text.slice(end, entity.start));
    const mark = make("mark", text.slice(entity.start, entity.end));
    mark.append(make("small", entity.label));
    line.append(mark);
    end = entity.end;
  }
  line.append(text.slice(end));
  return line;
}

function items(rows) {
  const list = make("ul");
  for (const row of rows) {
    const button = make("button", `${row.title || row.item} (${row.score.toFixed(3)})`, { type: "button", "aria-label": `Choose ${row.title || row.item}` });
    button.addEventListener("click", () => { state.history.push(row.item); showHistory(); ask(); });
    const entry = make("li");
    entry.append(button);
    list.append(entry);
  }
  return list;
}

function show(answer, milliseconds) {
  const parts = [];
  const headline = answer.signal || answer.label || (answer.advice && [answer.advice.action, answer.advice.reasons.join(", ")].filter(Boolean).join(": "));
  if (headline) parts.push(make("p", headline, { class: "headline" }));
  if (answer.trusted === false) parts.push(make("p", `Not to be trusted: ${answer.doubts.join("; ")}`, { class: "error" }));
  const explanation = answer.explanation || {};
  for (const [name, value] of Object.entries(explanation)) {
    if (typeof value === "string" && value.startsWith("data:image/")) parts.push(make("img", undefined, { src: value, alt: name === "overlay" ? "What the network sees, drawn over the image" : "Where it is unsure, the brighter the less sure" }));
  }
  if (answer.top) parts.push(bars(answer.top.map((row) => [row.label, row.probability])));
  if (answer.signals) parts.push(bars(Object.entries(answer.signals)));
  if (answer.shares) parts.push(bars(Object.entries(answer.shares)));
  if (answer.boxes && answer.boxes.length) parts.push(bars(answer.boxes.map((box) => [box.label, box.score])));
  if (answer.steering !== undefined) parts.push(make("p", `steering ${answer.steering.toFixed(3)} ± ${answer.steering_deviation.toFixed(3)}`));
  if (answer.entities) parts.push(marked(find("text").value, answer.entities));
  if (answer.items) parts.push(items(answer.items));
  const told = Object.fromEntries(Object.entries(answer).map(([name, value]) => [name, name === "mask" ? "..." : name === "explanation" ? shortened(value) : value]));
  const details = make("details");
  details.append(make("summary", "The whole answer"), make("pre", JSON.stringify(told, null, 1)));
  parts.push(make("p", `${answer.model}, version ${answer.version}, ${milliseconds.toFixed(0)} ms with the way there and back`, { class: "muted" }), details);
  find("answer").replaceChildren(...parts);
  find("answer").hidden = false;
}

const shortened = (value) => Object.fromEntries(Object.entries(value).map(([name, one]) => [name, typeof one === "string" && one.startsWith("data:") ? "..." : one]));

find("model").addEventListener("change", showForm);
find("file").addEventListener("change", () => takeImage(find("file").files[0]));
find("example").addEventListener("click", askExample);
find("key").addEventListener("change", () => start().catch(fail));
find("item").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !find("item").value.trim()) return;
  event.preventDefault();
  state.history.push(find("item").value.trim());
  find("item").value = "";
  showHistory();
});
find("ask").addEventListener("submit", (event) => { event.preventDefault(); ask(); });
find("ask").addEventListener("dragover", (event) => { event.preventDefault(); find("ask").classList.add("over"); });
find("ask").addEventListener("dragleave", () => find("ask").classList.remove("over"));
find("ask").addEventListener("drop", (event) => { event.preventDefault(); find("ask").classList.remove("over"); takeImage(event.dataTransfer.files[0]); });
document.addEventListener("paste", (event) => takeImage(event.clipboardData.files[0]));
start().then(() => { if (new URLSearchParams(location.search).has("example")) askExample(); }).catch(fail);
