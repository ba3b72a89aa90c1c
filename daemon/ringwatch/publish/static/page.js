// The live page: server-sent events in (event "latest": flat facts), words, numbers, chips and one plot out.

const STALE_S = 2;
const HISTORY_PERIOD_MS = 1000;
const SOURCES = ["accumulated", "averaged", "frame", "union"];
const MEASURES = ["spottiness_rings", "spottiness", "spottiness_weighted"];
const ROW_NAMES = {
  accumulated: "summed image",
  averaged: "averaged image",
  frame: "last frame",
  union: "union (not a measure of convergence)",
};
const CURVES = [
  { name: "frame", label: "each frame", color: "--frame", width: 1 },
  { name: "union", label: "union of pixels (not a measure of convergence)", color: "--union", width: 2, dash: [10, 6] },
  { name: "noise", label: "1/√N for reference", color: "--soft", width: 2, dash: [2, 6] },
  { name: "accumulated", label: "summed image", color: "--accumulated", width: 4 },
];

const element = (id) => document.getElementById(id);
const hidden = new Set();
let facts = { word: "WAITING", sentence: "Connecting to the daemon …", measure: "spottiness" };
let factsAt = performance.now();
let connected = true;
let chosen = null; // the measure the reader wants plotted; until then the one in the sentence
let history = null;
let historyWanted = true;
let plot = null;

// ---------------------------------------------------------------------------------------------------- formats

function percent(value) {
  if (value === null || value === undefined) return "–";
  const p = 100 * value;
  return `${p.toFixed(p >= 9.95 ? 0 : p >= 0.095 ? 1 : 2)} %`;
}

function duration(seconds) {
  if (seconds < 100) return `${seconds.toFixed(1)} s`;
  if (seconds < 6000) return `${Math.round(seconds / 60)} min`;
  return `${Math.round(seconds / 3600)} h`;
}

const measure = () => chosen ?? facts.measure;
const sinceFacts = () => (performance.now() - factsAt) / 1000;
const age = () => (typeof facts.age_s === "number" ? facts.age_s + sinceFacts() : null);

// ------------------------------------------------------------------------------------------- words and numbers

function show(id, text) {
  if (element(id).textContent !== text) element(id).textContent = text;
}

function showWords() {
  const word = connected ? facts.word : "NO CONNECTION";
  document.body.dataset.word = word;
  show("word", word);
  const sentence = connected ? facts.sentence : "The daemon does not answer. What stands here is what it said last.";
  show("sentence", sentence.replaceAll(" %", "\u00a0%"));
  show("sample", facts.sample || "–");
  show("series", facts.series === null || facts.series === undefined ? "–" : String(facts.series));
  show("frame", facts.frame ? `${facts.frame}${facts.frames_expected ? ` of ${facts.frames_expected}` : ""}` : "–");
  const value = facts[`accumulated_${facts.measure}`];
  show("number", percent(value));
  document.querySelector(".number").hidden = typeof value !== "number";
  document.title = connected ? `${element("number").textContent} ${word} – ringwatch` : "ringwatch: no connection";
}

function showDetails() {
  const rows = SOURCES.map((source) => {
    const row = document.createElement("tr");
    const name = document.createElement("th");
    name.scope = "row";
    name.textContent = ROW_NAMES[source];
    row.append(name, ...MEASURES.map((one) => cell(percent(facts[`${source}_${one}`]))));
    return row;
  });
  element("numbers").replaceChildren(...rows);
  show("class", classText());
}

function cell(text) {
  const td = document.createElement("td");
  td.textContent = text;
  return td;
}

function classText() {
  if (facts.spottiness_class) return `Class of the summed image (pyFAI's measure): ${facts.spottiness_class}.`;
  return facts.class_reason ? `No class: ${facts.class_reason}.` : "";
}

// ------------------------------------------------------------------------------------------------------- chips

function chips() {
  const list = [];
  if (facts.warning) list.push({ text: facts.warning, bad: true, title: "", long: true });
  if (facts.problem && facts.problem !== facts.sentence) list.push({ text: facts.problem, bad: true, title: "", long: true });
  for (const [fate, always] of [["missing", true], ["skipped", true], ["malformed", true], ["excluded", false]]) {
    const count = facts[fate];
    if (always ? typeof count === "number" : count > 0) {
      list.push({ text: `${fate} ${count}`, bad: count > 0, title: facts[`${fate}_reasons`] ?? "" });
    }
  }
  for (const fate of ["late", "foreign", "duplicate"]) {
    if (facts[fate] > 0) list.push({ text: `${fate} ${facts[fate]}`, bad: false, title: "" });
  }
  if (facts.detector_dropped > 0) list.push({ text: `dropped by the detector ${facts.detector_dropped}`, bad: true, title: "" });
  if (facts.state === "measuring" && typeof facts.fps === "number") {
    list.push({ text: `${facts.fps.toFixed(facts.fps < 10 ? 1 : 0)} frames/s`, bad: false, title: facts.device ?? "" });
    list.push({ text: `lag ${duration(facts.lag_s)}`, bad: facts.lag_s > STALE_S, title: "" });
  }
  if (age() !== null) list.push({ text: `data age ${duration(age())}`, bad: stale(), title: "" });
  return list;
}

function showChips() {
  const items = chips().map(({ text, bad, title, long }) => {
    const item = document.createElement("li");
    item.textContent = text;
    item.title = title;
    item.classList.toggle("bad", bad);
    item.classList.toggle("text", Boolean(long));
    return item;
  });
  element("chips").replaceChildren(...items);
}

// A finished series does not age; a running one does, and whatever was said before the connection broke.
function stale() {
  return !connected || (facts.word === "MEASURING" && age() !== null && age() > STALE_S);
}

// -------------------------------------------------------------------------------------------------------- plot

function columns() {
  const curves = { ...history, noise: reference(history) };
  const tables = CURVES.map(({ name }) => [curves[name].n_frames, curves[name].value]);
  return uPlot.join(tables);
}

// 1/√N through the first point of the summed image: what independent grains would follow.
function reference({ accumulated, frame }) {
  const { n_frames: n, value } = accumulated;
  if (n.length === 0) return { n_frames: [], value: [] };
  const last = Math.max(n[n.length - 1], frame.n_frames[frame.n_frames.length - 1] ?? 0, 10 * n[0]);
  return { n_frames: [n[0], last], value: [value[0], value[0] * Math.sqrt(n[0] / last)] };
}

function color(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function axis(label, values) {
  const size = Math.round(Math.min(22, Math.max(13, window.innerWidth / 90)));
  const font = `${size}px system-ui, "DejaVu Sans", sans-serif`;
  const line = { stroke: color("--line"), width: 1 };
  return {
    label, values, font, labelFont: font, stroke: color("--soft"), grid: line, ticks: line,
    labelSize: size * 1.5, labelGap: 0, gap: size / 3, size: label === "frames" ? size * 1.6 : size * 4.2,
  };
}

// 1, 2 and 5 of each decade carry a label.
function isRound(tick) {
  if (tick === null || tick <= 0) return false;
  const mantissa = tick / 10 ** Math.floor(Math.log10(tick) + 1e-9);
  return [1, 2, 5].some((one) => Math.abs(mantissa - one) < 1e-6);
}

function options() {
  const series = CURVES.map(({ name, label, color: variable, width, dash }) => ({
    label, width, dash, stroke: color(variable), spanGaps: true, points: { show: false }, show: !hidden.has(name),
  }));
  return {
    ...plotSize(),
    legend: { show: false },
    cursor: { points: { show: false }, drag: { x: true, y: true, uni: 30 } },
    scales: {
      x: { time: false, distr: 3, range: (_, low, high) => [low ?? 1, Math.max(high ?? 10, 10 * (low ?? 1))] },
      y: { distr: 3, range: (_, low, high) => (low === null ? [0.01, 1] : [Math.min(low, high / 4) / 1.2, high * 1.2]) },
    },
    axes: [
      axis("frames", (_, ticks) => ticks.map((n) => (isRound(n) ? String(n) : null))),
      axis("spottiness", (_, ticks) => ticks.map((s) => (isRound(s) ? `${Number((100 * s).toPrecision(2))} %` : null))),
    ],
    series: [{}, ...series],
  };
}

function plotSize() {
  const { width, height } = element("plot").getBoundingClientRect();
  return { width: Math.floor(width), height: Math.floor(height) };
}

function drawPlot() {
  plot?.destroy();
  plot = null;
  if (history !== null) plot = new uPlot(options(), columns(), element("plot"));
}

async function fetchHistory() {
  historyWanted = false;
  try {
    const answer = await fetch(`api/history?measure=${measure()}`);
    if (!answer.ok) return;
    history = await answer.json();
    if (plot === null) drawPlot();
    else plot.setData(columns());
  } catch (error) {
    if (!(error instanceof TypeError)) throw error; // a TypeError of fetch: the daemon is away; the events tell so
    historyWanted = true;
  }
}

function showLegend() {
  const buttons = CURVES.map(({ name, label, color: variable, width, dash }, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("aria-pressed", String(!hidden.has(name)));
    button.append(sample(variable, width, dash), label);
    button.addEventListener("click", () => {
      hidden[hidden.has(name) ? "delete" : "add"](name);
      button.setAttribute("aria-pressed", String(!hidden.has(name)));
      plot?.setSeries(index + 1, { show: !hidden.has(name) });
    });
    return button;
  });
  element("legend").replaceChildren(...buttons.reverse());
}

function sample(variable, width, dash) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
  const attributes = { x1: "0", x2: "100%", y1: "50%", y2: "50%", stroke: color(variable) };
  for (const [name, value] of Object.entries(attributes)) line.setAttribute(name, value);
  line.style.strokeWidth = String(width);
  if (dash) line.style.strokeDasharray = dash.map((one) => one / 2).join(" ");
  svg.setAttribute("aria-hidden", "true");
  svg.append(line);
  return svg;
}

// -------------------------------------------------------------------------------------------------------- life

function refresh() {
  showWords();
  showDetails();
  showChips();
  show("number-label", `spottiness of the summed ${facts.measure === "spottiness_rings" ? "rings" : "image"}`);
  const picked = document.querySelector(`input[value="${measure()}"]`);
  if (picked) picked.checked = true;
  document.body.classList.toggle("stale", stale());
}

function listen() {
  const events = new EventSource("api/events");
  events.addEventListener("latest", (event) => {
    const before = measure();
    facts = JSON.parse(event.data);
    factsAt = performance.now();
    connected = true;
    historyWanted = true;
    if (measure() !== before) fetchHistory();
    refresh();
  });
  events.addEventListener("error", () => {
    connected = false;
    refresh();
  });
}

element("measures").addEventListener("change", (event) => {
  chosen = event.target.value;
  refresh();
  fetchHistory();
});
new ResizeObserver(() => plot?.setSize(plotSize())).observe(element("plot"));
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  showLegend();
  drawPlot();
});
setInterval(refresh, 500);
setInterval(() => historyWanted && fetchHistory(), HISTORY_PERIOD_MS);
showLegend();
fetchHistory();
listen();
