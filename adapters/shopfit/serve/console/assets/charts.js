// Curves by uPlot. <div class="chart" data-chart='{"x": [...], "series": [{"name", "values"}], "x_name": "..."}'>
"use strict";

const palette = ["--accent", "--warn", "--good", "--bad"];

function colour(name) {
  const probe = document.createElement("span");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

function draw(place) {
  const told = JSON.parse(place.dataset.chart);
  const whole = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000];
  const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line") } };
  const lines = told.series.map((one, index) => ({
    label: one.name,
    stroke: colour(palette[index % palette.length]),
    width: 2,
    dash: index ? [6 * index, 4] : undefined,
    points: { show: told.x.length < 60 },
    spanGaps: true,
  }));
  const size = { width: Math.max(260, place.clientWidth), height: 240 };
  place.replaceChildren();
  new uPlot(
    { ...size, scales: { x: { time: false } }, legend: { live: false }, axes: [{ ...axis, label: told.x_name, incrs: whole }, axis], series: [{ label: told.x_name }, ...lines] },
    [told.x, ...told.series.map((one) => one.values)],
    place,
  );
}

function drawAll(root) {
  root.querySelectorAll("[data-chart]").forEach(draw);
}

document.addEventListener("DOMContentLoaded", () => drawAll(document));
document.addEventListener("htmx:afterSettle", (event) => drawAll(event.detail.elt));
let waiting = 0;
addEventListener("resize", () => { clearTimeout(waiting); waiting = setTimeout(() => drawAll(document), 150); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawAll(document));
