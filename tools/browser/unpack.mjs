// Unpacks Chromium, the libraries that it needs and a machine may lack, and fonts into the folder `chromium` here, so
// that pages look the same everywhere. Run once, after `npm ci`.
import { copyFile, mkdir, readdir, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";

const here = import.meta.dirname;
const folder = join(here, "chromium");
const packages = join(here, "node_modules");

await mkdir(join(folder, "fonts"), { recursive: true });
// The package unpacks into the folder for temporary files, where anybody could have put another browser.
process.env.TMPDIR = folder;
const { inflate } = await import("@sparticuz/chromium");
const archives = join(packages, "@sparticuz/chromium/bin");
await Promise.all(["chromium.br", "al2023.tar.br", "swiftshader.tar.br"].map((name) => inflate(join(archives, name))));
await rename(join(folder, "al2023/lib"), join(folder, "lib"));
// A third of a gigabyte in all: what is unpacked is not kept twice.
await rm(archives, { recursive: true });

const ttf = join(packages, "dejavu-fonts-ttf/ttf");
const wanted = (await readdir(ttf)).filter((name) => /^DejaVuSans(Mono)?(-Bold)?\.ttf$/.test(name));
await Promise.all(wanted.map((name) => copyFile(join(ttf, name), join(folder, "fonts", name))));
await writeFile(
  join(folder, "fonts.conf"),
  `<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "urn:fontconfig:fonts.dtd">
<fontconfig><dir>${folder}/fonts</dir><cachedir>${folder}/fonts-cache</cachedir></fontconfig>
`,
);
