// Labelling by keyboard: each answer's button says its key in data-key. See pages/label.py.
"use strict";

const SAME_AS = { "0": "n" };

// The key as it is printed on a keyboard of whatever language.
function keyOf(event) {
  const digit = /^(?:Digit|Numpad)([0-9])$/.exec(event.code);
  if (digit && !event.shiftKey) return digit[1];
  const key = event.key.toLowerCase();
  if (/^[0-9a-z/]$/.test(key)) return key;
  const letter = /^Key([A-Z])$/.exec(event.code);
  return letter ? letter[1].toLowerCase() : "";
}

function press(key) {
  const work = document.getElementById("work");
  if (work.querySelector(".htmx-request")) return; // what is pressed meanwhile is for no row
  const button = work.querySelector(`button[data-key="${SAME_AS[key] || key}"]:not([hidden], [disabled])`);
  if (button) button.click();
}

document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.repeat || event.isComposing || document.querySelector("dialog[open]")) return;
  if (event.target.matches("[data-filter]")) {
    if (event.key === "Enter") {
      event.preventDefault();
      const first = document.querySelector("#work [data-answer]:not([hidden])");
      if (first) first.click();
    }
    return;
  }
  if (event.target.closest("input:not([type=checkbox]), textarea, select")) return;
  const command = event.ctrlKey || event.metaKey;
  const undo = command && !event.shiftKey && !event.altKey && event.key.toLowerCase() === "z";
  if ((command && !undo) || event.altKey || !document.querySelector("[data-keys]").checked) return;
  const key = undo ? "u" : keyOf(event);
  if (!key) return;
  const filter = document.querySelector("[data-filter]");
  if (key === "/" && filter) filter.focus();
  else if (key !== "/") press(key);
  else return;
  event.preventDefault();
});

// <input data-filter> shows the answers that have a text in them.
document.addEventListener("input", (event) => {
  if (!event.target.matches("[data-filter]")) return;
  const wanted = event.target.value.trim().toLowerCase();
  for (const button of document.querySelectorAll("#work [data-answer]")) {
    button.hidden = !button.querySelector(".answer").textContent.toLowerCase().includes(wanted);
  }
});

function prepare() {
  for (const place of document.querySelectorAll("[data-js]")) place.hidden = false;
}

// The next row has the focus, so that it is read out and Tab leads to its answers.
document.addEventListener("htmx:afterSwap", (event) => {
  if (event.detail.target.id !== "work") return;
  prepare();
  const next = document.querySelector("#work [data-focus]");
  if (next) next.focus();
});

prepare();
