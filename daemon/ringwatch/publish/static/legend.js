// Curves with their names, colours and dashes in; a row of buttons that hide and show them out.

import { color } from "./dom.js";

// `curves` are {name, label, color, width, dash, title, off}: `off` is why a curve means little, if it does.
export function showLegend(place, curves, hidden, changed) {
  const held = [...place.children].indexOf(document.activeElement);
  place.replaceChildren(...curves.map((curve) => button(curve, hidden, changed)));
  if (held >= 0) place.children[held]?.focus(); // whoever works with the keyboard stays where they were
}

function button({ name, label, color: variable, width, dash, off, title }, hidden, changed) {
  const one = document.createElement("button");
  one.type = "button";
  one.setAttribute("aria-pressed", String(!hidden.has(name)));
  one.classList.toggle("off", Boolean(off));
  one.title = off ?? title ?? "";
  one.append(sample(variable, width, dash), label);
  one.addEventListener("click", () => {
    hidden[hidden.has(name) ? "delete" : "add"](name);
    changed();
  });
  return one;
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
