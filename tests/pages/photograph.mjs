// Takes pictures of pages in a folder, PAGE-VIEW.png of PAGE.html, and prints as JSON why those that are missing are:
// node photograph.mjs TOOLS BROWSER FOLDER PAGE:VIEW...
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { PAPER, VIEWS, blank, launch } from "./browser.mjs";

const [tools, browserPath, folder, ...pictures] = process.argv.slice(2);

async function photograph(browser, name, view) {
  const page = await blank(browser, VIEWS[view] ?? PAPER);
  await page.goto(pathToFileURL(join(folder, `${name}.html`)).href);
  if (view === "print") await page.emulateMedia({ media: "print" });
  await page.screenshot({ path: join(folder, `${name}-${view}.png`), fullPage: true });
  await page.context().close();
}

const browser = await launch(tools, browserPath);
const missing = {};
for (const picture of pictures) {
  await photograph(browser, ...picture.split(":")).catch((error) => (missing[picture] = error.message.split("\n")[0]));
}
await browser.close();
console.log(JSON.stringify(missing));
