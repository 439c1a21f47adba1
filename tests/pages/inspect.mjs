// Opens a page in a browser, in several views, and prints what it found as JSON:
// node inspect.mjs TOOLS BROWSER PAGE
import { readFile } from "node:fs/promises";
import { pathToFileURL } from "node:url";
import { PAPER, VIEWS, blank, installed, launch } from "./browser.mjs";

const [tools, browserPath, file] = process.argv.slice(2);
const axe = await readFile(installed(tools).resolve("axe-core/axe.min.js"), "utf8");
const INTERACTIVE = "a[href], summary, pre[tabindex]";

// What a page did besides being shown.
function watch(page, address) {
  const seen = { requests: [], dialogs: [], complaints: [] };
  page.on("request", (request) => request.url() !== address && seen.requests.push(request.url()));
  page.on("dialog", (dialog) => seen.dialogs.push(dialog.message()) && dialog.dismiss());
  page.on("console", (message) => seen.complaints.push(message.text()));
  page.on("pageerror", (error) => seen.complaints.push(String(error)));
  return seen;
}

async function violations(page) {
  // Through the debugger: the page's own policy lets no script in.
  await page.evaluate(axe);
  const found = await page.evaluate(() => globalThis.axe.run({ resultTypes: ["violations"] }));
  return found.violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map((node) => node.html).join("\n")}`);
}

// What the Tab key reaches, in its order, and whether one sees where it is.
async function tabbing(page) {
  const reached = [];
  for (;;) {
    await page.keyboard.press("Tab");
    const focus = await page.evaluate((interactive) => {
      const element = document.activeElement;
      const { outlineStyle, outlineWidth } = getComputedStyle(element);
      const box = element.getBoundingClientRect();
      return {
        index: [...document.querySelectorAll(interactive)].indexOf(element),
        visible: outlineStyle !== "none" && parseFloat(outlineWidth) >= 2 && box.top < innerHeight && box.bottom > 0,
      };
    }, INTERACTIVE);
    if (focus.index < 0 || reached.some(({ index }) => index === focus.index)) return reached;
    reached.push(focus);
  }
}

// Interactive elements that are not in a closed <details>.
const shown = (page) => page.locator(INTERACTIVE).evaluateAll((all) =>
  all.map((element, index) => (element.checkVisibility() ? index : -1)).filter((index) => index >= 0));

async function look(browser, address, view) {
  const page = await blank(browser, VIEWS[view]);
  const seen = watch(page, address);
  await page.goto(address);
  const width = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
  const keyboard = view === "light" ? { interactive: await shown(page), tabbing: await tabbing(page) } : {};
  await page.locator("details").evaluateAll((all) => all.forEach((details) => (details.open = true)));
  const result = { ...seen, ...keyboard, width, violations: await violations(page) };
  await page.context().close();
  return result;
}

async function withoutScripts(browser, address) {
  const text = [];
  for (const javaScriptEnabled of [true, false]) {
    const page = await blank(browser, { javaScriptEnabled });
    await page.goto(address);
    text.push(await page.locator("body").innerText());
    await page.context().close();
  }
  return text[0] === text[1] && text[0].length > 0;
}

async function printed(browser, address) {
  const page = await blank(browser, PAPER);
  await page.goto(address);
  await page.emulateMedia({ media: "print" });
  const passes = await page.locator(".passes li").evaluateAll((all) => all.map((pass) => pass.checkVisibility()));
  const cut = await page.locator("pre").evaluateAll((all) => all.some((pre) => pre.scrollWidth > pre.clientWidth));
  const background = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const result = { passes, cut, background, violations: await violations(page) };
  await page.context().close();
  return result;
}

const browser = await launch(tools, browserPath);
const address = pathToFileURL(file).href;
const views = {};
for (const view of Object.keys(VIEWS)) views[view] = await look(browser, address, view);
const readable = await withoutScripts(browser, address);
const found = { views, readable, printed: await printed(browser, address) };
await browser.close();
console.log(JSON.stringify(found));
