// A label in, an axis as uPlot wants it out: large enough to be read from afar.

import { color } from "./dom.js";

const TICK = 5;

// 1, 2 and 5 of each decade carry a label on a logarithmic axis.
export function round(tick) {
  if (tick === null || tick <= 0) return false;
  const mantissa = tick / 10 ** Math.floor(Math.log10(tick) + 1e-9);
  return [1, 2, 5].some((one) => Math.abs(mantissa - one) < 1e-6);
}

export function axis(label, side, values) {
  const size = Math.round(Math.min(22, Math.max(13, window.innerWidth / 90)));
  const font = `${size}px system-ui, "DejaVu Sans", sans-serif`;
  const grid = { stroke: color("--line"), width: 1 };
  return {
    label, values, font, labelFont: font, stroke: color("--soft"), grid, ticks: { ...grid, size: TICK },
    labelSize: size * 1.5, labelGap: 0, gap: size / 3, size: TICK + size * (side === "x" ? 1.7 : 4),
  };
}
