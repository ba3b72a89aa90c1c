// What is known in; one chip for each condition of the measurement out, red where it is bad.

import { cell, element } from "./dom.js";
import { duration, percent, plain } from "./formats.js";
import { STALE_S, age, decided, known, stale } from "./known.js";

const UNDECIDED = ["too_early", "not_measurable", "few_independent"];

export function showChips() {
  const facts = known();
  const items = [...sample(facts), ...warnings(facts), ...frames(facts), ...pace(facts)].map(item);
  element("chips").replaceChildren(...items);
}

function item({ text, bad = false, title = "", long = false }) {
  const one = cell(text, "li");
  one.title = title;
  one.classList.toggle("bad", bad);
  one.classList.toggle("text", long);
  return one;
}

// What the spots say of the sample.
function sample(facts) {
  const list = [];
  if (typeof facts.independent_frames === "number") {
    const counts = `${plain(facts.independent_frames)} independent of ${facts.statistics_n_frames}`;
    const bad = facts.reason_code === "static";
    const text = !decided() || UNDECIDED.includes(facts.reason_code) ? counts : `${bad ? "not moving" : "moving"} (${counts})`;
    list.push({ text, bad, title: "How many frames with new crystallites would be as even" });
  }
  if (typeof facts.photon_share === "number") {
    const title = "Share of the rings' spottiness squared that more counts would take away";
    list.push({ text: `photon noise ${percent(facts.photon_share)}`, title });
  }
  if (typeof facts.azimuthal_trend === "number") {
    const title = "Smooth variation around the rings: texture, shadow, polarization, beam centre. Not counted as grains.";
    list.push({ text: `trend ${percent(facts.azimuthal_trend)}`, title });
  }
  return list;
}

function warnings(facts) {
  const list = [];
  if (facts.warning) list.push({ text: facts.warning, bad: true, long: true });
  if (facts.problem && facts.problem !== facts.sentence) list.push({ text: facts.problem, bad: true, long: true });
  return list;
}

// What became of the frames.
function frames(facts) {
  const list = [];
  for (const [fate, always] of [["missing", true], ["skipped", true], ["malformed", true], ["excluded", false]]) {
    const count = facts[fate];
    if (always ? typeof count === "number" : count > 0) {
      list.push({ text: `${fate} ${count}`, bad: count > 0, title: facts[`${fate}_reasons`] ?? "" });
    }
  }
  for (const fate of ["late", "foreign", "duplicate"]) {
    if (facts[fate] > 0) list.push({ text: `${fate} ${facts[fate]}` });
  }
  if (facts.detector_dropped > 0) list.push({ text: `dropped by the detector ${facts.detector_dropped}`, bad: true });
  return list;
}

function pace(facts) {
  const list = [];
  if (facts.state === "measuring" && typeof facts.fps === "number") {
    list.push({ text: `${facts.fps.toFixed(facts.fps < 10 ? 1 : 0)} frames/s`, title: facts.device ?? "" });
    list.push({ text: `lag ${duration(facts.lag_s)}`, bad: facts.lag_s > STALE_S });
  }
  if (age() !== null) list.push({ text: `data age ${duration(age())}`, bad: stale() });
  return list;
}
