// Profiles and the summed image, fetched while somebody looks at the page, and only when they have changed.

import { element } from "./dom.js";
import { SummedImage } from "./image.js";
import { Profiles } from "./profiles.js";

const PROFILES_MS = 2000;
const IMAGE_MS = 5000;

const profiles = new Profiles(element("profiles-plot"), element("profiles-legend"), element("profiles-warning"));
const image = new SummedImage(element("picture"));
const tags = {};

export function showRings(table) {
  image.rings(table);
}

export function drawPictures() {
  profiles.draw();
}

// The answer if it is another than the last; null: nothing new, or nobody there, which the events tell. While there is
// nothing of a new series what was drawn for the one before stays, in grey.
async function news(path, panel) {
  const answer = await fetch(path).catch(() => null);
  if (answer !== null) panel.classList.toggle("old", answer.status === 204);
  if (answer?.status !== 200 || tags[path] === answer.headers.get("ETag")) return null;
  tags[path] = answer.headers.get("ETag");
  return answer;
}

async function fetchProfiles() {
  const answer = await news("api/profiles", element("profiles"));
  if (answer === null) return;
  document.body.classList.add("has-profiles");
  profiles.show(await answer.json());
}

let bins = null;

async function fetchImage() {
  const panel = element("image");
  const answer = await news("api/image", panel);
  if (answer === null) return;
  const counts = new Float32Array(await answer.arrayBuffer());
  const table = await news("api/image?of=bins", panel);
  if (table !== null) bins = new Uint16Array(await table.arrayBuffer());
  if (bins?.length !== counts.length) return; // the geometry changed in between
  const [rows, columns] = answer.headers.get("Ringwatch-Shape").split(" ").map(Number);
  const [unused, frames] = ["Bins", "Frames"].map((name) => Number(answer.headers.get(`Ringwatch-${name}`)));
  document.body.classList.add("has-image");
  image.show({ counts, bins, unused, rows, columns, frames });
}

function whileSeen(fetchOne, period) {
  const once = () => document.visibilityState === "visible" && fetchOne();
  setInterval(once, period);
  once();
}

element("profiles-scale").addEventListener("change", ({ target }) => profiles.scale(target.value));
element("image-scale").addEventListener("change", ({ target }) => image.scale(target.value));
element("ringed").addEventListener("change", ({ target }) => image.ringed(target.checked));
whileSeen(fetchProfiles, PROFILES_MS);
whileSeen(fetchImage, IMAGE_MS);
