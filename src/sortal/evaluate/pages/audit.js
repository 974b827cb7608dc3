// Copy commands, search issues, and walk about on the map of images. Data come from the page; nothing is fetched.
const audit = JSON.parse(document.getElementById("audit-data").textContent);

for (const button of document.querySelectorAll("button.copy")) {
  button.addEventListener("click", async () => {
    const code = button.previousElementSibling;
    try { await navigator.clipboard.writeText(code.textContent); button.textContent = "copied"; }
    catch { getSelection().selectAllChildren(code); }
  });
}

const listed = audit.issues, table = document.querySelector("#issue-table tbody");
if (table) {
  const search = document.getElementById("issue-search"), kind = document.getElementById("issue-code");
  const back = document.getElementById("issue-back"), on = document.getElementById("issue-on");
  const said = document.getElementById("issue-count"), step = 50;
  listed.codes.forEach(([title], place) => kind.append(new Option(title, place)));
  const texts = listed.name.map((name, row) =>
    `${name} ${listed.codes[listed.code[row]][0]} ${listed.other[row]} ${listed.value[row]} ${listed.do[row]}`.toLowerCase());
  let found = [], first = 0;
  const cell = (line, text, style) => { const made = line.insertCell(); made.textContent = text; if (style) made.className = style; };
  const show = () => {
    table.replaceChildren();
    for (const row of found.slice(first, first + step)) {
      const line = table.insertRow(), [title] = listed.codes[listed.code[row]];
      cell(line, listed.name[row]); cell(line, title);
      cell(line, listed.score[row] === null ? "–" : listed.score[row].toFixed(2), "n");
      cell(line, listed.other[row]); cell(line, listed.value[row]); cell(line, listed.do[row]);
    }
    const last = Math.min(found.length, first + step);
    said.textContent = found.length ? `${(first + 1).toLocaleString("en")} to ${last.toLocaleString("en")} of ${found.length.toLocaleString("en")}` : "none";
    back.disabled = first === 0; on.disabled = last >= found.length;
  };
  const filter = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean), code = Number(kind.value);
    found = [...texts.keys()].filter((row) => (code < 0 || listed.code[row] === code) && words.every((word) => texts[row].includes(word)));
    first = 0; show();
  };
  search.addEventListener("input", filter); kind.addEventListener("change", filter);
  back.addEventListener("click", () => { first -= step; show(); });
  on.addEventListener("click", () => { first += step; show(); });
  filter();
}

const canvas = document.getElementById("map-canvas");
if (canvas) {
  const map = audit.map, points = map.x.length, pen = canvas.getContext("2d");
  const choice = document.getElementById("map-class"), flagged = document.getElementById("map-issues");
  const tip = document.getElementById("map-tip"), said = document.getElementById("map-said");
  const counts = map.classes.map(() => 0);
  map.label.forEach((label) => { if (label >= 0) counts[label] += 1; });
  const frequent = [...counts.keys()].sort((a, b) => counts[b] - counts[a] || a - b).filter((label) => counts[label]);
  const color = (label) => label < 0 ? "hsl(0 0% 55%)" : `hsl(${(label * 137.5) % 360} ${[68, 80, 55][label % 3]}% ${[47, 58, 40][Math.floor(label / 3) % 3]}%)`;
  [...frequent].sort((a, b) => map.classes[a].localeCompare(map.classes[b])).forEach((label) => choice.append(new Option(`${map.classes[label]} (${counts[label]})`, label)));
  const key = document.getElementById("map-key");
  for (const label of frequent.slice(0, 24)) {
    const line = document.createElement("li"), dot = document.createElement("i");
    dot.style.background = color(label); line.append(dot, map.classes[label]); key.append(line);
  }
  if (frequent.length > 24) { const line = document.createElement("li"); line.textContent = `and ${frequent.length - 24} more: choose one above`; key.append(line); }
  let at = -1;
  const wanted = (point) => (Number(choice.value) < 0 || map.label[point] === Number(choice.value)) && (!flagged.checked || map.issue[point] >= 0);
  const place = (point) => [12 + map.x[point] / 1000 * (canvas.width - 24), 12 + map.y[point] / 1000 * (canvas.height - 24)];
  const dot = (point, radius, fill) => { const [x, y] = place(point); pen.beginPath(); pen.arc(x, y, radius, 0, 7); pen.fillStyle = fill; pen.fill(); };
  const draw = () => {
    pen.clearRect(0, 0, canvas.width, canvas.height);
    for (let point = 0; point < points; point++) if (!wanted(point)) dot(point, 2, "hsl(0 0% 60% / .25)");
    for (let point = 0; point < points; point++) if (wanted(point)) dot(point, points > 1500 ? 3.5 : 5, color(map.label[point]));
    pen.strokeStyle = getComputedStyle(canvas).color; pen.lineWidth = 1.5;
    for (let point = 0; point < points; point++) if (wanted(point) && map.issue[point] >= 0) { const [x, y] = place(point); pen.beginPath(); pen.arc(x, y, points > 1500 ? 5 : 7, 0, 7); pen.stroke(); }
    if (at >= 0) { const [x, y] = place(at); pen.lineWidth = 3; pen.beginPath(); pen.arc(x, y, 10, 0, 7); pen.stroke(); }
  };
  const tell = (point) => {
    at = point; draw();
    tip.hidden = point < 0;
    if (point < 0) { said.textContent = ""; return; }
    const [x, y] = place(point), scale = canvas.clientWidth / canvas.width, name = map.label[point] < 0 ? "no label" : map.classes[map.label[point]];
    const issue = map.issue[point] < 0 ? "" : map.issues[map.issue[point]];
    tip.replaceChildren();
    if (map.columns) {
      const picture = document.createElement("i"), each = map.columns * map.rows, sheet = Math.floor(point / each), inside = point % each, zoom = 130;
      picture.style.backgroundImage = `url(${map.sheets[sheet]})`;
      picture.style.backgroundSize = `${map.columns * zoom}px auto`;
      picture.style.backgroundPosition = `-${(inside % map.columns) * zoom}px -${Math.floor(inside / map.columns) * zoom}px`;
      tip.append(picture);
    }
    const label = document.createElement("b"); label.textContent = name; tip.append(label);
    if (issue) { const line = document.createElement("div"); line.textContent = issue; tip.append(line); }
    tip.style.left = `${Math.max(0, Math.min(x * scale + 14, canvas.clientWidth - 152))}px`;
    tip.style.top = `${Math.max(0, Math.min(y * scale + 14, canvas.clientHeight - tip.offsetHeight - 4))}px`;
    said.textContent = [map.name[point], name, issue].filter(Boolean).join(" · ");
  };
  const nearest = (event) => {
    const box = canvas.getBoundingClientRect(), scale = canvas.width / box.width;
    const x = (event.clientX - box.left) * scale, y = (event.clientY - box.top) * scale;
    let best = -1, least = 20 * 20 * scale * scale;
    for (let point = 0; point < points; point++) {
      if (!wanted(point)) continue;
      const [px, py] = place(point), far = (px - x) ** 2 + (py - y) ** 2;
      if (far < least) { least = far; best = point; }
    }
    return best;
  };
  canvas.addEventListener("pointermove", (event) => { const point = nearest(event); if (point !== at) tell(point); });
  canvas.addEventListener("pointerdown", (event) => tell(nearest(event)));
  canvas.addEventListener("pointerleave", () => tell(-1));
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (event.key === "Escape") tell(-1);
    if (!step) return;
    event.preventDefault();
    let point = at;
    for (let tried = 0; tried < points; tried++) { point = (point + step + points) % points; if (wanted(point)) { tell(point); return; } }
  });
  for (const control of [choice, flagged]) control.addEventListener("change", () => tell(-1));
  draw();
}
