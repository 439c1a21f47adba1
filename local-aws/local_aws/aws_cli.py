"""The AWS CLI, loaded once: every call is a fork of this process, with an environment and a standard output of its own.

Loading the AWS CLI and AWS's models takes ten times as long as a call, and tests and `make verify` make hundreds of
calls.
"""
import gc
import json
import os
import select
import socketserver
import sys
import tempfile

from awscli.clidriver import create_clidriver

# Called so often that their models are loaded before; those of others are loaded by the calls.
LOADED = ("ec2", "elbv2", "iam", "lambda")


class Call(socketserver.StreamRequestHandler):
    """One call: reads `{"arguments": […], "environment": {…}}`, answers `{"status", "stdout", "stderr"}`."""

    def handle(self):
        text = self.rfile.read()
        if not text:
            return  # whoever called has ended
        request = json.loads(text)
        os.environ.clear()
        os.environ.update(request["environment"])
        with open(os.devnull) as stdin, tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
            os.dup2(stdin.fileno(), 0)
            os.dup2(stdout.fileno(), 1)
            os.dup2(stderr.fileno(), 2)
            status = self.server.run(request["arguments"])
            sys.stdout.flush()
            sys.stderr.flush()
            answer = {"status": status, "stdout": written(stdout), "stderr": written(stderr)}
        self.wfile.write(json.dumps(answer).encode())


def written(file):
    file.seek(0)
    return file.read().decode()


class Server(socketserver.ForkingMixIn, socketserver.UnixStreamServer):
    """Runs until its standard input is closed: until whoever started it has ended."""

    def __init__(self, path):
        super().__init__(path, Call)
        session = create_clidriver().session
        for service in LOADED:
            session.create_client(service, region_name="eu-central-1")
        self.models = session.get_component("data_loader")
        gc.freeze()  # else the first collection of each fork would copy all of it

    def run(self, arguments):
        # A driver of its own, as it reads the environment.
        driver = create_clidriver()
        driver.session.register_component("data_loader", self.models)
        try:
            return driver.main(arguments)
        except SystemExit as end:
            return end.code

    def service_actions(self):
        super().service_actions()
        if select.select([sys.stdin], [], [], 0)[0]:
            sys.exit()


def serve():
    # Only this user can reach a socket in a folder like this one.
    with tempfile.TemporaryDirectory() as folder, Server(f"{folder}/aws") as server:
        print(server.server_address, flush=True)
        server.serve_forever()
