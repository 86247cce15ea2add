// Keeps a page fresh: when an event says that something has changed, the page is fetched again and the parts marked
// data-live are put in place of the old ones. Without this script a reload does the same.
"use strict";
(() => {
  const PAUSE = 1000; // between two fetches, however many events come
  const parts = () => document.querySelectorAll("[data-live]");
  const status = document.getElementById("live");
  if (!status || !window.EventSource || parts().length < 3) return;

  let wanted = false;
  let busy = false;

  const say = (text, state) => {
    if (status.textContent !== text) status.textContent = text;
    status.dataset.state = state;
  };

  // What somebody is typing or choosing in stays as it is.
  const inUse = (part) => {
    const active = document.activeElement;
    const selection = document.getSelection();
    return (part.contains(active) && /^(INPUT|SELECT|TEXTAREA)$/.test(active.tagName))
      || (selection && !selection.isCollapsed && part.contains(selection.anchorNode));
  };

  const put = (part, fresh) => {
    if (part.outerHTML === fresh.outerHTML) return;
    const focused = part.contains(document.activeElement) ? document.activeElement : null;
    const place = focused && [...part.querySelectorAll("a,button,summary,[tabindex]")].indexOf(focused);
    const open = [...part.querySelectorAll("details[open][id]")].map((details) => details.id);
    const scrolled = [...part.querySelectorAll(".scroll")].map((box) => [box.scrollLeft, box.scrollTop]);
    const own = [part.scrollLeft, part.scrollTop];
    const next = document.importNode(fresh, true);
    for (const id of open) next.querySelector(`#${CSS.escape(id)}`)?.setAttribute("open", "");
    part.replaceWith(next);
    [next.scrollLeft, next.scrollTop] = own;
    next.querySelectorAll(".scroll").forEach((box, at) => {
      if (scrolled[at]) [box.scrollLeft, box.scrollTop] = scrolled[at];
    });
    if (focused === part) next.focus({ preventScroll: true });
    else if (focused) next.querySelectorAll("a,button,summary,[tabindex]")[place]?.focus({ preventScroll: true });
  };

  const refresh = async () => {
    if (busy || document.hidden) { wanted = true; return; }
    busy = true;
    wanted = false;
    try {
      const answer = await fetch(location.href, { credentials: "same-origin", redirect: "error" });
      if (answer.ok) {
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        for (const part of parts()) {
          const fresh = page.getElementById(part.id);
          if (fresh && !inUse(part)) put(part, fresh);
        }
      }
    } catch {
      // The stream notices that the gateway is away, and says so.
    }
    setTimeout(() => { busy = false; if (wanted) refresh(); }, PAUSE);
  };

  const stream = new EventSource("/api1/events?kinds=gate,counters");
  stream.addEventListener("open", () => say("Live", "on"));
  stream.addEventListener("error", () => say("Not connected: figures are old", "off"));
  for (const kind of ["gate", "counters", "missed"]) stream.addEventListener(kind, refresh);
  document.addEventListener("visibilitychange", () => { if (!document.hidden && wanted) refresh(); });
})();
