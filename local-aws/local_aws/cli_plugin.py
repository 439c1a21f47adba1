"""An AWS CLI plugin that applies AWS_ENDPOINT_URL to SQS too. By itself, the CLI replaces it by an old SQS address.

The configuration file local-aws/aws-config names this module.
"""
import os


def awscli_initialize(cli):
    cli.register_first("before-building-argument-table-parser", _take_endpoint_of_environment)


def _take_endpoint_of_environment(parsed_globals, **_):
    parsed_globals.endpoint_url = parsed_globals.endpoint_url or os.environ.get("AWS_ENDPOINT_URL")
