"""`python -m local_aws`: the server, and the commands that control it."""
import argparse

from . import control


def main():
    parser = argparse.ArgumentParser(prog="python -m local_aws", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    server = commands.add_parser("serve", help="run the local AWS in the foreground, on 127.0.0.1")
    server.add_argument("--port", type=int, default=0, help="default: a free one, which the first line names")
    server.add_argument("--account", default="111122223333", help="the provider company's account")
    server.add_argument("--region", default="eu-central-1")
    server.add_argument("--minute", type=float, default=60, metavar="SECONDS",
                        help="how long a minute of rate() schedules and of retries lasts")
    server.add_argument("--establish-delay", type=float, default=1, metavar="SECONDS",
                        help="how long an accepted connection is pending")
    server.add_argument("--log", metavar="FILE", help="default: errors only, to standard error")
    server.set_defaults(run=serve)
    cli = commands.add_parser("cli", help="run the AWS CLI for tests; prints its socket (aws_cli.py)")
    cli.set_defaults(run=serve_cli)
    control.add_commands(commands)
    arguments = parser.parse_args()
    arguments.run(arguments)


def serve(arguments):
    from .server import serve as run_server

    run_server(arguments.port, arguments.account, arguments.region, arguments.minute, arguments.establish_delay,
               arguments.log)


def serve_cli(_):
    from .aws_cli import serve as run_server

    run_server()


if __name__ == "__main__":
    main()
