"use strict";
// Draws a rule's throughput and lag, and draws them again as new points come. Texts come with the page, in its language.
(() => {
  const box = document.getElementById("charts");
  if (!box || !window.uPlot) return;
  const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const charts = [
    { label: box.dataset.records, of: p => p.records_per_second },
    { label: box.dataset.bytes, of: p => p.bytes_per_second },
    { label: box.dataset.lag, of: p => p.lag_records },
    { label: box.dataset.age, of: p => p.lag_seconds },
  ];
  const empty = document.createElement("p");
  empty.className = "empty";
  empty.textContent = box.dataset.empty;
  box.append(empty);
  const short = n => n >= 1e9 ? (n / 1e9).toFixed(1) + "G" : n >= 1e6 ? (n / 1e6).toFixed(1) + "M" : n >= 1e3 ? (n / 1e3).toFixed(1) + "k" : String(Math.round(n * 10) / 10);
  const two = n => String(n).padStart(2, "0");
  const clock = s => { const d = new Date(s * 1000); return two(d.getUTCHours()) + ":" + two(d.getUTCMinutes()) + ":" + two(d.getUTCSeconds()); };
  const width = () => Math.max(260, Math.min(560, box.clientWidth));

  const make = chart => {
    chart.figure = document.createElement("figure");
    const caption = document.createElement("figcaption");
    chart.figure.append(caption);
    chart.caption = caption;
    box.append(chart.figure);
    const axis = { stroke: colour("--text"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line"), width: 1 } };
    chart.plot = new uPlot({
      width: width(), height: 180, legend: { show: false }, cursor: { drag: { x: false, y: false } },
      scales: { y: { range: (u, low, high) => [0, high > 0 ? high * 1.1 : 1] } },
      axes: [{ ...axis, values: (u, at) => at.map(clock), space: 90 }, { ...axis, values: (u, at) => at.map(short), size: 58 }],
      series: [{ label: box.dataset.time }, { label: chart.label, stroke: colour("--accent"), width: 2, points: { show: u => u.data[0].length === 1 } }],
    }, [[], []], chart.figure);
    // The drawing says nothing to those who do not see it; the caption says the last value.
    chart.plot.root.setAttribute("aria-hidden", "true");
  };

  const draw = points => {
    empty.hidden = points.length > 0;
    if (!points.length) return;
    const times = points.map(p => p.at_ms / 1000);
    for (const chart of charts) {
      if (!chart.plot) make(chart);
      const values = points.map(chart.of);
      chart.plot.setData([times, values]);
      // Of one point alone uPlot would show a day from it on, so that only midnight stands at the axis.
      if (times.length === 1) chart.plot.setScale("x", { min: times[0] - 30, max: times[0] + 30 });
      chart.caption.textContent = chart.label + ": " + short(values[values.length - 1]);
    }
  };

  const load = async () => {
    try {
      const answer = await fetch(box.dataset.from, { headers: { Accept: "application/json" }, redirect: "error" });
      if (answer.ok) draw(await answer.json());
    } catch { /* The service is away, or the session has ended: what is drawn stays. */ }
    setTimeout(load, 5000);
  };
  window.addEventListener("resize", () => charts.forEach(chart => chart.plot && chart.plot.setSize({ width: width(), height: 180 })));
  load();
})();
