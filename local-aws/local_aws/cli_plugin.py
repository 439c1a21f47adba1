"""For the AWS CLI: SQS takes AWS_ENDPOINT_URL, too. By itself the CLI puts an old address of SQS in its place.

The configuration file local-aws/aws-config names this module.
"""
import os


def awscli_initialize(cli):
    cli.register_first("before-building-argument-table-parser", _take_endpoint_of_environment)


def _take_endpoint_of_environment(parsed_globals, **_):
    parsed_globals.endpoint_url = parsed_globals.endpoint_url or os.environ.get("AWS_ENDPOINT_URL")
