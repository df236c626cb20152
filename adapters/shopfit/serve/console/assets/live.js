// Parts of a page that are brought up to date by polling (data-live): it rests while nobody looks, and tables stay where they were scrolled to.
"use strict";

document.addEventListener("htmx:beforeRequest", (event) => {
  if (document.hidden && event.detail.elt.matches("[data-live]")) event.preventDefault();
});

const places = new Map();
document.addEventListener("htmx:oobBeforeSwap", (event) => {
  for (const table of event.detail.target.querySelectorAll(".table[id]")) places.set(table.id, table.scrollLeft);
});
document.addEventListener("htmx:oobAfterSwap", () => {
  for (const [id, left] of places) {
    const table = document.getElementById(id);
    if (table) table.scrollLeft = left;
  }
});
