// The curves of one measure in (api/history), one log-log plot with its legend out.

import { axis, round } from "./axes.js";
import { color } from "./dom.js";
import { METRICS, plain } from "./formats.js";
import { showLegend } from "./legend.js";
import { Plot } from "./plot.js";

const CURVES = [
  { name: "frame", label: "each frame", color: "--frame", width: 1 },
  { name: "union", label: "union of pixels", title: "Not a measure of convergence", color: "--union", width: 2, dash: [10, 6] },
  { name: "noise", label: "1/√N", color: "--soft", width: 2, dash: [2, 6] },
  { name: "target", label: "target", color: "--good", width: 3, dash: [16, 6] },
  { name: "low", of: "accumulated", color: "--band", width: 0 },
  { name: "high", of: "accumulated", color: "--band", width: 0 },
  { name: "accumulated", label: "summed image", color: "--accumulated", width: 4 },
];
const BAND = ["high", "low"].map((name) => CURVES.findIndex((curve) => curve.name === name) + 1);
const NOTHING = { n_frames: [], value: [] };

// A logarithmic axis has no place for zero and below.
function positive({ n_frames, value }) {
  return [n_frames, value.map((one) => (one > 0 ? one : null))];
}

export class Curves {
  #legend;
  #plot;
  #hidden = new Set(["union"]); // who wants it asks for it: it says nothing of the sample
  #history = null;
  #target = null;

  constructor(place, legend) {
    this.#plot = new Plot(place);
    this.#legend = legend;
  }

  // New curves; `target` is a number, or null where the measure has none.
  show(history, target) {
    const same = this.#plot.exists && history.measure === this.#history.measure && target === this.#target;
    this.#history = history;
    this.#target = target;
    if (same) this.#plot.update(this.#columns());
    else this.draw();
  }

  // Everything anew, also when the colours have changed.
  draw() {
    if (this.#history === null) return;
    const named = CURVES.filter(({ name, label }) => label && (name !== "target" || this.#target !== null)).reverse();
    showLegend(this.#legend, named, this.#hidden, () => this.draw());
    this.#plot.draw(this.#options(), this.#columns());
  }

  #columns() {
    const curves = { ...this.#history, noise: this.#noise(), target: this.#goal() };
    return uPlot.join(CURVES.map(({ name }) => positive(curves[name])));
  }

  // First and last number of frames; the reference lines go from one to the other.
  #span() {
    const { accumulated, frame } = this.#history;
    const [first, ...more] = [accumulated, frame].flatMap(({ n_frames: n }) => (n.length ? [n[0], n[n.length - 1]] : []));
    return first === undefined ? null : [first, Math.max(...more, 10 * first)];
  }

  // 1/√N through the first point of the summed image: what independent grains would follow.
  #noise() {
    const { n_frames: n, value } = this.#history.accumulated;
    if (n.length === 0 || !METRICS[this.#history.measure].ratio) return NOTHING;
    const last = this.#span()[1];
    return { n_frames: [n[0], last], value: [value[0], value[0] * Math.sqrt(n[0] / last)] };
  }

  #goal() {
    const span = this.#span();
    return this.#target === null || span === null ? NOTHING : { n_frames: span, value: [this.#target, this.#target] };
  }

  #shown({ name, of }) {
    return !this.#hidden.has(of ?? name);
  }

  #options() {
    const { ratio, axis: name } = METRICS[this.#history.measure];
    const series = CURVES.map((curve) => ({
      label: curve.label, width: curve.width, dash: curve.dash, stroke: color(curve.color), spanGaps: true,
      points: { show: false }, show: this.#shown(curve),
    }));
    const value = (one) => (ratio ? `${plain(100 * one, 2)} %` : plain(one, 2));
    return {
      scales: {
        x: { time: false, distr: 3, range: (_, low, high) => [low ?? 1, Math.max(high ?? 10, 10 * (low ?? 1))] },
        y: { distr: 3, range: (_, low, high) => (low === null ? [0.01, 1] : [Math.min(low, high / 4) / 1.2, high * 1.2]) },
      },
      axes: [
        axis("frames", "x", (_, ticks) => ticks.map((n) => (round(n) ? String(n) : null))),
        axis(name, "y", (_, ticks) => ticks.map((tick) => (round(tick) ? value(tick) : null))),
      ],
      series: [{}, ...series],
      bands: [{ series: BAND, fill: color("--band") }],
    };
  }
}
