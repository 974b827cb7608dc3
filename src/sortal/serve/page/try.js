"use strict";
// Asks the server about images, one request each, and shows what it says. Texts are set as text, never as HTML.
const $ = (id) => document.getElementById(id);
const query = new URLSearchParams(location.search);
const name = query.get("model");
const shown = (share) => (share >= 0.9995 ? "100 %" : share < 0.001 ? "< 0.1 %" : `${(100 * share).toFixed(1)} %`);
const AT_ONCE = 2, KEPT = 50, FROM = "test page";
let model = null, texts = {}, waiting = [], running = 0;

const address = (path, values = {}) => {
  const found = new URLSearchParams(name === null ? values : { ...values, model: name }).toString();
  return found ? `${path}?${found}` : path;
};

async function ask(path, options = {}) {
  const key = sessionStorage.getItem("key");
  const headers = { ...options.headers, ...(key ? { authorization: `Bearer ${key}` } : {}) };
  const response = await fetch(path, { ...options, headers });
  if (response.status === 401) lock();
  const told = await response.json().catch(() => ({ error: `the server answered with status ${response.status}` }));
  return { status: response.status, told };
}

const failure = (told) => [told.error, told.received && `received: ${told.received}`, told.hint].filter(Boolean).join(" · ");

function lock() {
  $("locked").hidden = false;
  $("key").focus();
}

async function begin() {
  const { status, told } = await ask(address("model"));
  if (status !== 200) {
    $("name").textContent = "Not ready";
    $("status").textContent = failure(told);
    if (status === 503) setTimeout(begin, 1000);
    return;
  }
  model = told;
  texts = told.label_set.display;
  $("name").textContent = told.name;
  document.title = `${told.name} · sortal serve`;
  const { height, width } = told.input, classes = told.label_set.names;
  $("facts").textContent = `${classes.length} classes · ${width} × ${height} pixels · ${told.engine} · bundle ${told.bundle_id.slice(0, 12)}`;
  $("status").textContent = "";
  $("classes").replaceChildren(...classes.map((one) => {
    const option = document.createElement("option");
    option.value = one;
    if (texts[one]) option.label = texts[one];
    return option;
  }));
  await others();
}

async function others() {
  const { status, told } = await ask("v2/repository/index", { method: "POST" });
  if (status !== 200 || told.length < 2) return;
  $("model").replaceChildren(...told.map((one) => new Option(one.name, one.name, false, one.name === model.name)));
  $("models").hidden = false;
}

function add(files) {
  for (const file of files) waiting.push({ file, place: place(file) });
  while (running < AT_ONCE && waiting.length) answer(waiting.shift());
}

function place(file) {
  const article = $("result").content.cloneNode(true).firstElementChild, picture = article.querySelector(".picture");
  article.querySelector(".file").textContent = file.name;
  article.querySelector(".said").textContent = "…";
  picture.alt = `The image ${file.name}`;
  picture.addEventListener("error", () => { picture.hidden = true; });
  picture.addEventListener("load", () => URL.revokeObjectURL(picture.src));
  picture.src = URL.createObjectURL(file);
  $("results").prepend(article);
  while ($("results").childElementCount > KEPT) $("results").lastElementChild.remove();
  return article;
}

async function answer({ file, place }) {
  running += 1;
  const began = performance.now();
  try {
    const { status, told } = await ask(address("predict"), { method: "POST", body: file, headers: { "content-type": "application/octet-stream" } });
    show(place, file, told, status, performance.now() - began);
  } catch (error) {
    say(place, "failed", "The server cannot be reached", String(error));
  }
  running -= 1;
  if (waiting.length) answer(waiting.shift());
}

function say(place, kind, text, why) {
  if (kind) place.classList.add(kind);
  place.querySelector(".said").textContent = text;
  place.querySelector(".why").textContent = why;
  $("status").textContent = `${place.querySelector(".file").textContent}: ${text}`;
}

const called = (label) => (texts[label] ? `${texts[label]} (${label})` : label);

function show(place, file, told, status, took) {
  const found = told.predictions?.[0];
  if (!found || found.error) return say(place, "failed", "No answer", found ? found.error : failure(told));
  const best = `${called(found.label)}, ${shown(found.probability)}`;
  if (found.unknown) say(place, "doubtful", "Unknown: looks like none of the classes", `The nearest would be ${best}. A person should look at it.`);
  else if (found.abstained) say(place, "doubtful", "Not sure enough: a person should decide", `The best guess is ${best}.`);
  else say(place, "", best, "");
  place.querySelector(".bars").replaceChildren(...found.top.map(bar));
  const score = found.unknown_score === undefined ? "" : ` · unknown score ${found.unknown_score.toPrecision(3)}`;
  place.querySelector(".figures").textContent = `${took.toFixed(0)} ms there and back${score} · bundle ${told.bundle_id.slice(0, 12)} · request ${told.request_id}`;
  if (model?.explain) explaining(place, file);
  if (model?.feedback) objecting(place, told.request_id);
}

function bar({ label, probability }) {
  const item = document.createElement("li"), text = document.createElement("span"), share = document.createElement("span");
  const line = document.createElement("span"), fill = document.createElement("i");
  text.textContent = called(label);
  share.textContent = shown(probability);
  share.className = "share";
  line.className = "bar";
  line.setAttribute("aria-hidden", "true");
  fill.style.width = `${100 * probability}%`;
  line.append(fill);
  item.append(text, share, line);
  return item;
}

function explaining(place, file) {
  const button = place.querySelector(".explain"), heard = place.querySelector(".heard");
  button.hidden = false;
  button.addEventListener("click", async () => {
    button.disabled = true;
    heard.textContent = "Looking where the evidence is …";
    const { status, told } = await ask(address("explain", { overlay: "true" }), { method: "POST", body: file, headers: { "content-type": "application/octet-stream" } })
      .catch((error) => ({ status: 0, told: { error: String(error) } }));
    button.disabled = status === 200;
    heard.textContent = status === 200 ? `Red speaks for “${called(told.explained.label)}”, blue against it.` : failure(told);
    if (status === 200) place.querySelector(".maps").replaceChildren(...told.maps.map(figure));
  });
}

function figure(map) {
  const found = document.createElement("figure"), picture = document.createElement("img"), text = document.createElement("figcaption");
  const why = !map.checks.marks_what_matters ? "no better than chance here" : "does not depend on what was learned";
  picture.src = map.overlay;
  picture.alt = `Evidence by ${map.title}: ${map.boxes.length} places`;
  text.className = "help";
  text.textContent = `${map.title}: ${map.passed ? "passed its checks" : why}`;
  found.append(picture, text);
  return found;
}

function objecting(place, request) {
  const button = place.querySelector(".wrong"), form = place.querySelector(".feedback"), heard = place.querySelector(".heard");
  const key = [...crypto.getRandomValues(new Uint8Array(16))].map((value) => value.toString(16).padStart(2, "0")).join("");
  button.hidden = false;
  button.addEventListener("click", () => {
    form.hidden = !form.hidden;
    button.setAttribute("aria-expanded", String(!form.hidden));
    if (!form.hidden) form.querySelector(".label").focus();
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const said = { label: form.querySelector(".label").value.trim(), request_id: request, source: FROM, comment: form.querySelector(".comment").value, key };
    const { status, told } = await ask(address("feedback"), { method: "POST", body: JSON.stringify(said), headers: { "content-type": "application/json" } })
      .catch((error) => ({ status: 0, told: { error: String(error) } }));
    if (status !== 200) { heard.textContent = failure(told); return; }
    heard.textContent = told.disputed ? `Kept: ${called(told.label)}. Others say otherwise about this image.` : `Kept: ${called(told.label)}.`;
    form.hidden = true;
    button.hidden = true;
  });
}

for (const input of [$("files"), $("camera")]) input.addEventListener("change", () => { add(input.files); input.value = ""; });
addEventListener("paste", (event) => add(event.clipboardData.files));
for (const kind of ["dragover", "dragleave", "drop"]) {
  addEventListener(kind, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop") add(event.dataTransfer.files);
  });
}
$("locked").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("key", $("key").value.trim());
  $("locked").hidden = true;
  begin();
});
$("model").addEventListener("change", () => { location.search = new URLSearchParams({ model: $("model").value }); });
for (const button of document.querySelectorAll("[data-copies]")) {
  button.addEventListener("click", async () => {
    const text = $(button.dataset.copies);
    if (!navigator.clipboard) return getSelection().selectAllChildren(text); // an address without TLS has no clipboard
    await navigator.clipboard.writeText(text.textContent);
    button.textContent = "Copied";
  });
}
const here = new URL(".", location.href).href.replace(/\/$/, ""), quoted = JSON.stringify(here);
$("curl").textContent = `curl -F file=@a.jpg '${here}/${address("predict")}'`;
$("python").textContent = `import sortal\n\nclient = sortal.Client(${quoted}${name === null ? "" : `, model=${JSON.stringify(name)}`})\nprint(client.predict(["a.jpg"]).answers())`;
begin();
