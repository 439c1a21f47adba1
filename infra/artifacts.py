"""The files of a build that can be deployed, in one folder or at one URL.

    SHA256SUMS                            the hash of every other file
    template-x86_64.yaml, chat.yaml       the guard's template, which names the zips, and the one nested in it
    connection-acceptor-x86_64.zip, …     the functions

`make functions` writes them to target/functions; a release adds the rest to them (release.py). Whoever deploys them
checks them first:

    python3 infra/artifacts.py verify FOLDER
"""
import hashlib
import http.client
import io
import pathlib
import re
import sys
import urllib.error
import urllib.request
import zipfile

ROOT = pathlib.Path(__file__).parent.parent
FUNCTIONS = ("connection-acceptor", "health-watcher", "drift-watcher", "target-follower")
SUMS = "SHA256SUMS"
# The oldest time a zip can hold: the same in every build.
EPOCH = (1980, 1, 1, 0, 0, 0)


class Refused(Exception):
    """The files are not what SHA256SUMS says, or are not all there."""


def names(architecture):
    """What a deployment needs."""
    return [f"template-{architecture}.yaml", "chat.yaml", *(f"{each}-{architecture}.zip" for each in FUNCTIONS)]


def sha256(content):
    return hashlib.sha256(content).hexdigest()


# ---- writing ---------------------------------------------------------------------------------------------------------


def zipped(bootstrap, level=9):
    """A zip with this executable, the same bytes whenever and wherever it is made."""
    entry = zipfile.ZipInfo("bootstrap", EPOCH)
    entry.create_system = 3  # Unix, so that Lambda sees the mode
    entry.external_attr = 0o100755 << 16
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(entry, bootstrap, zipfile.ZIP_DEFLATED, level)
    return content.getvalue()


def template(text, architecture):
    """The repository's template, with the zips instead of how to build them."""
    def code(match):
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", match["id"]).lower()
        return f"  {match['id']}:\n{match['type']}    Properties:\n      CodeUri: {name}-{architecture}.zip\n"
    function = (r"  (?P<id>\w+):\n(?P<type>    Type: AWS::Serverless::Function\n(?:    Condition: .*\n)?)"
                r"    Metadata: .*\n    Properties:\n(?:      # .*\n)*      CodeUri: run-sam-build-first\n")
    text, functions = re.subn(function, code, text)
    text, nested = re.subn(r"TemplateURL: infra/chat\.yaml\n", "TemplateURL: chat.yaml\n", text)
    default = r"(  Architecture:\n    Type: String\n    Default: )\w+\n"
    text, defaults = re.subn(default, rf"\g<1>{architecture}\n", text)
    if (functions, nested, defaults) != (len(FUNCTIONS), 1, 1):
        raise Refused("template.yaml is not as infra/artifacts.py expects: it can no longer say where the zips are.")
    return text


def write(folder, architecture, bootstraps, level=9):
    """Write the files of this architecture; `bootstraps` has the executable of each function."""
    folder.mkdir(parents=True, exist_ok=True)
    text = (ROOT / "template.yaml").read_text(encoding="utf-8")
    (folder / f"template-{architecture}.yaml").write_text(template(text, architecture), encoding="utf-8")
    (folder / "chat.yaml").write_bytes((ROOT / "infra/chat.yaml").read_bytes())
    for name in FUNCTIONS:
        (folder / f"{name}-{architecture}.zip").write_bytes(zipped(bootstraps[name].read_bytes(), level))
    write_sums(folder)


def write_sums(folder):
    """As sha256sum writes them, so that `sha256sum --check SHA256SUMS` works as well."""
    files = sorted(each for each in folder.iterdir() if each.name != SUMS)
    (folder / SUMS).write_text("".join(f"{sha256(each.read_bytes())}  {each.name}\n" for each in files))


# ---- reading ---------------------------------------------------------------------------------------------------------


def sums(text):
    """The hash of each file. A name is a file in the folder, never a path out of it."""
    lines = re.findall(r"^([0-9a-f]{64})  ([A-Za-z0-9_][\w.+-]*)$", text, re.MULTILINE)
    found = {name: digest for digest, name in lines}
    if not found or len(found) != len(text.splitlines()):
        raise Refused(f"{SUMS} is not a list of SHA-256 hashes and file names.")
    return found


def verify(folder, wanted=()):
    """Compare every file that SHA256SUMS names; those in `wanted` must be there. Returns SHA256SUMS's own hash."""
    if not (folder / SUMS).is_file():
        raise Refused(f"{folder} has no {SUMS}, so nothing says what its files must be.")
    listed = sums((folder / SUMS).read_text(encoding="utf-8"))
    for name in wanted:
        if name not in listed or not (folder / name).is_file():
            raise Refused(f"{name} is not in {folder}, or {SUMS} there does not list it.")
    for name, digest in listed.items():
        if (folder / name).is_file() and sha256((folder / name).read_bytes()) != digest:
            raise Refused(f"{name} is not the file that {SUMS} lists. It was changed or damaged; get it again.")
    return sha256((folder / SUMS).read_bytes())


# Where a release may come from; this machine needs no encryption.
ADDRESS = r"https://|http://(127\.0\.0\.1|localhost)[:/]"


class SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows no redirect that leaves https, also on the way to another https address."""

    def redirect_request(self, request, file, code, message, headers, address):
        if not re.match(ADDRESS, address):
            raise Refused(f"{request.full_url} redirects to {address}, which is not an https address.")
        return super().redirect_request(request, file, code, message, headers, address)


class Release:
    """The files of a release at a folder or an address, each got once.

    So what is read, agreed to and deployed are the same bytes, whatever the source holds by then.
    """

    def __init__(self, source, folder):
        """Read SHA256SUMS; its own hash, the release's, is `digest`. `folder` is empty, or not there yet."""
        if re.match(r"https?://", source):
            if not re.match(ADDRESS, source):
                raise Refused(f"{source} is not an https address.")
        elif not pathlib.Path(source).is_dir():
            raise Refused(f"There is no folder {source}.")
        else:
            verify(pathlib.Path(source))
        self.source, self.folder = source, folder
        folder.mkdir(parents=True, exist_ok=True)
        self.digest = sha256(self._get(SUMS))
        sums((folder / SUMS).read_text(encoding="utf-8", errors="replace"))

    def expect(self, digest):
        """Refuse any release but the one with this hash; with None, nothing is expected.

        A hash that is set and empty is an error: whoever wrote it wanted one.
        """
        if digest is None:
            return
        if not re.fullmatch(r"[0-9a-fA-F]{64}", digest):
            raise Refused(f'SHA256="{digest}" is no SHA-256, so it says nothing of the release. A SHA-256 has 64 '
                          "digits from 0 to f; without SHA256 the release is not compared.")
        if self.digest != digest.lower():
            raise Refused(f"{self.source} is not the release that SHA256 names: its {SUMS} has the SHA-256\n"
                          f"    {self.digest}\nand not\n    {digest}")

    def fetch(self, wanted):
        """Get these files, each only if it is the one that SHA256SUMS lists. Returns the folder that has them."""
        listed = sums((self.folder / SUMS).read_text(encoding="utf-8"))
        absent = [name for name in wanted if name not in listed]
        if absent:
            raise Refused(f"{self.source} has no {', '.join(absent)}: it is a release without this architecture, or of "
                          "another version. ARCHITECTURE=x86_64 or arm64 selects the other.")
        for name in wanted:
            if not (self.folder / name).is_file():
                self._get(name)
        verify(self.folder, wanted)
        return self.folder

    def _get(self, name):
        at = f"{self.source.rstrip('/')}/{name}"
        try:
            if re.match(r"https?://", self.source):
                with urllib.request.build_opener(SafeRedirects).open(at, timeout=60) as answer:
                    content = answer.read()
            else:
                content = pathlib.Path(at).read_bytes()
        except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
            raise Refused(f"{at} cannot be read: {error}") from None
        (self.folder / name).write_bytes(content)
        return content


def main(command, folder, *arguments):
    """`verify FOLDER`, or `write FOLDER ARCHITECTURE BUILT`, where BUILT is where cargo-lambda puts its builds."""
    folder = pathlib.Path(folder)
    if command == "verify":
        print(verify(folder))
    elif command == "write":
        architecture, built = arguments
        write(folder, architecture, {name: pathlib.Path(built) / name / "bootstrap" for name in FUNCTIONS})
        for name in names(architecture):
            print(f"{(folder / name).stat().st_size:>10} {folder / name}")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Refused as refused:
        sys.exit(f"Refused: {refused}")
