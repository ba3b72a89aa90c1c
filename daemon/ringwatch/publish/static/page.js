// The live page: server-sent events in (event "latest": flat facts), everything that is shown out.

import { showChips } from "./chips.js";
import { showControl } from "./control.js";
import { Curves } from "./curves.js";
import { showDetails } from "./details.js";
import { element, show } from "./dom.js";
import { METRICS } from "./formats.js";
import { MEASURES, decided, known, learn, lose, stale } from "./known.js";
import { drawPictures, showRings } from "./pictures.js";
import { showWords } from "./words.js";

const HISTORY_PERIOD_MS = 2000;
const AGAIN_MS = 1000;

const curves = new Curves(element("plot"), element("legend"));
let chosen = null; // the measure the reader wants plotted; until then the one in the sentence
let historyWanted = true;
let rings = { unique_id: null, table: null };

const measure = () => chosen ?? known().measure;

async function fetchHistory() {
  historyWanted = false;
  const answer = await fetch(`api/history?measure=${measure()}`).catch(() => null); // null: away; the events tell so
  historyWanted ||= answer === null;
  if (!answer?.ok) return;
  const history = await answer.json();
  if (history.measure !== measure()) return; // asked for before the measure changed
  curves.show(history, decided() && history.measure === known().metric ? known().target : null);
}

function refresh() {
  showWords();
  const table = rings.unique_id === known().unique_id ? rings.table : null;
  showDetails(table);
  showRings(table);
  showChips();
  showControl();
  showDeciding();
  const picked = document.querySelector(`input[value="${measure()}"]`);
  if (picked) picked.checked = true;
  document.body.classList.toggle("stale", stale());
}

// A metric that no other button shows has its own while it decides.
function showDeciding() {
  const own = decided() && !MEASURES.includes(known().metric);
  element("deciding").hidden = !own;
  if (own) {
    element("deciding").querySelector("input").value = known().metric;
    show("deciding-label", METRICS[known().metric].label);
  } else if (!MEASURES.includes(chosen)) {
    chosen = null;
  }
}

function listen() {
  const events = new EventSource("api/events?topics=snapshot");
  events.addEventListener("latest", (event) => {
    const before = measure();
    learn(JSON.parse(event.data));
    historyWanted = true;
    if (measure() !== before) fetchHistory();
    refresh();
  });
  events.addEventListener("snapshot", (event) => {
    const { unique_id, accumulated } = JSON.parse(event.data);
    rings = { unique_id, table: accumulated?.statistics?.rings ?? null };
  });
  events.addEventListener("error", () => {
    lose();
    refresh();
    if (events.readyState === EventSource.CLOSED) setTimeout(listen, AGAIN_MS); // a browser that gave up, behind a proxy
  });
}

element("measures").addEventListener("change", (event) => {
  chosen = event.target.value;
  refresh();
  fetchHistory();
});
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  curves.draw();
  drawPictures();
});
setInterval(refresh, 500);
setInterval(() => historyWanted && fetchHistory(), HISTORY_PERIOD_MS);
fetchHistory();
listen();
