"use strict";
// Adds a log's lines as they come. What they hold is put in as text, never as markup.
(() => {
  const table = document.getElementById("log");
  const tail = document.getElementById("tail");
  if (!table || !tail || !window.EventSource) return;
  const body = table.tBodies[0];
  const LINES_MAX = 1000;
  const put = (parent, tag, text, attributes) => {
    const inner = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) inner.setAttribute(name, value);
    inner.textContent = text;
    parent.append(inner);
    return inner;
  };
  const cell = (row, tag, text, attributes) => {
    const td = row.insertCell();
    if (text !== null && text !== undefined && text !== "") put(td, tag, text, attributes);
  };
  const say = text => { tail.hidden = false; tail.textContent = text; };
  const events = new EventSource(table.dataset.follow);
  events.onopen = () => say(tail.dataset.live);
  events.onerror = () => say(tail.dataset.lost);
  events.onmessage = event => {
    const line = JSON.parse(event.data);
    const row = body.insertRow();
    row.className = ["info", "warn", "error"].includes(line.level) ? line.level : "info";
    const at = new Date(line.at_ms).toISOString();
    cell(row, "time", at.slice(0, 19).replace("T", " "), { datetime: at });
    row.insertCell().textContent = table.dataset[row.className];
    cell(row, "code", line.topic && (line.partition === null ? line.topic : line.topic + "/" + line.partition));
    const code = row.insertCell();
    if (line.code) put(put(code, "a", "", { href: "/console/errors#" + line.code }), "code", line.code);
    cell(row, "samp", line.text, { lang: "en" });
    while (body.rows.length > LINES_MAX) body.deleteRow(0);
  };
})();
