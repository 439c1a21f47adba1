"""The AWS account to deploy to: one identity for every call, the bucket for the code, the endpoint services."""
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

import artifacts
import botocore.exceptions
import botocore.session
from botocore.config import Config

# Below it in the bucket is everything that is uploaded.
FOLDER = "privatelink-guard"


class Problem(Exception):
    """Why nothing was deployed: what is wrong, what it means, and what to do."""


class Account:
    """The caller's session, looked at before anything else.

    A profile that is named counts, also if the environment has keys of another account.
    """

    def __init__(self, profile="", region=""):
        self.profile = profile
        try:
            self.session = botocore.session.Session(profile=profile or None)
            # AWS_REGION is what the SDKs read, and AWS_DEFAULT_REGION what botocore does.
            self.region = region or os.environ.get("AWS_REGION") or self.session.get_config_variable("region")
            if not self.region:
                raise Problem("No Region is set, so there is nowhere to deploy to. Name that of your endpoint service: "
                              "make deploy REGION=eu-central-1")
            caller = self.client("sts").get_caller_identity()
        except botocore.exceptions.ProfileNotFound as error:
            raise Problem(f"{error}. These exist: {', '.join(self.profiles()) or 'none'}. "
                          "PROFILE=<name> selects one.") from None
        except (botocore.exceptions.ConnectionError, botocore.exceptions.HTTPClientError,
                botocore.exceptions.InvalidRegionError) as error:
            raise Problem(f"AWS cannot be reached in {self.region}: {error}\nCheck the Region's name and the network; "
                          "REGION=<region> selects another.") from None
        except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
            raise Problem(f"AWS does not accept your credentials: {error}\nSign in first, for example with "
                          "`aws sso login` or `aws configure`; PROFILE=<name> selects a profile.") from None
        self.id, self.arn = caller["Account"], caller["Arn"]
        self.partition = self.arn.split(":")[1]

    @staticmethod
    def profiles():
        return botocore.session.Session().available_profiles

    def command(self, operation):
        """The AWS CLI's command with this identity, for people to run."""
        return f"aws {operation} --region {self.region}" + (f" --profile {shlex.quote(self.profile)}" if self.profile
                                                           else "")

    def aws(self, operation, *arguments, region=None):
        """What the pinned AWS CLI prints, with this identity."""
        command = [pathlib.Path(sys.executable).parent / "aws", *operation.split(), *arguments, "--region",
                   region or self.region, *(["--profile", self.profile] if self.profile else [])]
        done = subprocess.run([str(each) for each in command], capture_output=True, text=True, check=False)
        if done.returncode:
            raise Problem(f"`aws {operation}` failed, and nothing was deployed: {done.stderr.strip()}")
        return done.stdout

    def client(self, service, region=None):
        return self.session.create_client(service, region_name=region or self.region,
                                          config=Config(retries={"mode": "standard"}))


class Bucket:
    """A bucket in one Region. Every call names the account that must own it: anybody may register any name, and whoever
    owns the bucket decides which code is deployed. The AWS CLI cannot name it, so calls that do come before and after
    its uploads."""

    def __init__(self, account, name, region=None):
        self.account, self.name, self.region, self.owner = account, name, region or account.region, account.id
        self.s3 = account.client("s3", self.region)

    def exists(self):
        """Whether it exists in the account. Somebody else's is refused."""
        try:
            found = self.s3.head_bucket(Bucket=self.name, ExpectedBucketOwner=self.owner)
        except botocore.exceptions.ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                return False
            raise Problem(f"The bucket {self.name} cannot be used: {error}. It must belong to account {self.owner}, "
                          "and you need access to it. If somebody else owns the name, choose another: BUCKET=<name>, "
                          "or PREFIX=<name> for make package.") from None
        if (region := found.get("BucketRegion", self.region)) != self.region:
            raise Problem(f"The bucket {self.name} is in {region}, and Lambda reads code only from a bucket in "
                          f"{self.region}.")
        return True

    def create(self):
        place = {} if self.region == "us-east-1" else {
            "CreateBucketConfiguration": {"LocationConstraint": self.region}}
        self.s3.create_bucket(Bucket=self.name, **place)
        self.s3.put_public_access_block(
            Bucket=self.name, ExpectedBucketOwner=self.owner, PublicAccessBlockConfiguration=dict.fromkeys(
                ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True))

    def policy(self):
        """The bucket's policy; None if it has none."""
        try:
            found = self.s3.get_bucket_policy(Bucket=self.name, ExpectedBucketOwner=self.owner)
        except botocore.exceptions.ClientError as error:
            if error.response["Error"]["Code"] == "NoSuchBucketPolicy":
                return None
            raise
        return json.loads(found["Policy"])

    def put_policy(self, policy):
        self.s3.put_bucket_policy(Bucket=self.name, Policy=json.dumps(policy), ExpectedBucketOwner=self.owner)

    def put(self, name, content):
        """Upload under the content's hash, so that nothing that was deployed is overwritten. Returns the key."""
        key = f"{FOLDER}/{artifacts.sha256(content)}/{name}"
        self.s3.put_object(Bucket=self.name, Key=key, Body=content, ExpectedBucketOwner=self.owner)
        return key

    def package(self, folder, architecture):
        """Upload what the template names, each file as it is. Returns the template that names it in the bucket.

        A key is the content's hash here as well. What is there already is not relied on.
        """
        packaged = folder / f"packaged-{self.region}.yaml"
        self.account.aws("cloudformation package", "--template-file", folder / f"template-{architecture}.yaml",
                         "--s3-bucket", self.name, "--s3-prefix", FOLDER, "--force-upload",
                         "--output-template-file", packaged, region=self.region)
        return packaged.read_bytes()


def key_of(account, topic):
    """The KMS key that encrypts the SNS topic, empty if none does; None, and a line that says so, if it cannot be read.

    https://docs.aws.amazon.com/sns/latest/api/API_GetTopicAttributes.html
    """
    try:
        attributes = account.client("sns").get_topic_attributes(TopicArn=topic)["Attributes"]
    except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
        print(f"The topic {topic} cannot be read, so whether CloudWatch's alarms reach it is not checked: {error}")
        return None
    return attributes.get("KmsMasterKeyId", "")


class Services:
    """The endpoint services in this Region, and the stack of another guard for each that one watches."""

    def __init__(self, account, stack):
        self.account, self.ec2 = account, account.client("ec2")
        self.found = self._listed("describe_vpc_endpoint_service_configurations", "ServiceConfigurations",
                                  "Your endpoint services cannot be listed, so whether the ids are right")
        notifications = self._listed("describe_vpc_endpoint_connection_notifications", "ConnectionNotificationSet",
                                     "Connection notifications cannot be listed, so whether another guard watches the "
                                     "same services")
        # The template creates one for each service, to a topic that CloudFormation names after the stack.
        self.watched_by = {
            each.get("ServiceId"): name[1] for each in notifications or []
            if (name := re.search(r":([A-Za-z0-9-]+)-NotificationTopic-\w+$", each["ConnectionNotificationArn"]))
            and name[1] != stack}

    def connections(self, services):
        """The endpoints on these services; None if they cannot be listed."""
        return self._listed("describe_vpc_endpoint_connections", "VpcEndpointConnections",
                            "dbt's endpoints cannot be listed, so what MaxDbtEndpoints means for them",
                            Filters=[{"Name": "service-id", "Values": services}])

    def _listed(self, operation, key, otherwise, **which):
        try:
            return [each for page in self.ec2.get_paginator(operation).paginate(**which) for each in page[key]]
        except botocore.exceptions.ClientError as error:
            print(f"{otherwise} is not checked: {error}")
            return None

    def lines(self):
        """Each service as people choose it: its id, its name, and who watches it already."""
        if self.found is None:
            yield "  not known, since they cannot be listed"
        elif not self.found:
            yield (f"  none in {self.account.region}. REGION=<region> selects another; infra/endpoint-service.yaml "
                   "creates one")
        for each in self.found or []:
            name = next((tag["Value"] for tag in each.get("Tags", []) if tag["Key"] == "Name"), None)
            shown = "".join(character for character in name or "no name" if character.isprintable())
            stack = self.watched_by.get(each["ServiceId"])
            yield f"  {each['ServiceId']} ({shown})" + (f": the stack {stack} watches it already" if stack else "")

    def check(self, wanted):
        """A wrong Region is the most likely mistake, and without this it shows only when the stack is rolled back."""
        if self.found is None:
            return
        found = [each["ServiceId"] for each in self.found]
        absent = [each for each in wanted if each not in found]
        if absent:
            raise Problem(f"{', '.join(absent)}: no such endpoint service in {self.account.region} of account "
                          f"{self.account.id}. It has {', '.join(found) or 'none'}. make deploy REGION=<region> "
                          "selects another Region.")
