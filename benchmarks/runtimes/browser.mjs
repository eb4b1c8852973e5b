// Opens a page in headless Chromium, waits for its `result`, writes that and a picture:
//     node browser.mjs PLAYWRIGHT_FOLDER CHROMIUM URL RESULT PICTURE

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [playwright, executablePath, url, resultPath, picturePath] = process.argv.slice(2);
const { chromium } = await import(pathToFileURL(join(playwright, "index.mjs")).href);
const args = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--no-first-run"];
const browser = await chromium.launch({ executablePath, args });
try {
  const page = await browser.newPage({ viewport: { width: 880, height: 560 } });
  page.on("pageerror", (error) => console.error(error.message));
  await page.goto(url);
  await page.waitForFunction("window.result !== undefined", undefined, { timeout: 120_000 });
  writeFileSync(resultPath, JSON.stringify(await page.evaluate("window.result")));
  await page.screenshot({ path: picturePath });
} finally {
  await browser.close();
}
