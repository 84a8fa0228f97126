// Opens a report in headless Chromium and prints what it did as JSON. Arguments: path of Chromium, path of the page.
"use strict";
const { layout, run } = require("./browser.js");

const state = (tab) =>
  tab.evaluate(() => {
    const card = document.querySelector(".example.current");
    const buttons = [...card.querySelectorAll(".versions button")];
    return {
      example: [...document.querySelectorAll(".example")].indexOf(card),
      version: buttons.findIndex((button) => button.getAttribute("aria-pressed") === "true"),
      playing: card.classList.contains("playing"),
      position: Number(card.querySelector(".seek").value),
      shown: [...card.querySelectorAll(".stage.chosen img")].findIndex((img) => !img.hidden) + 1,
      gains: window.gains.slice(-buttons.length).map((node) => node.gain.value),
      readout: card.querySelector(".readout").textContent,
    };
  });

async function pressed(tab, key, wait = 150) {
  await tab.keyboard.press(key);
  await tab.waitForTimeout(wait);
  return state(tab);
}

async function keys(tab) {
  const steps = { start: await state(tab), play: await pressed(tab, "Space", 700), third: await pressed(tab, "3") };
  steps.clicked = await tab.click(".example.current .versions button:nth-child(2)").then(() => state(tab));
  steps.original = await pressed(tab, "1");
  steps.pause = await pressed(tab, "Space");
  steps.second = await pressed(tab, "2");
  steps.ahead = await pressed(tab, ".");
  steps.back = await pressed(tab, ",");
  steps.next = await pressed(tab, "ArrowRight");
  steps.previous = await pressed(tab, "ArrowLeft");
  steps.below = await pressed(tab, "j");
  steps.above = await pressed(tab, "k");
  await pressed(tab, "4");
  steps.before = await pressed(tab, "b");
  await pressed(tab, "2");
  await tab.hover(".example.current .stage.codes", { position: { x: 1, y: 115 } });
  steps.code = await state(tab);
  await tab.click(".example.current .stage.original", { position: { x: 200, y: 60 } });
  steps.seek = await state(tab);
  return steps;
}

run(async (open, page) => {
  const result = { layouts: [] };
  for (const colorScheme of ["light", "dark"]) {
    for (const size of [{ width: 1440, height: 900 }, { width: 390, height: 844 }]) {
      const tab = await open(page, size, colorScheme);
      await tab.evaluate(() => document.querySelectorAll("details").forEach((details) => (details.open = true)));
      result.layouts.push(await layout(tab));
      if (size.width === 1440 && colorScheme === "light") result.keys = await keys(tab);
      if (size.width === 390) {
        await tab.tap(".next");
        result.phone = await state(tab);
      }
    }
  }
  return result;
});
