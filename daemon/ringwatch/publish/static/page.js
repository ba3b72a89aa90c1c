// The live page: server-sent events in (event "latest": flat facts), words, numbers, chips and one plot out.

import { METRICS, amount, duration, forecast, goal, percent, plain } from "./formats.js";
import { Plot } from "./plot.js";

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
const UNDECIDED = ["too_early", "not_measurable", "few_independent"];

const element = (id) => document.getElementById(id);
const plot = new Plot(element("plot"), element("legend"));
let facts = { word: "WAITING", sentence: "Connecting to the daemon …", measure: "spottiness" };
let factsAt = performance.now();
let connected = true;
let chosen = null; // the measure the reader wants plotted; until then the one in the sentence
let historyWanted = true;
let rings = { unique_id: null, table: null };

const measure = () => chosen ?? facts.measure;
const decided = () => typeof facts.action === "string";
const running = () => ["start", "joined", "ready"].includes(facts.event) && facts.state !== "error";
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
  showNumber();
  document.title = connected ? `${element("number").textContent} ${word} – ringwatch` : "ringwatch: no connection";
}

// The metric that decides with its target and the time it still takes; without a decision the spottiness.
function showNumber() {
  const value = decided() ? facts.value : facts[`accumulated_${facts.measure}`];
  document.querySelector(".number").hidden = !decided() && typeof value !== "number";
  show("number", amount(facts.measure, value));
  show("target", decided() ? `→ ${goal(facts.metric, facts.target)}` : "");
  show("number-label", METRICS[facts.measure].label);
  const more = decided() && running() && facts.action === "continue";
  show("forecast", more ? forecast(facts.forecast_seconds, facts.forecast_seconds_low, facts.forecast_seconds_high) : "");
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
  showRings();
}

function showRings() {
  const table = rings.unique_id === facts.unique_id ? rings.table : null;
  element("rings").hidden = table === null;
  show("position", `position (${facts.unit})`);
  const rows = (table?.position ?? []).map((position, i) => {
    const row = document.createElement("tr");
    const spots = `${table.spots_bound[i] && table.spots[i] !== null ? "≥ " : ""}${plain(table.spots[i])}`;
    const texts = [plain(position, 5), plain(table.d_spacing_A[i], 5), percent(table.uncertainty[i]), spots];
    row.append(...texts.map(cell));
    return row;
  });
  element("ring-rows").replaceChildren(...rows);
  show("crystallites", crystallitesText());
}

function crystallitesText() {
  const { crystallites: seen, crystallites_low: low, crystallites_high: high, crystallites_bound: bound } = facts;
  if (typeof seen !== "number") return "";
  if (bound !== null) return `Crystallites seen on all rings: ${bound === "lower" ? "≥" : "≤"} ${plain(seen)}.`;
  return `Crystallites seen on all rings: ${plain(seen)} (${plain(low)} to ${plain(high)}).`;
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
  const list = sampleChips();
  if (facts.warning) list.push({ text: facts.warning, bad: true, title: "", long: true });
  if (facts.profile_warning) list.push({ text: facts.profile_warning, bad: false, title: "", long: true });
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

// What the spots say of the sample.
function sampleChips() {
  const list = [];
  if (typeof facts.independent_frames === "number") {
    const counts = `${plain(facts.independent_frames)} independent of ${facts.statistics_n_frames}`;
    const bad = facts.reason_code === "static";
    const text = !decided() || UNDECIDED.includes(facts.reason_code) ? counts : `${bad ? "not moving" : "moving"} (${counts})`;
    list.push({ text, bad, title: "How many frames with new crystallites would be as even" });
  }
  if (typeof facts.photon_share === "number") {
    const title = "Share of the rings' spottiness squared that more counts would take away";
    list.push({ text: `photon noise ${percent(facts.photon_share)}`, bad: false, title });
  }
  if (typeof facts.azimuthal_trend === "number") {
    const title = "Smooth variation around the rings: texture, shadow, polarization, beam centre. Not counted as grains.";
    list.push({ text: `trend ${percent(facts.azimuthal_trend)}`, bad: false, title });
  }
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
  return !connected || (running() && age() !== null && age() > STALE_S);
}

// -------------------------------------------------------------------------------------------------------- plot

async function fetchHistory() {
  historyWanted = false;
  const answer = await fetch(`api/history?measure=${measure()}`).catch(() => null); // null: away; the events tell so
  historyWanted ||= answer === null;
  if (!answer?.ok) return;
  const history = await answer.json();
  if (history.measure !== measure()) return; // asked for before the measure changed
  plot.show(history, decided() && history.measure === facts.metric ? facts.target : null);
}

// -------------------------------------------------------------------------------------------------------- life

function refresh() {
  showWords();
  showDetails();
  showChips();
  showDeciding();
  const picked = document.querySelector(`input[value="${measure()}"]`);
  if (picked) picked.checked = true;
  document.body.classList.toggle("stale", stale());
}

// A metric that no other button shows has its own while it decides.
function showDeciding() {
  const own = decided() && !MEASURES.includes(facts.metric);
  element("deciding").hidden = !own;
  if (own) {
    element("deciding").querySelector("input").value = facts.metric;
    show("deciding-label", METRICS[facts.metric].label);
  } else if (!MEASURES.includes(chosen)) {
    chosen = null;
  }
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
  events.addEventListener("snapshot", (event) => {
    const { unique_id, accumulated } = JSON.parse(event.data);
    rings = { unique_id, table: accumulated?.statistics?.rings ?? null };
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
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => plot.draw());
setInterval(refresh, 500);
setInterval(() => historyWanted && fetchHistory(), HISTORY_PERIOD_MS);
fetchHistory();
listen();
