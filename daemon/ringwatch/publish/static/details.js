// What is known in; the tables of all numbers and of the rings out.

import { cell, element, show } from "./dom.js";
import { percent, plain } from "./formats.js";
import { MEASURES, known } from "./known.js";

const ROW_NAMES = {
  accumulated: "summed image",
  averaged: "averaged image",
  frame: "last frame",
  union: "union (not a measure of convergence)",
};

// `rings` is the table of the newest snapshot, or null.
export function showDetails(rings) {
  const facts = known();
  const rows = Object.entries(ROW_NAMES).map(([source, label]) => {
    const row = document.createElement("tr");
    const name = cell(label, "th");
    name.scope = "row";
    row.append(name, ...MEASURES.map((one) => cell(percent(facts[`${source}_${one}`]))));
    return row;
  });
  element("numbers").replaceChildren(...rows);
  show("class", classText(facts));
  showRings(facts, rings);
}

function showRings(facts, rings) {
  element("rings").hidden = rings === null;
  show("position", `position (${facts.unit})`);
  const rows = (rings?.position ?? []).map((position, i) => {
    const row = document.createElement("tr");
    const spots = `${rings.spots_bound[i] && rings.spots[i] !== null ? "≥ " : ""}${plain(rings.spots[i])}`;
    const texts = [plain(position, 5), plain(rings.d_spacing_A[i], 5), percent(rings.uncertainty[i]), spots];
    row.append(...texts.map((text) => cell(text)));
    return row;
  });
  element("ring-rows").replaceChildren(...rows);
  show("crystallites", crystallitesText(facts));
}

function crystallitesText({ crystallites: seen, crystallites_low: low, crystallites_high: high, crystallites_bound: bound }) {
  if (typeof seen !== "number") return "";
  if (bound !== null) return `Crystallites seen on all rings: ${bound === "lower" ? "≥" : "≤"} ${plain(seen)}.`;
  return `Crystallites seen on all rings: ${plain(seen)} (${plain(low)} to ${plain(high)}).`;
}

function classText(facts) {
  if (facts.spottiness_class) return `Class of the summed image (pyFAI's measure): ${facts.spottiness_class}.`;
  return facts.class_reason ? `No class: ${facts.class_reason}.` : "";
}
