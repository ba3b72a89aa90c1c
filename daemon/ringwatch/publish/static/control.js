// Presses of buttons in, orders to the daemon out; the token is typed in once and kept by this tab of the browser only.

import { element, show } from "./dom.js";
import { known } from "./known.js";

const KEPT = "ringwatch token";
const QUESTIONS = {
  token: { text: "Token (web.token of the configuration)", type: "password", go: "Unlock" },
  hold: { text: "Let this series go on, whatever the rule says?", go: "Keep measuring" },
  stop: { text: "Stop the detector now?", go: "Stop now" },
  sample: { text: "Name of the next sample", type: "text", go: "New sample" },
};
const SENDABLE = /^[\x21-\x7e]+$/;

let asked = null;

export function showControl() {
  const unlocked = sessionStorage.getItem(KEPT) !== null;
  element("control").hidden = !known().control;
  for (const one of element("control").querySelectorAll("button")) one.hidden = (one.value === "token") === unlocked;
}

async function order(name, token, body) {
  if (!SENDABLE.test(token)) return { error: "wrong token" };
  const headers = { Authorization: `Bearer ${token}`, "Content-Type": "application/json" };
  const answer = await fetch(`api/${name}`, { method: "POST", headers, body: JSON.stringify(body) }).catch(() => null);
  return answer === null ? { error: "The daemon does not answer." } : answer.json();
}

function ask(name) {
  asked = name;
  const { text, type, go } = QUESTIONS[name];
  const field = element("field");
  show("question", text);
  show("refusal", "");
  show("go", go);
  field.hidden = !type;
  field.required = Boolean(type);
  field.value = "";
  if (type) field.type = type;
  element("ask").showModal();
}

async function go(event) {
  event.preventDefault();
  const given = element("field").value.trim();
  const token = asked === "token" ? given : sessionStorage.getItem(KEPT) ?? "";
  const { error, sentence } = await order(asked, token, asked === "sample" ? { sample: given } : {});
  if (error === "wrong token") sessionStorage.removeItem(KEPT);
  else if (asked === "token") sessionStorage.setItem(KEPT, token);
  showControl();
  show("refusal", error ?? "");
  if (error) return;
  show("answer", sentence);
  element("ask").close();
}

element("control").addEventListener("click", ({ target }) => target.value && ask(target.value));
element("ask-form").addEventListener("submit", go);
element("cancel").addEventListener("click", () => element("ask").close());
