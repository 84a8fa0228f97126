// Takes a blind test in headless Chromium and prints what happened as JSON. Arguments: path of Chromium, pages (preference, ABX).
"use strict";
const fs = require("fs");
const { layout, run } = require("./browser.js");

const state = (tab) =>
  tab.evaluate(() => {
    const pressed = (group) => document.querySelector(`${group} [aria-pressed=true]`);
    const sides = document.querySelectorAll(".sides button").length;
    return {
      screen: [...document.querySelectorAll("main section")].find((section) => !section.hidden).id,
      count: document.querySelector("#count").textContent,
      side: pressed(".sides")?.dataset.side ?? null,
      vote: pressed(".votes")?.dataset.vote ?? null,
      hint: document.querySelector("#hint").textContent,
      position: Number(document.querySelector(".seek").value),
      gains: window.gains.slice(-sides).map((node) => node.gain.value),
    };
  });

async function pressed(tab, key, wait = 450) {
  await tab.keyboard.press(key);
  await tab.waitForTimeout(wait);
  return state(tab);
}

const visible = (tab) => tab.evaluate(() => document.body.innerText + [...document.querySelectorAll("[id]")].map((one) => one.id).join());

async function saved(tab, action) {
  const [download] = await Promise.all([tab.waitForEvent("download"), action()]);
  return fs.readFileSync(await download.path(), "utf-8");
}

async function keys(tab) {
  const steps = { begin: await state(tab), started: await pressed(tab, "Enter", 100) };
  steps.early = await pressed(tab, "1", 50);
  steps.a = await pressed(tab, "a");
  steps.half = await pressed(tab, "1", 50);
  steps.b = await pressed(tab, "b");
  steps.voted = await pressed(tab, "1", 50);
  steps.changed = await pressed(tab, "ArrowRight", 50);
  steps.paused = await pressed(tab, " ", 200);
  steps.resumed = await pressed(tab, " ", 200);
  steps.text = await visible(tab);
  steps.next = await pressed(tab, "Enter", 100);
  await pressed(tab, "b");
  await pressed(tab, "a");
  await pressed(tab, "0", 50);
  await tab.reload();
  steps.reloaded = await state(tab);
  steps.partial = await saved(tab, () => tab.click("button.save"));
  steps.second = await pressed(tab, "Enter", 100);
  while ((await state(tab)).screen === "test") {
    await tab.click(".sides button:nth-child(2)");
    await tab.waitForTimeout(400);
    await pressed(tab, "a", 400);
    await pressed(tab, "2", 20);
    await pressed(tab, "Enter", 20);
  }
  steps.end = await state(tab);
  steps.revealed = await visible(tab);
  steps.file = await saved(tab, () => tab.keyboard.press("s"));
  return steps;
}

async function touch(tab) {
  await tab.tap("#start");
  while ((await state(tab)).screen === "test") {
    for (const side of await tab.$$(".sides button")) {
      await side.tap();
      await tab.waitForTimeout(400);
    }
    await tab.tap(".votes button:last-child");
    await tab.tap("#next");
  }
  return saved(tab, () => tab.tap("#save"));
}

run(async (open, preference, abx) => {
  const result = { layouts: [] };
  for (const colorScheme of ["light", "dark"]) {
    const wide = await open(preference, { width: 1280, height: 900 }, colorScheme);
    result.layouts.push(await layout(wide));
    if (colorScheme === "light") result.keys = await keys(wide);
    const phone = await open(abx, { width: 390, height: 844 }, colorScheme);
    result.layouts.push(await layout(phone));
    if (colorScheme === "dark") result.abx = await touch(phone);
    result.layouts.push(await layout(phone));
  }
  return result;
});
