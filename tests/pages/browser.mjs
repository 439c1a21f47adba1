// The headless browser, and the views that pages are looked at in.
import { createRequire } from "node:module";
import { join } from "node:path";

export const VIEWS = {
  light: { viewport: { width: 1440, height: 900 }, colorScheme: "light" },
  dark: { viewport: { width: 1440, height: 900 }, colorScheme: "dark" },
  tablet: { viewport: { width: 800, height: 1000 }, colorScheme: "light" },
  phone: { viewport: { width: 360, height: 740 }, colorScheme: "light", isMobile: true, hasTouch: true },
  "phone-dark": { viewport: { width: 360, height: 740 }, colorScheme: "dark", isMobile: true, hasTouch: true },
};
export const PAPER = { viewport: { width: 700, height: 990 }, colorScheme: "dark" };
// Without a GPU, Chromium's own fallback often yields no picture of a tall page; this one rarely fails.
const ARGUMENTS = ["--no-sandbox", "--headless=shell", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"];
// Ends what hangs. Nothing takes that long, even on a busy machine.
const TIMEOUT = 120_000;

// What was installed into the folder of the tools.
export const installed = (tools) => createRequire(join(tools, "package.json"));

export async function launch(tools, executablePath) {
  const { chromium } = installed(tools)("playwright-core");
  const libraries = join(tools, "chromium/lib");
  const env = { ...process.env, FONTCONFIG_FILE: join(tools, "chromium/fonts.conf"), LD_LIBRARY_PATH: libraries };
  return chromium.launch({ executablePath, args: ARGUMENTS, env, timeout: TIMEOUT });
}

// A page that shows nothing yet. It has a context of its own.
export async function blank(browser, options) {
  const page = await (await browser.newContext(options)).newPage();
  page.setDefaultTimeout(TIMEOUT);
  return page;
}
