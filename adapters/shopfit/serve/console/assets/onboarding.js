// Onboarding: fields for a new merchant alone, files that are too large said before they are sent, and nothing taken
// that is read in another way than the page says.
"use strict";

function unfold(select) {
  const part = document.getElementById(select.dataset.unfolds);
  const name = part.querySelector("[name=name]");
  const unnamed = select.value === "";
  part.hidden = part.disabled = !unnamed && !("new" in select.selectedOptions[0].dataset);
  name.required = unnamed;
  name.closest(".field").hidden = !unnamed;
}

function outdate(id) {
  const form = document.getElementById(id);
  if (!form) return;
  form.hidden = true;
  document.getElementById(`${id}-outdated`).hidden = false;
}

document.addEventListener("DOMContentLoaded", () => document.querySelectorAll("[data-unfolds]").forEach(unfold));
document.addEventListener("change", (event) => {
  if (event.target.matches("[data-unfolds]")) unfold(event.target);
  const reading = event.target.closest("form[data-outdates]");
  if (reading) outdate(reading.dataset.outdates);
  if (event.target.matches("input[type=file][data-most]")) {
    const [file] = event.target.files;
    const large = file && file.size > Number(event.target.dataset.most);
    event.target.setCustomValidity(large ? event.target.dataset.tooLarge : "");
    if (large) event.target.reportValidity();
  }
});
