// Keeps a page live: progress moves at once, the rest is fetched as the server renders it and put in place of the old.
// All that a page says and does works without this script, too.

const root = document.documentElement.dataset.root;
const main = document.getElementById("main");
const line = document.getElementById("line");

const OFTEN = 500; // ms between two looks, at least
const REST = 4; // a look that took long is followed by a rest of so many times as long
const FRESH = 2500; // ms after which lengths and times are told anew while something runs
const STALE = 30000; // the same while nothing does

// --- Putting what is new in place of what is there, as little as possible ------------------------------------------------

const keyOf = (node) => (node.nodeType === Node.ELEMENT_NODE ? node.dataset.key || node.id || "" : "");

function alike(one, other) {
  return one.nodeType === other.nodeType && one.nodeName === other.nodeName && keyOf(one) === keyOf(other);
}

function attributes(old, fresh) {
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && !kept(old, name)) old.removeAttribute(name);
  }
  for (const { name, value } of [...fresh.attributes]) {
    if (old.getAttribute(name) !== value && !kept(old, name)) old.setAttribute(name, value);
  }
}

// What a person opened or closed stays so, and what they write stays written.
const touched = new WeakSet();
const kept = (node, name) =>
  (name === "open" && touched.has(node)) ||
  (name === "value" && node === document.activeElement);

function morph(old, fresh) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
    return;
  }
  if (old.isEqualNode(fresh)) return;
  attributes(old, fresh);
  const keyed = new Map();
  for (const child of old.children) if (keyOf(child)) keyed.set(keyOf(child), child);
  let place = old.firstChild;
  for (const next of [...fresh.childNodes]) {
    const known = keyOf(next) && keyed.get(keyOf(next));
    if (known && alike(known, next)) {
      if (known === place) place = place.nextSibling;
      else old.insertBefore(known, place);
      morph(known, next);
    } else if (place && !keyOf(place) && alike(place, next)) {
      morph(place, next);
      place = place.nextSibling;
    } else {
      old.insertBefore(document.importNode(next, true), place);
    }
  }
  while (place) {
    const gone = place;
    place = place.nextSibling;
    gone.remove();
  }
}

// --- Looking again --------------------------------------------------------------------------------------------------------

let wanted = false;
let looking = false;
let lookedAt = performance.now();
let pause = OFTEN;

async function look() {
  wanted = true;
  if (looking) return;
  looking = true;
  while (wanted) {
    const left = lookedAt + pause - performance.now();
    if (left > 0) await new Promise((done) => setTimeout(done, left));
    if (document.hidden) break; // looked at when it is seen again
    wanted = false;
    const began = performance.now();
    let later = 0;
    try {
      later = await replace();
    } catch {
      // The stream says whether the line is lost, and its return has us look again.
    }
    wanted ||= later > 0;
    lookedAt = performance.now();
    pause = Math.max(OFTEN, REST * (lookedAt - began), 1000 * later);
  }
  looking = false;
}

// Returns the seconds after which to try again where the service turns us away for now: nothing else might have us look.
async function replace() {
  const answer = await fetch(location.href, { headers: { Accept: "text/html" }, cache: "no-store" });
  if (answer.redirected && new URL(answer.url).pathname === `${root}login`) {
    location.reload(); // the session has ended
    return 0;
  }
  if (answer.status === 429 || answer.status === 503) return Number(answer.headers.get("Retry-After")) || 5;
  if (!answer.ok) return 0;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  const content = fresh.getElementById("main");
  if (!content) return 0;
  if (fresh.title !== document.title) document.title = fresh.title;
  morph(main, content);
  return 0;
}

// --- The stream -----------------------------------------------------------------------------------------------------------

function told(kind, text) {
  line.className = `line ${kind}`;
  if (line.textContent !== text) line.textContent = text;
}

let source = null;

function listen() {
  if (source || document.hidden) return;
  const run = main.dataset.run;
  const query = new URLSearchParams({ after: main.dataset.live, ...(run ? { run } : {}) });
  let lost = false;
  source = new EventSource(`${root}api/v1/events/stream?${query}`);
  source.onopen = () => {
    told("live", "live");
    if (lost) look();
    lost = false;
  };
  source.onmessage = look;
  source.addEventListener("progress", (event) => moved(JSON.parse(event.data).jobs));
  source.onerror = () => {
    lost = true;
    told("lost", "connection lost; trying again");
    if (source.readyState !== EventSource.CLOSED) return; // the browser itself tries again
    rest();
    setTimeout(listen, 5000);
  };
}

// A page that nobody sees needs no line: a browser has only a few for all pages of a site.
function rest() {
  source?.close();
  source = null;
}

function seen() {
  if (document.hidden) {
    rest();
    told("", "resting");
  } else {
    listen();
    look();
  }
}

function moved(jobs) {
  for (const { id, progress } of jobs) {
    const known = progress.fraction !== null;
    for (const bar of main.querySelectorAll(`[data-bar="${CSS.escape(id)}"]`)) if (known) bar.value = progress.fraction;
    const about = progress.source === "estimated" && progress.fraction < 1 ? "≈" : "";
    const text = known ? `${about}${Math.round(progress.fraction * 100)} %` : "at work";
    for (const share of main.querySelectorAll(`[data-share="${CSS.escape(id)}"]`)) share.textContent = text;
    for (const stage of main.querySelectorAll(`[data-stage="${CSS.escape(id)}"]`)) {
      stage.textContent = progress.stage || "";
      stage.classList.toggle("blocked", /^(blocked by|waiting for)/.test(stage.textContent));
    }
  }
}

// --- Keys -----------------------------------------------------------------------------------------------------------------

const ROWS = "summary.row, a.row-link, .heatmap a, [data-row]";
const PLACES = { o: "", d: "databases", h: "history", s: "schedule" };
let going = false;

function step(by) {
  const rows = [...main.querySelectorAll(ROWS)].filter((row) => row.checkVisibility());
  const here = rows.findIndex((row) => row === document.activeElement || row.contains(document.activeElement));
  const next = rows[Math.min(rows.length - 1, Math.max(0, here < 0 && by < 0 ? rows.length - 1 : here + by))];
  if (next) next.focus();
}

function pressed(event) {
  if (event.ctrlKey || event.altKey || event.metaKey || event.target.closest("input, select, textarea, dialog")) return;
  const { key } = event;
  if (going && key in PLACES) location.href = root + PLACES[key];
  going = key === "g";
  const acts = {
    "/": () => document.getElementById("q")?.focus(),
    j: () => step(1),
    k: () => step(-1),
    "?": () => document.getElementById("keys").showModal(),
  };
  if (!(key in acts)) return;
  event.preventDefault();
  acts[key]();
}

// --- Dark and light -------------------------------------------------------------------------------------------------------

function theme() {
  const chosen = document.documentElement.dataset.theme;
  const dark = chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const next = dark ? "light" : "dark";
  document.documentElement.dataset.theme = next;
  document.cookie = `dbupkeep-theme=${next}; path=${root}; max-age=31536000; samesite=strict`;
}

// --- Beginning ------------------------------------------------------------------------------------------------------------

// A place on the page that an address leads to is opened, with all that it is in.
function unfold() {
  const place = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let at = place; at && at !== main; at = at.parentElement) {
    if (at.nodeName === "DETAILS") {
      at.open = true;
      touched.add(at);
    }
  }
  if (place) place.scrollIntoView({ block: "center" });
}

document.addEventListener("click", (event) => {
  const fold = event.target.closest("summary")?.parentElement;
  if (fold) touched.add(fold);
});
document.addEventListener("keydown", pressed);
addEventListener("hashchange", unfold);
for (const [id, act] of [["theme", theme], ["help", () => document.getElementById("keys").showModal()]]) {
  const button = document.getElementById(id);
  button.hidden = false;
  button.addEventListener("click", act);
}
unfold();
if (main.dataset.live) {
  listen();
  document.addEventListener("visibilitychange", seen);
  addEventListener("pagehide", rest);
  setInterval(() => {
    const due = "moves" in main.dataset ? FRESH : STALE;
    if (!document.hidden && performance.now() - lookedAt >= due) look();
  }, OFTEN);
} else {
  told("", "as of now");
}
