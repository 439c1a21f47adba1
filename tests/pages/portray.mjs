// Takes the documents' pictures, PICTURE-light.webp and PICTURE-dark.webp of PAGES/PICTURE.html, at twice the size, and
// prints as JSON why those that are missing are: node portray.mjs TOOLS BROWSER PAGES FOLDER PICTURE:WIDTH...
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { blank, launch } from "./browser.mjs";

const [tools, browserPath, pages, folder, ...pictures] = process.argv.slice(2);
const MARGIN = 24;

// Of a page of `check --html`, what is below the drawn path is left out.
const bottom = (margin) => {
  const path = document.querySelector(".path");
  return path ? path.getBoundingClientRect().bottom + margin : document.body.getBoundingClientRect().bottom;
};

async function portray(browser, name, width, colorScheme) {
  const page = await blank(browser, { viewport: { width, height: 600 }, deviceScaleFactor: 2, colorScheme });
  await page.goto(pathToFileURL(join(pages, `${name}.html`)).href);
  const height = Math.ceil(await page.evaluate(bottom, MARGIN));
  await page.setViewportSize({ width, height });
  const devtools = await page.context().newCDPSession(page);
  // Around a card, the document shows through.
  await devtools.send("Emulation.setDefaultBackgroundColorOverride", { color: { r: 0, g: 0, b: 0, a: 0 } });
  // Playwright's own screenshots are PNG or JPEG.
  const { data } = await devtools.send("Page.captureScreenshot", { format: "webp", quality: 80 });
  await writeFile(join(folder, `${name}-${colorScheme}.webp`), Buffer.from(data, "base64"));
  await page.context().close();
}

const browser = await launch(tools, browserPath);
const missing = {};
for (const picture of pictures) {
  const [name, width] = picture.split(":");
  for (const scheme of ["light", "dark"]) {
    await portray(browser, name, Number(width), scheme).catch((error) => (missing[name] = error.message));
  }
}
await browser.close();
console.log(JSON.stringify(missing));
