"use strict";
// Tabs, the choice of measures, and plots that say what is pointed at. Without this script everything is shown.
(() => {
  document.documentElement.classList.add("js");
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];

  const tabs = all('[role="tab"]');
  const panels = all(".panel");
  function open(index) {
    tabs.forEach((tab, i) => {
      tab.setAttribute("aria-selected", String(i === index));
      tab.tabIndex = i === index ? 0 : -1;
    });
    panels.forEach((panel, i) => (panel.hidden = i !== index));
  }
  tabs.forEach((tab, i) => {
    tab.addEventListener("click", () => open(i));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = (i + step + tabs.length) % tabs.length;
      open(next);
      tabs[next].focus();
      event.preventDefault();
    });
  });
  panels.forEach((panel) => tabs.length && panel.setAttribute("role", "tabpanel"));
  if (tabs.length) open(0);

  // A choice of measures holds for every table that has them.
  const choices = (panel) => all("[data-choose]", panel);
  function apply(panel) {
    const buttons = choices(panel);
    if (!buttons.length) return;
    const shown = new Set(buttons.filter((one) => one.getAttribute("aria-pressed") === "true").map((one) => one.dataset.choose));
    all("[data-metric]", panel).forEach((element) => (element.hidden = !shown.has(element.dataset.metric)));
    const every = panel.querySelector(".every");
    if (every) every.textContent = shown.size === buttons.length ? "fewer" : "all";
  }
  function choose(metric, pressed) {
    all("[data-choose]").forEach((button) => {
      if (button.dataset.choose === metric) button.setAttribute("aria-pressed", String(pressed));
    });
  }
  panels.forEach((panel) => {
    const first = new Map(choices(panel).map((button) => [button.dataset.choose, button.getAttribute("aria-pressed")]));
    choices(panel).forEach((button) =>
      button.addEventListener("click", () => {
        choose(button.dataset.choose, button.getAttribute("aria-pressed") !== "true");
        panels.forEach(apply);
      }),
    );
    panel.querySelector(".every")?.addEventListener("click", (event) => {
      const fewer = event.target.textContent === "fewer";
      first.forEach((pressed, metric) => choose(metric, fewer ? pressed === "true" : true));
      panels.forEach(apply);
    });
    apply(panel);
  });

  // The mark nearest to the pointer is read out below its plot; on a touch screen a tap does it.
  all(".card").forEach((card) => {
    const marks = all(".mark", card);
    const reading = card.querySelector(".reading");
    const rest = matchMedia("(hover: none)").matches ? "Tap a mark to read it." : "Point at a mark to read it.";
    const say = (near) => {
      marks.forEach((mark) => mark.classList.toggle("near", mark === near));
      reading.textContent = near ? near.querySelector("title").textContent : rest;
    };
    const find = (event) => {
      let best = null;
      let least = 24;
      marks.forEach((mark) => {
        const box = mark.getBoundingClientRect();
        const dx = Math.max(box.left - event.clientX, event.clientX - box.right, 0);
        const dy = Math.max(box.top - event.clientY, event.clientY - box.bottom, 0);
        const distance = Math.hypot(dx, dy) + (mark.classList.contains("uncoded") ? 6 : 0);
        if (distance < least) [best, least] = [mark, distance];
      });
      say(best);
    };
    const svg = card.querySelector("svg");
    svg.addEventListener("pointermove", find);
    svg.addEventListener("pointerdown", find);
    svg.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && say(null));
    say(null);
  });
})();
