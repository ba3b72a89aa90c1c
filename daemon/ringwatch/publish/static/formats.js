// Numbers in, the text a person reads out; what is not known is a dash.

export const METRICS = {
  spottiness_rings: { label: "spottiness of the summed rings", axis: "spottiness", ratio: true },
  spottiness: { label: "spottiness of the summed image", axis: "spottiness", ratio: true },
  spottiness_weighted: { label: "spottiness of the summed image, by intensity", axis: "spottiness", ratio: true },
  excess: { label: "spottiness without photon noise", axis: "excess", ratio: true },
  ring_uncertainty: { label: "uncertainty of the rings", axis: "uncertainty", ratio: true },
  relative_error: { label: "relative error of the bins", axis: "error", ratio: true },
  spots: { label: "crystallites on a ring", axis: "crystallites", ratio: false },
  counts: { label: "counts of a ring", axis: "counts", ratio: false },
};

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

export function percent(value) {
  if (!isNumber(value)) return "–";
  const p = 100 * value;
  return `${p.toFixed(p >= 9.95 ? 0 : p >= 0.095 ? 1 : 2)} %`;
}

export function plain(value, digits = 3) {
  return isNumber(value) ? String(Number(value.toPrecision(digits))) : "–";
}

// A metric's value: most are fractions, crystallites and counts are numbers.
export function amount(metric, value) {
  return METRICS[metric].ratio ? percent(value) : plain(value);
}

// A target is shown as it was configured: 2 %, not 2.0 %.
export function goal(metric, value) {
  return METRICS[metric].ratio && isNumber(value) ? `${plain(100 * value)} %` : plain(value);
}

export function duration(seconds) {
  if (seconds < 100) return `${seconds.toFixed(1)} s`;
  if (seconds < 6000) return `${Math.round(seconds / 60)} min`;
  return `${Math.round(seconds / 3600)} h`;
}

// "About 18 s more (11–31)"; empty where there is no forecast.
export function forecast(seconds, low, high) {
  if (!(isNumber(seconds) && seconds > 0)) return "";
  const [unit, name] = seconds < 100 ? [1, "s"] : seconds < 6000 ? [60, "min"] : [3600, "h"];
  const rounded = (value) => plain(Math.ceil(value / unit), 2);
  const upper = isNumber(high) ? `–${rounded(high)}` : " or more";
  return `About ${rounded(seconds)} ${name} more${isNumber(low) ? ` (${rounded(low)}${upper})` : ""}`;
}
