// Times in the zone of whoever looks, and a page that reads itself anew when there is news. It says all without this too.
"use strict";

const pad = (n) => String(n).padStart(2, "0");
const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;

const clockOf = (at) => `${pad(at.getHours())}:${pad(at.getMinutes())}`;
const dayOf = (at) => `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())}`;

// Sentences are written in UTC, as annotations are; one without a day means today.
function localWords(text) {
  return text.replace(/(?:(\d{4}-\d\d-\d\d) )?(\d\d:\d\d) UTC/g, (_, day, clock) => {
    const at = new Date(`${day ?? new Date().toISOString().slice(0, 10)}T${clock}:00Z`);
    return dayOf(at) === dayOf(new Date()) ? clockOf(at) : `${dayOf(at)} ${clockOf(at)}`;
  });
}

function localise(root) {
  for (const time of root.querySelectorAll("time[datetime]:not([title])")) {
    const at = new Date(time.dateTime);
    const clock = clockOf(at), day = dayOf(at);
    time.title = "short" in time.dataset ? `${day} ${clock} ${zone}` : time.textContent.trim();
    time.textContent = "short" in time.dataset ? `${clock}:${pad(at.getSeconds())}` : `${day} ${clock}`;
  }
  for (const text of root.querySelectorAll("[data-at]")) {
    const at = new Date(1000 * text.dataset.at);
    if (text.textContent.includes(":")) text.textContent = clockOf(at);
  }
  const texts = root.createTreeWalker(root.querySelector("main"), NodeFilter.SHOW_TEXT);
  for (let text = texts.nextNode(); text; text = texts.nextNode()) {
    if (text.data.includes(" UTC") && !text.parentElement.closest("time, code, pre")) text.data = localWords(text.data);
  }
  for (const text of root.querySelectorAll("[data-zone]")) text.textContent = zone;
}

// Somebody types, reads what was folded out, or marks text: the page waits.
function busy(main) {
  const at = document.activeElement;
  const written = [...main.querySelectorAll("input")].some((one) => one.value !== one.defaultValue);
  return written || (main.contains(at) && at.matches("input")) || main.querySelector("details[open]") || String(window.getSelection()).trim() !== "";
}

const same = (one) => `${one.tagName} ${one.href || one.value || one.ariaLabel || one.textContent}`;
const plan = (main) => main.querySelector("input[name=plan_hash]")?.value;

async function refresh() {
  const main = document.querySelector("main");
  if (document.hidden || busy(main)) return;
  const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
  if (!answer.ok || answer.redirected || busy(main)) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  // Another plan does not slip under the button of somebody who has read this one.
  if (plan(main) && (plan(fresh) ?? plan(main)) !== plan(main)) return;
  localise(fresh);
  const focused = main.contains(document.activeElement) && same(document.activeElement);
  const scrolled = [...main.querySelectorAll(".scroll")].map((one) => one.scrollLeft);
  main.replaceChildren(...fresh.querySelector("main").childNodes);
  document.title = fresh.title;
  document.querySelector("header .at").replaceChildren(...fresh.querySelector("header .at").childNodes);
  main.querySelectorAll(".scroll").forEach((one, i) => (one.scrollLeft = scrolled[i] ?? one.scrollLeft));
  if (focused) {
    const again = [...main.querySelectorAll("a, button, summary, [tabindex]")].find((one) => same(one) === focused);
    (again ?? main).focus({ preventScroll: true });
  }
}

function live(least) {
  const state = document.querySelector("header .live");
  let source, timer, last = Date.now();
  const soon = (wait) => {
    timer ??= setTimeout(() => {
      timer = undefined;
      last = Date.now();
      refresh().catch(() => {}); // the next news, or the next half minute, comes
    }, wait);
  };
  const heard = (event) => {
    const calm = Math.max(0, last + 1000 * least - Date.now());
    soon((event.data === "fact" ? Math.min(calm, 300) : calm) + 300 * Math.random()); // not all at once
  };
  const listen = () => {
    source = new EventSource("/events");
    source.onmessage = heard;
    source.onopen = () => (state.hidden = false);
    source.onerror = () => (state.hidden = true);
  };
  document.addEventListener("visibilitychange", () => {
    source.close();
    if (document.hidden) return;
    listen();
    soon(0);
  });
  setInterval(() => source.readyState === EventSource.CLOSED && !document.hidden && soon(0), 30000);
  addEventListener("pagehide", () => source.close());
  listen();
}

// What is there is seen first.
requestAnimationFrame(() => setTimeout(() => {
  localise(document);
  if (document.body.dataset.live) live(Number(document.body.dataset.live));
}));
