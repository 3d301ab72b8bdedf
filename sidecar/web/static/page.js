"use strict";

// What moves by itself. The page can be read without: then it is as it was when it was opened.

const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// Parts of the page that the node sends anew, each in the place of the one of its id.
function follow(place) {
  const source = new EventSource(place);
  source.onmessage = (event) => {
    const sent = document.createElement("template");
    sent.innerHTML = event.data;
    for (const part of sent.content.querySelectorAll("[data-part]")) {
      document.getElementById(part.id)?.replaceWith(part);
    }
  };
}

const charts = new Map();
const CHART_HEIGHT = 210;
const EVERY_MS = 5000;
const SHOWN_S_MIN = 300;
const STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000];
const DAY_S = 86400;
const TIMES = [60, 300, 600, 900, 3600, 10800, 21600, DAY_S, 7 * DAY_S, 30 * DAY_S, 60 * DAY_S, 90 * DAY_S];
// UTC, as all times of the page: the day where it begins, or where hours are too short to be shown.
const moment = (at_s, step_s) => {
  const text = new Date(at_s * 1000).toISOString();
  return step_s >= DAY_S || text.slice(11, 16) === "00:00" ? text.slice(5, 10) : text.slice(11, 16);
};

function axes() {
  const axis = { stroke: style("--quiet"), grid: { stroke: style("--line"), width: 1 }, ticks: { show: false } };
  return [{ ...axis, values: (_, times, __, ___, step_s) => times.map((at_s) => moment(at_s, step_s)), incrs: TIMES, size: 30 }, { ...axis, size: 44, incrs: STEPS }];
}

function draw(element, data, series, bands) {
  const before = charts.get(element);
  const width = element.clientWidth;
  if (before && before.width === width && before.series.length === series.length) {
    before.setData(data);
    return;
  }
  before?.destroy();
  element.replaceChildren();
  charts.set(element, new uPlot({
    width, height: CHART_HEIGHT, series, bands, axes: axes(), legend: { live: false },
    cursor: { drag: { x: false, y: false } },
    scales: { x: { range: (_, first, last) => [Math.min(first, last - SHOWN_S_MIN), last] }, y: { range: (_, __, most) => [0, Math.max(1, most * 1.05)] } },
  }, data, element));
}

function drawCalls(element, sent) {
  const line = { label: "calls up", stroke: style("--c0"), fill: style("--c0") + "22", width: 1.5, points: { show: false } };
  draw(element, [sent.at_s, sent.calls], [{}, line]);
}

function drawPast(element, sent) {
  const line = (label, colour) => ({ label, stroke: style(colour), fill: style(colour) + "22", width: 1.5, points: { show: false } });
  draw(element, [sent.at_s, sent.ended, sent.answered], [{}, line("ended", "--c0"), line("answered", "--c1")]);
}

function drawPdd(element, sent) {
  const line = { label: "mean, ms", stroke: style("--c3"), width: 1.5, spanGaps: false, points: { show: true, size: 4 } };
  draw(element, [sent.at_s, sent.pdd_ms], [{}, line]);
}

const OTHERS = ["at_s", "step_s", "calls", "ended", "answered", "pdd_ms"];

// Each on top of those before it; what did not happen is left out.
function drawEnds(element, sent) {
  const names = Object.keys(sent).filter((name) => !OTHERS.includes(name));
  const shown = names.filter((name) => sent[name].some((count) => count > 0));
  // A step is drawn up to the next point: the last one needs another.
  const more = (values, last) => [...values, last];
  const data = [more(sent.at_s, sent.at_s.at(-1) + (sent.step_s ?? 10))];
  let below = data[0].map(() => 0);
  for (const name of shown) {
    below = below.map((count, index) => count + (sent[name][index] ?? sent[name].at(-1)));
    data.push(below);
  }
  const series = shown.map((name) => {
    const colour = style(`--c${names.indexOf(name) % 8}`);
    return { label: name, stroke: colour, fill: colour, width: 0, points: { show: false }, paths: uPlot.paths.stepped({ align: 1 }) };
  });
  // Drawn from the top down, so that each covers what is below it.
  draw(element, [data[0], ...data.slice(1).reverse()], [{}, ...series.reverse()]);
}

const DRAWN = { calls: drawCalls, ends: drawEnds, past: drawPast, pdd: drawPdd };

async function refresh(group) {
  const answer = await fetch(group.dataset.series, { headers: { "hx-request": "true" } });
  if (!answer.ok) return;
  const sent = await answer.json();
  group.hidden = sent.at_s.length < 1;
  if (group.hidden) return;
  for (const element of group.querySelectorAll("[data-chart]")) DRAWN[element.dataset.chart](element, sent);
}

document.addEventListener("DOMContentLoaded", () => {
  for (const element of document.querySelectorAll("[data-stream]")) follow(element.dataset.stream);
  for (const group of document.querySelectorAll("[data-series]")) {
    if (!window.uPlot) continue;
    const again = () => refresh(group).catch(() => {});
    again();
    setInterval(again, group.dataset.series.includes("?") ? 6 * EVERY_MS : EVERY_MS);
    addEventListener("resize", again);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      for (const chart of charts.values()) chart.destroy();
      charts.clear();
      again();
    });
  }
});
