// What the scripts for headless Chromium share: pages whose errors and outside requests are logged, whose gains can be read.
"use strict";
const { chromium } = require("playwright-core");

const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"];

async function opened(browser, page, size, colorScheme, log) {
  const context = await browser.newContext({ viewport: size, colorScheme, hasTouch: size.width < 500, acceptDownloads: true });
  const tab = await context.newPage();
  tab.on("console", (message) => log.push(`${message.type()}: ${message.text()}`));
  tab.on("pageerror", (error) => log.push(`error: ${error.message}`));
  tab.on("request", (request) => /^(file|data|blob):/.test(request.url()) || log.push(`request: ${request.url()}`));
  await tab.addInitScript(() => {
    window.gains = [];
    const Original = window.GainNode;
    window.GainNode = class extends Original {
      constructor(...args) {
        super(...args);
        window.gains.push(this);
      }
    };
  });
  await tab.goto(`file://${page}`);
  return tab;
}

const layout = (tab) =>
  tab.evaluate(() => ({
    page: document.documentElement.scrollWidth,
    window: window.innerWidth,
    nameless: [...document.querySelectorAll("button, select, input, img, a")].filter(
      (element) => !(element.textContent.trim() || element.getAttribute("aria-label") || element.labels?.length || element.hasAttribute("alt")),
    ).length,
    images: [...document.images].filter((image) => !image.complete || !image.naturalWidth).length,
  }));

// Runs a script with the pages of the command line, and prints what it returns.
async function run(script) {
  const [executablePath, ...pages] = process.argv.slice(2);
  const browser = await chromium.launch({ executablePath, args: FLAGS });
  const log = [];
  const result = await script((page, size, colorScheme) => opened(browser, page, size, colorScheme, log), ...pages);
  await browser.close();
  console.log(JSON.stringify({ ...result, log }));
}

module.exports = { layout, run };
