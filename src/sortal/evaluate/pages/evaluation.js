// Walk about in the confusion matrix and see the images behind a cell, a class, a bin or a point. Data come from the
// page; nothing is fetched. `#cell=true/answer` and `#class=name` in the address open what they name.
const study = JSON.parse(document.getElementById("evaluation-data").textContent);
const { classes, images } = study, listed = images.name.length;
const percent = (share) => `${(100 * share).toFixed(share > 0 && share < 0.0995 ? 1 : 0)}%`;
const every = Array.from({ length: listed }, (_, place) => place);

const panel = document.getElementById("shown"), list = document.getElementById("shown-list"), more = document.getElementById("shown-more");
let waiting = [];
const shot = (place) => {
  const line = document.createElement("li"), thumb = images.thumb[place], right = images.true[place] === images.answered[place];
  if (!right) line.className = "wrong";
  if (thumb) { const picture = new Image(); picture.src = `data:image/jpeg;base64,${thumb}`; picture.alt = images.name[place]; line.append(picture); }
  else { const none = document.createElement("div"); none.className = "none"; none.textContent = "no picture"; line.append(none); }
  const what = document.createElement("b"), sure = `${percent(images.p[place] / 1000)}${images.abstained[place] ? ", left to a person" : ""}`;
  what.textContent = right ? `${classes[images.answered[place]]} (${sure})` : `${classes[images.true[place]]} → ${classes[images.answered[place]]} (${sure})`;
  const file = document.createElement("span"); file.textContent = images.name[place].split("/").pop(); file.title = images.name[place];
  line.append(what, file);
  return line;
};
const on = () => { list.append(...waiting.splice(0, 60).map(shot)); more.hidden = !waiting.length; more.textContent = `${waiting.length.toLocaleString("en")} more`; };
const show = (title, help, places, address) => {
  panel.hidden = false;
  document.getElementById("shown-title").textContent = title;
  document.getElementById("shown-help").textContent = help;
  list.replaceChildren(); waiting = [...places]; on();
  if (address) history.replaceState(null, "", address);
  panel.scrollIntoView({ block: "nearest", behavior: "smooth" });
};
more.addEventListener("click", on);
document.getElementById("shown-close").addEventListener("click", () => { panel.hidden = true; history.replaceState(null, "", "#"); });

const rows = classes.map(() => 0), counts = new Map();
for (const [row, column, count] of study.cells) { rows[row] += count; counts.set(row * classes.length + column, count); }
const count = (row, column) => counts.get(row * classes.length + column) ?? 0;
const told = (row, column) => row === column
  ? `${classes[row]}: ${count(row, row)} of ${rows[row]} right${rows[row] ? ` (${percent(count(row, row) / rows[row])})` : ""}`
  : `${classes[row]} answered ${classes[column]}: ${count(row, column)} of ${rows[row]}${rows[row] ? ` (${percent(count(row, column) / rows[row])})` : ""}`;
const mostly = (places, all) => places.length < all ? `${places.length} of ${all} are listed here.` : "";
const showCell = (row, column) => {
  const found = every.filter((place) => images.true[place] === row && images.answered[place] === column);
  show(told(row, column), mostly(found, count(row, column)), found, `#cell=${encodeURIComponent(classes[row])}/${encodeURIComponent(classes[column])}`);
};
const showClass = (label) => {
  const missed = every.filter((place) => images.true[place] === label && images.answered[place] !== label);
  const called = every.filter((place) => images.true[place] !== label && images.answered[place] === label);
  const right = every.filter((place) => images.true[place] === label && images.answered[place] === label);
  show(classes[label], `${missed.length} of ${rows[label]} called something else, then ${called.length} of other classes called ${classes[label]}, then those answered right.`,
    [...missed, ...called, ...right], `#class=${encodeURIComponent(classes[label])}`);
};

const canvas = document.getElementById("matrix-canvas"), pen = canvas.getContext("2d"), tip = document.getElementById("matrix-tip");
const choice = document.getElementById("matrix-order"), find = document.getElementById("matrix-find"), wrong = document.getElementById("matrix-wrong");
for (const name of Object.keys(study.orders)) choice.append(new Option(name, name));
choice.value = classes.length > 30 ? "confusions" : study.orders.families ? "families" : "as trained";
document.getElementById("matrix-classes").append(...classes.map((name) => new Option(name)));
const view = { cell: 0, x: 0, y: 0, left: 0, top: 0, width: 0, height: 0 };
let order = [], place = [], at = null;
const least = () => Math.max(1.5, Math.min(30, (view.width - 26) / classes.length, 700 / classes.length));
const named = () => view.cell >= 9;
const measure = () => {
  view.left = named() ? Math.min(190, view.width * 0.3) : 22;
  view.top = named() ? 120 : 22;
  view.height = Math.min(view.top + classes.length * view.cell + 2, Math.max(440, view.top + classes.length * least() + 2));
  view.x = Math.max(0, Math.min(view.x, classes.length * view.cell - (view.width - view.left)));
  view.y = Math.max(0, Math.min(view.y, classes.length * view.cell - (view.height - view.top)));
};
const cut = (text, room) => {
  if (pen.measureText(text).width <= room) return text;
  let kept = [...text];
  while (kept.length > 1 && pen.measureText(`${kept.join("")}…`).width > room) kept = kept.slice(0, -1);
  return `${kept.join("")}…`;
};
const labels = (ink, font) => {
  const size = Math.min(12, view.cell * 0.92);
  pen.fillStyle = ink; pen.font = `${size}px ${font}`; pen.textBaseline = "middle";
  for (const [label, spot] of place.entries()) {
    const y = view.top + spot * view.cell + view.cell / 2 - view.y, x = view.left + spot * view.cell + view.cell / 2 - view.x;
    pen.textAlign = "right";
    if (y > view.top && y < view.height) pen.fillText(cut(classes[label], view.left - 10), view.left - 5, y);
    if (x <= view.left || x >= view.width) continue;
    pen.save(); pen.translate(x, view.top - 5); pen.rotate(-Math.PI / 2); pen.textAlign = "left";
    pen.fillText(cut(classes[label], view.top - 10), 0, 0); pen.restore();
  }
};
const draw = () => {
  const scale = devicePixelRatio || 1, style = getComputedStyle(canvas), ink = style.color, font = style.fontFamily;
  view.width = canvas.clientWidth; view.cell = Math.max(view.cell, least()); measure();
  canvas.style.height = `${view.height}px`;
  canvas.width = Math.round(view.width * scale); canvas.height = Math.round(view.height * scale);
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  if (named()) labels(ink, font);
  else {
    pen.fillStyle = ink; pen.font = `12px ${font}`; pen.textBaseline = "middle"; pen.textAlign = "left";
    pen.fillText("answer →", view.left, view.top / 2);
    pen.save(); pen.translate(view.left / 2, view.top); pen.rotate(-Math.PI / 2); pen.textAlign = "right"; pen.fillText("← true class", 0, 0); pen.restore();
  }
  pen.save(); pen.beginPath(); pen.rect(view.left, view.top, view.width - view.left, view.height - view.top); pen.clip();
  const edge = classes.length * view.cell;
  pen.strokeStyle = ink; pen.globalAlpha = 0.25; pen.strokeRect(view.left - view.x + 0.5, view.top - view.y + 0.5, edge, edge);
  if (named()) {
    pen.globalAlpha = 0.08; pen.beginPath();
    for (let spot = 1; spot < classes.length; spot++) {
      pen.moveTo(view.left - view.x + spot * view.cell, view.top - view.y); pen.lineTo(view.left - view.x + spot * view.cell, view.top - view.y + edge);
      pen.moveTo(view.left - view.x, view.top - view.y + spot * view.cell); pen.lineTo(view.left - view.x + edge, view.top - view.y + spot * view.cell);
    }
    pen.stroke();
  }
  pen.textAlign = "center"; pen.textBaseline = "middle"; pen.font = `${Math.min(12, view.cell * 0.5)}px ${font}`;
  for (const [row, column, number] of study.cells) {
    if (wrong.checked && row === column) continue;
    const x = view.left + place[column] * view.cell - view.x, y = view.top + place[row] * view.cell - view.y, side = Math.max(view.cell - (named() ? 1 : 0), 1.5);
    const strong = 0.18 + 0.82 * Math.sqrt(number / rows[row]);
    pen.globalAlpha = strong; pen.fillStyle = row === column ? "#2f7fd6" : "#d63a2f"; pen.fillRect(x, y, side, side);
    if (view.cell < 20) continue;
    pen.globalAlpha = 1; pen.fillStyle = strong > 0.6 ? "#fff" : ink; pen.fillText(String(number), x + side / 2, y + side / 2);
  }
  pen.globalAlpha = 1;
  if (at) {
    pen.strokeStyle = ink; pen.lineWidth = 2;
    pen.strokeRect(view.left + at[1] * view.cell - view.x - 1, view.top + at[0] * view.cell - view.y - 1, view.cell + 1, view.cell + 1);
    pen.globalAlpha = 0.07; pen.fillStyle = ink;
    pen.fillRect(view.left, view.top + at[0] * view.cell - view.y, view.width, view.cell); pen.fillRect(view.left + at[1] * view.cell - view.x, view.top, view.cell, view.height);
  }
  pen.restore();
};
const arrange = () => { order = study.orders[choice.value]; place = []; order.forEach((label, spot) => { place[label] = spot; }); at = null; tip.hidden = true; draw(); };
const zoom = (factor, x = view.width / 2, y = view.height / 2) => {
  const before = view.cell, spotX = (x - view.left + view.x) / before, spotY = (y - view.top + view.y) / before;
  view.cell = Math.max(least(), Math.min(44, before * factor)); measure();
  view.x = spotX * view.cell - (x - view.left); view.y = spotY * view.cell - (y - view.top); draw();
};
const spotAt = (event) => {
  const box = canvas.getBoundingClientRect(), column = Math.floor((event.clientX - box.left - view.left + view.x) / view.cell);
  const row = Math.floor((event.clientY - box.top - view.top + view.y) / view.cell);
  const inside = event.clientX - box.left >= view.left && event.clientY - box.top >= view.top && row >= 0 && column >= 0 && row < classes.length && column < classes.length;
  return inside ? [row, column] : null;
};
const tell = (spot) => {
  at = spot; draw();
  tip.hidden = !spot;
  if (!spot) return;
  const text = told(order[spot[0]], order[spot[1]]);
  tip.textContent = text; document.getElementById("matrix-said").textContent = text;
  const x = view.left + spot[1] * view.cell - view.x + view.cell + 10, y = view.top + spot[0] * view.cell - view.y + view.cell + 8;
  tip.style.left = `${Math.max(0, Math.min(x, view.width - tip.offsetWidth - 6))}px`;
  tip.style.top = `${y + tip.offsetHeight > view.height ? Math.max(0, y - tip.offsetHeight - view.cell - 18) : y}px`;
};
const open = (spot) => { if (spot) showCell(order[spot[0]], order[spot[1]]); };
let drag = null;
canvas.addEventListener("pointerdown", (event) => { drag = { x: event.clientX, y: event.clientY, fromX: view.x, fromY: view.y, moved: false }; canvas.setPointerCapture(event.pointerId); });
canvas.addEventListener("pointermove", (event) => {
  if (drag && Math.hypot(event.clientX - drag.x, event.clientY - drag.y) > 5) drag.moved = true;
  if (drag?.moved) { view.x = drag.fromX - event.clientX + drag.x; view.y = drag.fromY - event.clientY + drag.y; tip.hidden = true; draw(); return; }
  const spot = spotAt(event);
  if (String(spot) !== String(at)) tell(spot);
});
canvas.addEventListener("pointerup", (event) => { const moved = drag?.moved; drag = null; if (!moved) { const spot = spotAt(event); tell(spot); open(spot); } });
canvas.addEventListener("pointerleave", () => { if (!drag) tell(null); });
canvas.addEventListener("wheel", (event) => {
  if (!event.ctrlKey && !event.metaKey) return;
  event.preventDefault();
  const box = canvas.getBoundingClientRect(); zoom(event.deltaY < 0 ? 1.25 : 0.8, event.clientX - box.left, event.clientY - box.top);
}, { passive: false });
canvas.addEventListener("keydown", (event) => {
  const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
  if (event.key === "Enter") open(at);
  if (event.key === "+") zoom(1.5);
  if (event.key === "-") zoom(1 / 1.5);
  if (!step) return;
  event.preventDefault();
  const [row, column] = at ?? [0, 0], last = classes.length - 1;
  const spot = [Math.max(0, Math.min(last, row + step[0])), Math.max(0, Math.min(last, column + step[1]))];
  reach(spot); tell(spot);
});
const reach = ([row, column]) => {
  const roomX = view.width - view.left - view.cell, roomY = view.height - view.top - view.cell;
  view.x = Math.max(column * view.cell - roomX, Math.min(view.x, column * view.cell));
  view.y = Math.max(row * view.cell - roomY, Math.min(view.y, row * view.cell));
};
document.getElementById("matrix-in").addEventListener("click", () => zoom(1.5));
document.getElementById("matrix-out").addEventListener("click", () => zoom(1 / 1.5));
document.getElementById("matrix-fit").addEventListener("click", () => { view.cell = 0; view.x = view.y = 0; draw(); });
choice.addEventListener("change", arrange); wrong.addEventListener("change", draw);
find.addEventListener("change", () => {
  const label = classes.indexOf(find.value);
  if (label < 0) return;
  view.cell = Math.max(view.cell, 20); measure();
  view.x = place[label] * view.cell - (view.width - view.left) / 2; view.y = place[label] * view.cell - (view.height - view.top) / 2; measure();
  tell([place[label], place[label]]); showClass(label);
});
new ResizeObserver(() => { if (canvas.clientWidth !== view.width) { view.cell = 0; draw(); } }).observe(canvas.parentElement);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
arrange();

const clickable = (line, act) => {
  line.dataset.class = ""; line.tabIndex = 0;
  line.addEventListener("click", act); line.addEventListener("keydown", (event) => { if (event.key === "Enter") act(); });
};
for (const line of document.querySelectorAll("table[data-name=per_class] tbody tr")) {
  const label = classes.indexOf(line.cells[0].textContent);
  if (label >= 0) clickable(line, () => showClass(label));
}
for (const line of document.querySelectorAll("table[data-name=confused_pairs] tbody tr")) {
  const row = classes.indexOf(line.cells[0].textContent), column = classes.indexOf(line.cells[1].textContent);
  if (row >= 0 && column >= 0) clickable(line, () => showCell(row, column));
}

const svg = (parent, kind, fields, text) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", kind);
  for (const [name, value] of Object.entries(fields)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  parent.append(made); return made;
};
const frame = (plot, name, xName, yName, top) => {
  const X = (share) => 50 + 355 * share, Y = (value) => 280 - 235 * value / top;
  svg(plot, "text", { x: 50, y: 20, class: "name" }, name);
  for (const part of [0, 0.25, 0.5, 0.75, 1]) {
    svg(plot, "path", { d: `M50 ${Y(part * top)}H405M${X(part)} 45V280`, class: "grid" });
    svg(plot, "text", { x: 44, y: Y(part * top) + 4, "text-anchor": "end" }, percent(part * top)); svg(plot, "text", { x: X(part), y: 296, "text-anchor": "middle" }, percent(part));
  }
  svg(plot, "text", { x: 227, y: 316, "text-anchor": "middle" }, xName); svg(plot, "text", { x: 50, y: 37 }, yName);
  return [X, Y];
};
const act = (spot, name, run) => {
  svg(spot, "title", {}, name); spot.setAttribute("tabindex", "0"); spot.setAttribute("role", "button"); spot.setAttribute("aria-label", name);
  spot.addEventListener("click", run); spot.addEventListener("keydown", (event) => { if (event.key === "Enter") run(); });
};
const surest = [...every].sort((a, b) => images.p[b] - images.p[a]);
const right = (spot) => images.true[spot] === images.answered[spot];
const drawReliability = (plot, bins) => {
  const [X, Y] = frame(plot, "Reliability", "probability it states", "share that was right", 1);
  svg(plot, "path", { d: `M${X(0)} ${Y(0)}L${X(1)} ${Y(1)}`, class: "ideal" });
  const before = study.curves.reliability_before;
  if (before) {
    svg(plot, "polyline", { points: before.stated.map((stated, bin) => `${X(stated)},${Y(before.right[bin])}`).join(" "), class: "before" });
    svg(plot, "text", { x: 405, y: 37, "text-anchor": "end" }, "grey: before calibration");
  }
  bins.stated.forEach((stated, bin) => svg(plot, "path", { d: `M${X(stated)} ${Y(bins.right_low[bin])}V${Y(bins.right_high[bin])}`, class: "whisker" }));
  svg(plot, "polyline", { points: bins.stated.map((stated, bin) => `${X(stated)},${Y(bins.right[bin])}`).join(" "), class: "line" });
  bins.stated.forEach((stated, bin) => {
    svg(plot, "circle", { cx: X(stated), cy: Y(bins.right[bin]), r: 4, class: "dot" });
    const from = bin ? (stated + bins.stated[bin - 1]) / 2 : 0, to = bin + 1 < bins.stated.length ? (stated + bins.stated[bin + 1]) / 2 : 1;
    const name = `${bins.images[bin]} images, stated ${percent(stated)}, right ${percent(bins.right[bin])}`;
    act(svg(plot, "rect", { x: X(from), y: 45, width: Math.max(1, X(to) - X(from)), height: 235, class: "hit" }), name, () =>
      show(name, "Mistakes first.", every.filter((spot) => images.p[spot] / 1000 >= from && (images.p[spot] / 1000 < to || to === 1))));
  });
};
const drawRisk = (plot, curve) => {
  const known = curve.coverage.map((_, spot) => spot).filter((spot) => curve.error[spot] !== null);
  const { max_error: most, min_coverage: least } = study.limits;
  const highest = Math.max(most ?? 0, study.chosen ? study.chosen[1] : 0, ...known.map((spot) => curve.error[spot]));
  const top = Math.max(0.02, Math.ceil(highest * 44) / 40);
  const [X, Y] = frame(plot, "What leaving some to a person buys", "share answered (coverage)", "error among the answered", top);
  const points = known.map((spot) => [X(curve.coverage[spot]), Y(curve.error[spot])]);
  if (curve.error_high) known.forEach((spot) => curve.error_high[spot] !== null && svg(plot, "path", { d: `M${X(curve.coverage[spot])} ${Y(Math.min(top, curve.error_low?.[spot] ?? curve.error[spot]))}V${Y(Math.min(top, curve.error_high[spot]))}`, class: "whisker" }));
  svg(plot, "polyline", { points: points.map((point) => point.join(",")).join(" "), class: "line" });
  if (most) svg(plot, "path", { d: `M50 ${Y(most)}H405`, class: "limit" });
  if (least) svg(plot, "path", { d: `M${X(least)} 45V280`, class: "limit" });
  if (most || least) svg(plot, "text", { x: 405, y: 37, "text-anchor": "end" }, "red: the contract");
  if (study.chosen) svg(plot, "circle", { cx: X(study.chosen[0]), cy: Y(study.chosen[1]), r: 6, class: "chosen" });
  known.forEach((spot, number) => {
    const [x, y] = points[number], name = `answering ${percent(curve.coverage[spot])}: ${percent(curve.error[spot])} wrong${curve.threshold ? ` (threshold ${curve.threshold[spot].toFixed(3)})` : ""}`;
    if (known.length <= 40) svg(plot, "circle", { cx: x, cy: y, r: 3.5, class: "dot" });
    const before = number ? points[number - 1][0] : x, after = number + 1 < points.length ? points[number + 1][0] : x;
    const from = (Math.min(before, after, x) + x) / 2, to = (Math.max(before, after, x) + x) / 2;
    act(svg(plot, "rect", { x: from, y: 45, width: Math.max(2, to - from), height: 235, class: "hit" }), name, () => {
      const given = surest.filter((one) => curve.threshold ? images.p[one] / 1000 >= curve.threshold[spot] - 0.0005 : true);
      show(name, "Mistakes that would be given, surest first.", given.filter((one) => !right(one)));
    });
  });
};
for (const [name, draw, id] of [["reliability", drawReliability, "reliability"], ["risk_coverage", drawRisk, "risk-coverage"]]) {
  const plot = document.getElementById(id);
  if (plot && study.curves[name]) draw(plot, study.curves[name]);
}

const follow = () => {
  const [kind, value] = decodeURIComponent(location.hash.slice(1)).split(/=(.*)/s);
  if (kind === "class" && classes.includes(value)) showClass(classes.indexOf(value));
  if (kind !== "cell") return;
  const [row, column] = location.hash.slice(6).split("/").map((part) => classes.indexOf(decodeURIComponent(part)));
  if (row >= 0 && column >= 0) { tell([place[row], place[column]]); showCell(row, column); }
};
addEventListener("hashchange", follow); follow();
