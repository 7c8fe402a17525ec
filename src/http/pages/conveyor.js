// Keeps the page fresh: what changed is read again from the server, so that it is written in one place only.
"use strict";

const live = document.getElementById("live");

function say(on) {
  live.hidden = false;
  live.classList.toggle("on", on);
  live.textContent = on ? "live" : "connecting…";
}

// Reads the page again and puts its changed parts in place; at most once a second, and not while nobody looks.
let due = null, busy = false, stale = false;
function refresh() {
  if (due || busy || document.hidden) { stale = true; return; }
  due = setTimeout(async () => {
    due = null; busy = true; stale = false;
    try {
      const reply = await fetch(location.href, { cache: "no-store" });
      if (reply.ok) {
        const fresh = new DOMParser().parseFromString(await reply.text(), "text/html");
        for (const part of document.querySelectorAll("[data-part]")) {
          const other = fresh.getElementById(part.id);
          if (other && other.innerHTML !== part.innerHTML) part.replaceChildren(...other.childNodes);
        }
      }
    } catch { /* the stream of events tells when the server is back */ }
    setTimeout(() => { busy = false; if (stale) refresh(); }, 1000);
  }, 100);
}
document.addEventListener("visibilitychange", () => { if (!document.hidden && stale) refresh(); });

const part = document.querySelector("[data-events]");
if (part) {
  const events = new EventSource(part.dataset.events);
  let lost = false;
  events.onopen = () => { say(true); if (lost) refresh(); lost = false; };
  events.onerror = () => { lost = true; say(false); };
  events.addEventListener("job", (event) => { refresh(); follow(JSON.parse(event.data).state); });
  // The list of jobs says nothing of it.
  if (document.getElementById("log")) events.addEventListener("progress", refresh);
  events.addEventListener("reset", () => location.reload());
}

// The log, from where the page ends.
const log = document.getElementById("log");
const MOST = 1 << 20;
let source = null, place = log ? log.dataset.after : null;
function follow(state) {
  if (!log || source || ["succeeded", "failed", "cancelled", "skipped"].includes(state)) return;
  source = new EventSource(log.dataset.stream + "?after=" + encodeURIComponent(place));
  source.addEventListener("log", (event) => {
    const piece = JSON.parse(event.data);
    const [attempt, offset] = place.split(":").map(Number);
    const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
    let text = piece.text;
    if (piece.attempt !== attempt) text = (attempt ? "\n" : "") + "— attempt " + piece.attempt + " —\n" + text;
    else if (piece.offset > offset) text = "\n… " + (piece.offset - offset) + " bytes left out …\n" + text;
    log.append(text);
    let size = log.textContent.length;
    while (size > MOST && log.childNodes.length > 1) { size -= log.firstChild.length; log.firstChild.remove(); }
    place = event.lastEventId;
    if (atEnd) log.scrollTop = log.scrollHeight;
  });
  source.addEventListener("end", () => { source.close(); source = null; });
}
if (log) { log.scrollTop = log.scrollHeight; follow(""); }
