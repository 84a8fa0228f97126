// Chooses tables and measures of a report in headless Chromium and prints what is shown as JSON. Arguments: path of Chromium, page.
"use strict";
const { layout, run } = require("./browser.js");

const shown = (tab) =>
  tab.evaluate(() => {
    const seen = (element) => element.getClientRects().length > 0;
    const texts = (selector) => [...document.querySelectorAll(selector)].filter(seen).map((one) => one.textContent);
    return {
      panels: texts(".panel h3"),
      cards: texts(".card h4"),
      heads: texts(".numbers thead th"),
      every: texts(".every")[0],
      reading: texts(".reading")[0],
    };
  });

async function measures(tab) {
  const steps = { start: await shown(tab) };
  await tab.click(".panel:not([hidden]) [data-choose='estoi']");
  await tab.click(".panel:not([hidden]) [data-choose='mel/vocos']");
  steps.chosen = await shown(tab);
  await tab.focus("[role=tab][aria-selected=true]");
  await tab.keyboard.press("ArrowRight");
  steps.second = await shown(tab);
  await tab.click(".panel:not([hidden]) .every");
  steps.every = await shown(tab);
  await tab.click(".panel:not([hidden]) .every");
  steps.fewer = await shown(tab);
  const mark = await tab.$(".panel:not([hidden]) .card .mark.s0");
  const box = await mark.boundingBox();
  await tab.mouse.move(box.x + box.width / 2 + 3, box.y + box.height / 2 - 2);
  steps.pointed = await shown(tab);
  return steps;
}

// Whether anything but the boxes of tables and tabs is wider than it is shown.
const scrolls = (tab) =>
  tab.evaluate(() =>
    [...document.querySelectorAll("main *")]
      .filter((one) => one.scrollWidth > one.clientWidth + 1 && /auto|scroll/.test(getComputedStyle(one).overflowX))
      .map((one) => one.className.split(" ")[0])
      .filter((name) => !["table", "tabs"].includes(name)),
  );

run(async (open, page) => {
  const result = { layouts: [], scrolls: [] };
  for (const colorScheme of ["light", "dark"]) {
    for (const size of [{ width: 1280, height: 900 }, { width: 390, height: 844 }]) {
      const tab = await open(page, size, colorScheme);
      if (size.width === 1280 && colorScheme === "light") result.measures = await measures(tab);
      await tab.evaluate(() => document.querySelectorAll("details").forEach((details) => (details.open = true)));
      result.layouts.push(await layout(tab));
      result.scrolls.push(...(await scrolls(tab)));
    }
  }
  return result;
});
