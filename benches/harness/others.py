"""What people run instead: Cloud Custodian and Prowler, if they are installed, on the same account."""
import os
import subprocess
import tempfile
import time

from .local import ACCOUNT, REGION, ROOT, credentials, ec2_and_elb

CUSTODIAN, PROWLER = ROOT / ".tools/custodian/bin/custodian", ROOT / ".tools/prowler/bin/prowler"
# The checks of Prowler that are nearest to the guard's; it has none for the health of targets.
PROWLER_CHECKS = ["elbv2_cross_zone_load_balancing_enabled", "elbv2_listeners_underneath",
                  "vpc_endpoint_connections_trust_boundaries",
                  "vpc_endpoint_services_allowed_principals_trust_boundaries"]


def measure(aws):
    """Wall, memory and calls of each; or why it could not be measured."""
    with tempfile.TemporaryDirectory() as folder:
        return {
            "Cloud Custodian": _run(aws, CUSTODIAN, folder, [
                "run", "--region", REGION, "--cache-period", "0", "--output-dir", folder,
                str(ROOT / "benches/custodian.yaml")]),
            "Prowler": _run(aws, PROWLER, folder, [
                "aws", "--region", REGION, "--checks", *PROWLER_CHECKS, "--output-formats", "csv",
                "--output-directory", folder, "--no-banner", "--no-color"])}


def _run(aws, program, folder, arguments):
    if not program.exists():
        return {"failed": "not installed: `make bench-tools` installs it"}
    mark, started = aws.mark(), time.monotonic()
    environment = {"PATH": os.environ["PATH"], "HOME": folder, **credentials(aws.endpoint)}
    output = os.path.join(folder, "output")
    with open(output, "wb") as file:
        process = subprocess.Popen([program, *arguments], env=environment, cwd=folder, stdout=file, stderr=file)
        _, status, usage = os.wait4(process.pid, 0)
    seconds, calls = time.monotonic() - started, aws.calls(mark)
    code = os.waitstatus_to_exitcode(status)
    process.returncode = code
    # Prowler ends with 3 if a check fails.
    if code not in (0, 3) or not ec2_and_elb(calls):
        with open(output, encoding="utf-8", errors="replace") as file:
            return {"failed": f"status {code}: {file.read()[-300:]}"}
    return {"seconds": seconds, "cpu": usage.ru_utime + usage.ru_stime, "memory": usage.ru_maxrss / 1024,
            "calls": sum(calls.values()), "ec2_and_elb": ec2_and_elb(calls), "account": ACCOUNT}
