// Opens pages in a browser, in several views, and prints what it found as JSON:
// node inspect.mjs TOOLS BROWSER PICTURES PAGE...
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { basename, join } from "node:path";
import { pathToFileURL } from "node:url";

const [tools, browserPath, pictures, ...pages] = process.argv.slice(2);
const installed = createRequire(join(tools, "package.json"));
const { chromium } = installed("playwright-core");
const axe = await readFile(installed.resolve("axe-core/axe.min.js"), "utf8");

const VIEWS = {
  light: { viewport: { width: 1440, height: 900 }, colorScheme: "light" },
  dark: { viewport: { width: 1440, height: 900 }, colorScheme: "dark" },
  tablet: { viewport: { width: 800, height: 1000 }, colorScheme: "light" },
  phone: { viewport: { width: 360, height: 740 }, colorScheme: "light", isMobile: true, hasTouch: true },
  "phone-dark": { viewport: { width: 360, height: 740 }, colorScheme: "dark", isMobile: true, hasTouch: true },
};
const INTERACTIVE = "a[href], summary, pre[tabindex]";
// Without a GPU, Chromium's own fallback sometimes yields no picture of a tall page; this one always does.
const ARGUMENTS = ["--no-sandbox", "--headless=shell", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"];

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

async function look(browser, address, view, picture) {
  const context = await browser.newContext(VIEWS[view]);
  const page = await context.newPage();
  const seen = watch(page, address);
  await page.goto(address);
  await page.screenshot({ path: picture, fullPage: true });
  const width = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
  const keyboard = view === "light" ? { interactive: await shown(page), tabbing: await tabbing(page) } : {};
  await page.locator("details").evaluateAll((all) => all.forEach((details) => (details.open = true)));
  const result = { ...seen, ...keyboard, width, violations: await violations(page) };
  await context.close();
  return result;
}

async function withoutScripts(browser, address) {
  const text = [];
  for (const javaScriptEnabled of [true, false]) {
    const context = await browser.newContext({ javaScriptEnabled });
    const page = await context.newPage();
    await page.goto(address);
    text.push(await page.locator("body").innerText());
    await context.close();
  }
  return text[0] === text[1] && text[0].length > 0;
}

async function printed(browser, address, picture) {
  const context = await browser.newContext({ viewport: { width: 700, height: 990 }, colorScheme: "dark" });
  const page = await context.newPage();
  await page.goto(address);
  await page.emulateMedia({ media: "print" });
  await page.screenshot({ path: picture, fullPage: true });
  const passes = await page.locator(".passes li").evaluateAll((all) => all.map((pass) => pass.checkVisibility()));
  const cut = await page.locator("pre").evaluateAll((all) => all.some((pre) => pre.scrollWidth > pre.clientWidth));
  const background = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const result = { passes, cut, background, violations: await violations(page) };
  await context.close();
  return result;
}

const libraries = join(tools, "chromium/lib");
const env = { ...process.env, FONTCONFIG_FILE: join(tools, "chromium/fonts.conf"), LD_LIBRARY_PATH: libraries };
const browser = await chromium.launch({ executablePath: browserPath, args: ARGUMENTS, env });

async function inspect(page) {
  const name = basename(page, ".html");
  const address = pathToFileURL(page).href;
  const picture = (view) => join(pictures, `${name}-${view}.png`);
  const views = {};
  for (const view of Object.keys(VIEWS)) views[view] = await look(browser, address, view, picture(view));
  const readable = await withoutScripts(browser, address);
  return [name, { views, readable, printed: await printed(browser, address, picture("print")) }];
}

const found = await Promise.all(pages.map(inspect));
await browser.close();
console.log(JSON.stringify(Object.fromEntries(found)));
