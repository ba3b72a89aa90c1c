// What the daemon said last in (flat facts), whether that still holds out.

export const MEASURES = ["spottiness_rings", "spottiness", "spottiness_weighted"];
export const STALE_S = 2;

let facts = { word: "WAITING", sentence: "Connecting to the daemon …", measure: "spottiness" };
let factsAt = performance.now();
let answers = true;

export const known = () => facts;
export const connected = () => answers;
export const decided = () => typeof facts.action === "string";
export const running = () => ["start", "joined", "resumed", "ready"].includes(facts.event) && facts.state !== "error";

export function learn(said) {
  facts = said;
  factsAt = performance.now();
  answers = true;
}

export function lose() {
  answers = false;
}

// Seconds since the last data came; null before the first.
export function age() {
  return typeof facts.age_s === "number" ? facts.age_s + (performance.now() - factsAt) / 1000 : null;
}

// A finished series does not age; a running one does, and whatever was said before the connection broke.
export function stale() {
  return !answers || (running() && age() !== null && age() > STALE_S);
}
