// Opens a page of verdicts in headless Chromium and prints its layouts as JSON. Arguments: path of Chromium, path of the page.
"use strict";
const { layout, run } = require("./browser.js");

run(async (open, page) => {
  const layouts = [];
  for (const size of [{ width: 1440, height: 900 }, { width: 390, height: 844 }]) layouts.push(await layout(await open(page, size, "light")));
  return { layouts };
});
