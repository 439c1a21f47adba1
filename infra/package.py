"""Uploads the guard for StackSets and Terraform: `make package`. Prints the address of the template.

Settings are variables, as in `make package PREFIX=acme-guard REGIONS="eu-central-1 us-east-1"`:

    PREFIX     the buckets are named PREFIX-REGION, and are created if they do not exist
    REGIONS    one or more; Lambda reads code only from its own Region. The template goes to the first
    READERS    the accounts that may read the buckets as well: "222233334444 333344445555"
    BUILD      the folder or the https address of a release                   what `make functions` built
    SHA256, ARCHITECTURE, PROFILE   as in `make deploy`
"""
import json
import os
import pathlib
import re
import sys
import tempfile

import artifacts
import botocore.exceptions
from account import FOLDER, Account, Bucket, Problem

# Names the statement in the policy of a bucket.
STATEMENT = "PrivatelinkGuardReaders"


def run(environment, scratch):
    def of(name, default=""):
        return environment.get(name, "").strip() or default
    prefix, regions, architecture = of("PREFIX"), of("REGIONS").split(), of("ARCHITECTURE", "x86_64")
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{0,40}", prefix) or not regions:
        raise Problem('Name the buckets and the Regions: make package PREFIX=<company>-privatelink-guard '
                      'REGIONS="eu-central-1 us-east-1"')
    readers = of("READERS").split()
    if wrong := [each for each in readers if not re.fullmatch("[0-9]{12}", each)]:
        raise Problem(f"READERS takes account ids of 12 digits, separated by spaces, and has {', '.join(wrong)}.")
    built = artifacts.ROOT / "target/functions"
    if not of("BUILD") and not built.is_dir():
        raise Problem("Nothing is built yet. Run `make functions` first, or name a release: BUILD=<folder or address>")
    release = artifacts.Release(of("BUILD", str(built)), scratch)
    release.expect(environment.get("SHA256"))
    folder = release.fetch(artifacts.names(architecture))
    account = Account(of("PROFILE"), regions[0])
    print(f"Uploading to account {account.id}, as {account.arn}.", file=sys.stderr)
    buckets = [Bucket(account, f"{prefix}-{region}", region) for region in regions]
    for bucket in buckets:
        prepare(bucket, readers, account.partition)
    first, *_ = [bucket.package(folder, architecture).decode() for bucket in buckets]
    print(f"Uploaded the code to {', '.join(bucket.name for bucket in buckets)}.", file=sys.stderr)
    key = buckets[0].put("guard.yaml", everywhere(first, buckets[0].name, prefix).encode())
    suffix = "amazonaws.com.cn" if account.partition == "aws-cn" else "amazonaws.com"
    print(f"https://{buckets[0].name}.s3.{regions[0]}.{suffix}/{key}")


def everywhere(template, bucket, prefix):
    """Each stack reads the code, and the template nested in it, from the bucket in its own Region."""
    regional, bucket = f"{prefix}-${{AWS::Region}}", re.escape(bucket)
    address = f"https://s3.${{AWS::Region}}.${{AWS::URLSuffix}}/{regional}"
    template = re.sub(rf"CodeUri: s3://{bucket}/(\S+)",
                      rf"CodeUri: {{Bucket: {{Fn::Sub: '{regional}'}}, Key: \1}}", template)
    return re.sub(rf"TemplateURL: \S+/{bucket}/(\S+)", rf"TemplateURL: {{Fn::Sub: '{address}/\1'}}", template)


def prepare(bucket, readers, partition):
    if not bucket.exists():
        bucket.create()
        print(f"Created the bucket {bucket.name}.", file=sys.stderr)
    if not readers:
        return
    # As S3 gives the policy back: an account's id becomes this ARN.
    # https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_principal.html
    accounts = [f"arn:{partition}:iam::{each}:root" for each in readers]
    statement = {"Sid": STATEMENT, "Effect": "Allow", "Principal": {"AWS": accounts}, "Action": "s3:GetObject",
                 "Resource": f"arn:{partition}:s3:::{bucket.name}/{FOLDER}/*"}
    policy = bucket.policy()
    if policy is None:
        bucket.put_policy({"Version": "2012-10-17", "Statement": [statement]})
    elif not {*accounts} <= {*readers_of(policy)}:
        print(f"{bucket.name} has a policy, which stays as it is. If it does not let READERS read the bucket already, "
              f"add this statement:\n    {json.dumps(statement)}", file=sys.stderr)


def readers_of(policy):
    """The accounts in this command's statement. S3 returns a list of one as its item."""
    for each in listed(policy["Statement"]):
        if each.get("Sid") == STATEMENT:
            yield from listed(each["Principal"]["AWS"])


def listed(value):
    return value if isinstance(value, list) else [value]


def main():
    try:
        with tempfile.TemporaryDirectory() as scratch:
            run(os.environ, pathlib.Path(scratch))
    except (Problem, artifacts.Refused) as problem:
        sys.exit(f"\nmake package: {problem}")
    except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
        sys.exit(f"\nmake package: AWS refused: {error}")
    except KeyboardInterrupt:
        sys.exit("\nmake package: interrupted. What was uploaded stays in the buckets, and no stack has changed.")


if __name__ == "__main__":
    main()
