// What is known in; one chip for each condition of the measurement out, red where it is bad.

import { cell, element } from "./dom.js";
import { duration, percent, plain } from "./formats.js";
import { STALE_S, age, decided, known, stale } from "./known.js";

const MAX_SATURATED = 10; // as for an automatic stop
const SAME_ENERGY = 1e-3;
const UNDECIDED = ["too_early", "not_measurable", "few_independent"];

export function showChips() {
  const facts = known();
  const all = [sample, warnings, beam, frames, setup, pace].flatMap((chips) => chips(facts));
  element("chips").replaceChildren(...all.map(item));
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

// What the frames say of beam and detector.
function beam(facts) {
  if (!facts.frame) return [];
  const down = facts.beam_down_since;
  const list = [{ text: down ? `beam down since ${down}` : "beam", bad: Boolean(down), title: "Counts of the frames" }];
  if (typeof facts.saturated_pixels === "number") {
    const title = "Invalid pixels in a frame beyond those that always are, on average";
    const bad = facts.saturated_pixels > MAX_SATURATED;
    list.push({ text: `saturated ${plain(facts.saturated_pixels, 2)} px`, bad, title });
  }
  return list;
}

// With what is measured and reduced.
function setup(facts) {
  const list = [];
  const { energy_eV: header, poni_energy_eV: poni } = facts;
  if (header > 0 && poni > 0) {
    const same = Math.abs(header - poni) <= SAME_ENERGY * poni;
    const text = same ? "energy = PONI" : `energy ${keV(header)} ≠ PONI ${keV(poni)}`;
    list.push({ text, bad: !same, title: `Header ${keV(header)}, PONI ${keV(poni)}: the PONI is used` });
  }
  if (facts.poni_date) list.push({ text: `PONI of ${facts.poni_date}` });
  if (typeof facts.masked_share === "number") list.push({ text: `mask ${percent(facts.masked_share)}` });
  return list;
}

function keV(energy) {
  return `${(energy / 1000).toFixed(2)} keV`;
}

// What became of the frames.
function frames(facts) {
  const list = [];
  for (const [fate, always] of [["missing", true], ["skipped", true], ["malformed", false], ["excluded", false]]) {
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
