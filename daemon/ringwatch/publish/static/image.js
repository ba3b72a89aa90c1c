// Raw counts and radial bins of the summed image in (api/image), a canvas with the rings drawn out.

import { show } from "./dom.js";

// Dark to bright, each step as visible as the one before: violet, red, orange, pale yellow.
const STOPS = [[8, 6, 22], [62, 18, 92], [140, 40, 110], [208, 72, 72], [246, 140, 40], [250, 210, 90], [252, 252, 200]];
const BRIGHTEST = 0.995;
const RING = [120, 220, 255];
const RING_SHARE = 0.8;
const LEVELS = 256;

const PALETTE = Array.from({ length: LEVELS }, (_, level) => {
  const place = (level / (LEVELS - 1)) * (STOPS.length - 1);
  const below = Math.min(Math.floor(place), STOPS.length - 2);
  return STOPS[below].map((from, channel) => from + (place - below) * (STOPS[below + 1][channel] - from));
});

export class SummedImage {
  #canvas;
  #image = null; // {counts, bins, unused, rows, columns, frames}: `unused` is the bin of pixels that have none
  #rings = null;
  #root = false;
  #ringed = true;

  constructor(canvas) {
    this.#canvas = canvas;
  }

  show(image) {
    this.#image = image;
    this.draw();
  }

  // The table of the rings, or null.
  rings(table) {
    const same = JSON.stringify(table?.first) === JSON.stringify(this.#rings?.first);
    this.#rings = table;
    if (!same) this.draw();
  }

  scale(name) {
    this.#root = name === "root";
    this.draw();
  }

  ringed(yes) {
    this.#ringed = yes;
    this.draw();
  }

  draw() {
    if (this.#image === null) return;
    const { counts, rows, columns, frames } = this.#image;
    this.#canvas.width = columns;
    this.#canvas.height = rows;
    const context = this.#canvas.getContext("2d");
    const picture = context.createImageData(columns, rows);
    const level = this.#levels(counts);
    for (let i = 0; i < counts.length; i += 1) {
      if (!Number.isNaN(counts[i])) picture.data.set([...PALETTE[level(counts[i])], 255], 4 * i);
    }
    if (this.#ringed) this.#drawRings(picture.data);
    context.putImageData(picture, 0, 0);
    show("image-frames", `sum of ${frames} frames`);
  }

  // What level of the palette a number of counts has; the few pixels that are brighter than nearly all have the last.
  #levels(counts) {
    const sorted = counts.filter((one) => !Number.isNaN(one)).sort();
    const brightest = Math.max(sorted[Math.floor(BRIGHTEST * (sorted.length - 1))] ?? 1, 1e-9);
    const darkest = Math.max(sorted[Math.floor(sorted.length / 100)] ?? 0, brightest / 1e4);
    const scaled = this.#root
      ? (one) => Math.sqrt(Math.max(one, 0) / brightest)
      : (one) => Math.log(Math.max(one, darkest) / darkest) / Math.log(Math.max(brightest / darkest, 1.0001));
    return (one) => Math.min(Math.floor(scaled(one) * LEVELS), LEVELS - 1);
  }

  // A pixel is on a ring where the middle of the ring lies between it and its neighbour. Only the half right of the beam
  // is drawn over, so that the other shows what is measured.
  #drawRings(data) {
    const { bins, unused, columns } = this.#image;
    const middles = (this.#rings?.first ?? []).map((first, i) => (first + this.#rings.last[i]) / 2);
    const inside = new Uint16Array(unused + 1); // of each bin: how many rings have their middle at or below it
    for (let bin = 0; bin <= unused; bin += 1) inside[bin] = middles.filter((middle) => middle <= bin).length;
    const crossed = (a, b) => bins[a] !== unused && bins[b] !== unused && inside[bins[a]] !== inside[bins[b]];
    const centre = bins.indexOf(bins.reduce((least, one) => Math.min(least, one), unused)) % columns;
    for (let i = 0; i + columns < bins.length; i += 1) {
      if (i % columns < centre) continue;
      if (((i + 1) % columns && crossed(i, i + 1)) || crossed(i, i + columns)) mix(data, 4 * i);
    }
  }
}

function mix(data, at) {
  for (let channel = 0; channel < 3; channel += 1) {
    data[at + channel] += RING_SHARE * (RING[channel] - data[at + channel]);
  }
  data[at + 3] = 255;
}
