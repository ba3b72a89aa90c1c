// What is known in; the word, the sentence, the number with its target, and the line above them out.

import { element, show } from "./dom.js";
import { METRICS, amount, forecast, goal } from "./formats.js";
import { connected, decided, known, running } from "./known.js";

export function showWords() {
  const facts = known();
  const word = connected() ? facts.word : "NO CONNECTION";
  document.body.dataset.word = word;
  show("word", word);
  const sentence = connected() ? facts.sentence : "The daemon does not answer. What stands here is what it said last.";
  show("sentence", sentence.replaceAll(" %", "\u00a0%"));
  show("sample", facts.sample || "–");
  show("series", facts.series === null || facts.series === undefined ? "–" : String(facts.series));
  show("frame", facts.frame ? `${facts.frame}${facts.frames_expected ? ` of ${facts.frames_expected}` : ""}` : "–");
  showNumber(facts);
  document.title = connected() ? `${element("number").textContent} ${word} – ringwatch` : "ringwatch: no connection";
}

// The metric that decides with its target and the time it still takes; without a decision the spottiness.
function showNumber(facts) {
  const value = decided() ? facts.value : facts[`accumulated_${facts.measure}`];
  document.querySelector(".number").hidden = !decided() && typeof value !== "number";
  show("number", amount(facts.measure, value));
  show("target", decided() ? `→ ${goal(facts.metric, facts.target)}` : "");
  show("number-label", METRICS[facts.measure].label);
  const more = decided() && running() && facts.action === "continue";
  show("forecast", more ? forecast(facts.forecast_seconds, facts.forecast_seconds_low, facts.forecast_seconds_high) : "");
}
