// Texts in, elements of the page out. Texts never become markup.

export const element = (id) => document.getElementById(id);

// Unchanged text is left alone: who has marked it, or listens to it, is not disturbed.
export function show(id, text) {
  if (element(id).textContent !== text) element(id).textContent = text;
}

export function cell(text, tag = "td") {
  const one = document.createElement(tag);
  one.textContent = text;
  return one;
}

export function color(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}
