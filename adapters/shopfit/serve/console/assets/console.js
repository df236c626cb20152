// What every page does: dialogs, notices, dropping files, and the session's token on each change.
"use strict";

document.addEventListener("htmx:configRequest", (event) => {
  event.detail.headers["x-csrf-token"] = document.querySelector("meta[name=csrf]").content;
});

// A part that arrives in #dialog opens it; what closes it gives the focus back (the browser does).
document.addEventListener("htmx:afterSwap", (event) => {
  const dialog = document.getElementById("dialog");
  if (event.detail.target === dialog && dialog.childElementCount && !dialog.open) dialog.showModal();
  if (event.detail.target.id === "notice") event.detail.target.scrollIntoView({ block: "nearest" });
});
document.addEventListener("click", (event) => {
  if (event.target.closest("[data-close]")) document.getElementById("dialog").close();
  const copied = event.target.closest("[data-copy]");
  if (copied) {
    navigator.clipboard.writeText(document.getElementById(copied.dataset.copy).textContent);
    const words = copied.textContent;
    copied.textContent = copied.dataset.done;
    setTimeout(() => { copied.textContent = words; }, 1500);
  }
});

for (const kind of ["htmx:sendError", "htmx:timeout"]) {
  document.addEventListener(kind, () => {
    const notice = document.getElementById("notice");
    notice.textContent = "";
    const box = document.createElement("div");
    box.className = "notice bad";
    box.setAttribute("role", "alert");
    box.dataset.gone = "";
    box.textContent = document.body.dataset.unreachable;
    notice.append(box);
  });
}

document.addEventListener("htmx:afterOnLoad", () => {
  document.querySelectorAll("[data-gone]").forEach((box) => box.remove());
});

// Where the menu is a row, the page that is open is in sight.
for (const here of document.querySelectorAll(".side nav [aria-current]")) {
  const menu = here.closest("ul");
  menu.scrollLeft += here.getBoundingClientRect().left - menu.getBoundingClientRect().left - (menu.clientWidth - here.offsetWidth) / 2;
}

// Once a first question is answered, its engine runs.
document.addEventListener("htmx:afterOnLoad", (event) => {
  if (event.detail.successful) event.detail.elt.querySelector(".starts")?.remove();
});

// <select data-submit> and <input type=range data-shows=ID> need no button.
document.addEventListener("change", (event) => {
  if (event.target.matches("[data-submit]")) event.target.form.requestSubmit();
});
document.addEventListener("input", (event) => {
  const shows = event.target.dataset.shows;
  if (shows) document.getElementById(shows).textContent = `${event.target.value}%`;
});

// A file dropped on .drop goes into its <input type=file>.
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    const place = event.target.closest && event.target.closest(".drop");
    if (!place) return;
    event.preventDefault();
    place.classList.toggle("over", kind === "dragover");
    if (kind !== "drop" || !event.dataTransfer.files.length) return;
    const input = place.querySelector("input[type=file]");
    input.files = event.dataTransfer.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  });
}
