// Profiles in (api/profiles), one plot with its legend out; those that mean little now are grey, and say why.

import { axis, round } from "./axes.js";
import { color } from "./dom.js";
import { plain } from "./formats.js";
import { showLegend } from "./legend.js";
import { Plot } from "./plot.js";

const KINDS = [
  { name: "mean", label: "mean", color: "--accumulated", width: 2 },
  { name: "sigma_clip", label: "sigma-clip", color: "--union", width: 2 },
  { name: "quantile", label: "median", color: "--good", width: 2 },
  { name: "median_clip", label: "median-clip", color: "--violet", width: 2 },
];
const AXES = {
  "2th_deg": "2θ (°)", "2th_rad": "2θ (rad)", "q_nm^-1": "q (1/nm)", "q_A^-1": "q (1/Å)", r_mm: "radius (mm)",
};

export class Profiles {
  #legend;
  #warning;
  #plot;
  #hidden = new Set();
  #told = null;
  #looks = "";
  #logarithmic = false;

  constructor(place, legend, warning) {
    this.#plot = new Plot(place);
    this.#legend = legend;
    this.#warning = warning;
  }

  show(told) {
    this.#told = told;
    const looks = JSON.stringify([told.unit, this.#kinds().map(({ name, off }) => [name, off])]);
    if (this.#plot.exists && looks === this.#looks) this.#plot.update(this.#columns());
    else this.draw();
    this.#looks = looks;
  }

  scale(name) {
    this.#logarithmic = name === "log";
    this.draw();
  }

  draw() {
    if (this.#told === null) return;
    showLegend(this.#legend, this.#kinds(), this.#hidden, () => this.draw());
    const warnings = this.#kinds().filter(({ off }) => off).map(({ label, off }) => `${label}: ${off}`);
    this.#warning.textContent = warnings.join(". ");
    this.#plot.draw(this.#options(), this.#columns());
  }

  #kinds() {
    const { profiles } = this.#told;
    return KINDS.filter(({ name }) => profiles[name]).map((kind) => {
      const off = profiles[kind.name].warning;
      return off ? { ...kind, off, color: "--line" } : kind;
    });
  }

  // A logarithmic axis has no place for zero and below.
  #columns() {
    const { radial, profiles } = this.#told;
    const shown = (one) => (this.#logarithmic && !(one > 0) ? null : one);
    return [radial, ...this.#kinds().map(({ name }) => profiles[name].intensity.map(shown))];
  }

  #options() {
    const series = this.#kinds().map(({ name, label, color: variable, width }) => ({
      label, width, stroke: color(variable), points: { show: false }, show: !this.#hidden.has(name),
    }));
    const ticks = (all) => all.map((tick) => (this.#logarithmic && !round(tick) ? null : plain(tick, 4)));
    return {
      scales: { x: { time: false }, y: { distr: this.#logarithmic ? 3 : 1 } },
      axes: [
        axis(AXES[this.#told.unit] ?? this.#told.unit, "x", (_, all) => all.map((tick) => plain(tick, 5))),
        axis("intensity", "y", (_, all) => ticks(all)),
      ],
      series: [{}, ...series],
    };
  }
}
