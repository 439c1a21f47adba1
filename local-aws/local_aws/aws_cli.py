"""The AWS CLI, loaded once. Each call is a fork of this process, with its own environment and standard output.

Loading the AWS CLI and AWS's models takes ten times as long as a call, and tests and `make verify` make hundreds of
calls.
"""
import gc
import json
import os
import select
import shlex
import socketserver
import sys
import tempfile

from awscli.clidriver import create_clidriver

# Frequent services, whose models are loaded in advance; a call loads the model of any other service.
LOADED = ("ec2", "elbv2", "iam", "lambda")


class Call(socketserver.StreamRequestHandler):
    """One call: reads `{"line": "ec2 …", "environment": {…}}`, answers `{"status", "stdout", "stderr"}`."""

    def handle(self):
        text = self.rfile.read()
        if not text:
            return  # the caller has ended
        request = json.loads(text)
        os.environ.clear()
        os.environ.update(request["environment"])
        with open(os.devnull) as stdin, tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
            os.dup2(stdin.fileno(), 0)
            os.dup2(stdout.fileno(), 1)
            os.dup2(stderr.fileno(), 2)
            status = self.server.run(shlex.split(request["line"]))
            sys.stdout.flush()
            sys.stderr.flush()
            answer = {"status": status, "stdout": written(stdout), "stderr": written(stderr)}
        self.wfile.write(json.dumps(answer).encode())


def written(file):
    file.seek(0)
    return file.read().decode()


class Server(socketserver.ForkingMixIn, socketserver.UnixStreamServer):
    """A server that runs until its standard input closes, which happens when its starter ends."""

    def __init__(self, path):
        super().__init__(path, Call)
        session = create_clidriver().session
        for service in LOADED:
            session.create_client(service, region_name="eu-central-1")
        self.models = session.get_component("data_loader")
        gc.freeze()  # else the first collection of each fork would copy all of it

    def run(self, arguments):
        # Each call has its own driver, since the driver reads the environment.
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
    # Only this user can reach a socket in such a folder.
    with tempfile.TemporaryDirectory() as folder, Server(f"{folder}/aws") as server:
        print(server.server_address, flush=True)
        server.serve_forever()
