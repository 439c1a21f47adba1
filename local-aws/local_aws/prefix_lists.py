"""EC2: customer-managed prefix lists with their versions. The AWS-managed lists come from ministack."""
from ministack.core.responses import get_account_id, get_region
from ministack.services import ec2

from .endpoint_services import new_id, tags_for
from .paging import ec2_filter, ec2_page
from .vpcs import cidr
from .wire import EC2, ApiError


def _aws_managed():
    return [{
        "PrefixListId": known["PrefixListId"], "PrefixListName": known["PrefixListName"], "OwnerId": "AWS",
        "AddressFamily": known["AddressFamily"], "State": "create-complete", "Entries": [{"Cidr": known["Cidr"]}],
        "PrefixListArn": f"arn:aws:ec2:{get_region()}:aws:prefix-list/{known['PrefixListId']}"}
        for known in ec2._get_aws_managed_prefix_lists()]


def prefix_list(list_id):
    found = ec2._prefix_lists.get(list_id) or next(
        (known for known in _aws_managed() if known["PrefixListId"] == list_id), None)
    if not found:
        raise ApiError("InvalidPrefixListID.NotFound", f"The prefix list ID '{list_id}' does not exist")
    return found


def _customer_managed(list_id):
    found = prefix_list(list_id)
    if found["OwnerId"] == "AWS":
        raise ApiError("UnsupportedOperation", "The action is not supported for an AWS-managed prefix list.")
    return found


def _view(row, state=None):
    return {**{member: row.get(member) for member in ("PrefixListId", "PrefixListName", "AddressFamily", "MaxEntries",
                                                      "Version", "PrefixListArn", "OwnerId")},
            "State": state or row["State"], "Tags": ec2._tags.get(row["PrefixListId"], [])}


def _checked(entries, family):
    networks = [cidr(entry["Cidr"], "Cidr") for entry in entries]
    for network in networks:
        if f"IPv{network.version}" != family:
            raise ApiError("InvalidParameterValue", f"The CIDR {network} is not of the address family {family}")
    return [{**entry, "Cidr": str(network)} for entry, network in zip(entries, networks, strict=True)]


def _check_size(entries, most):
    if len(entries) > most:
        raise ApiError("PrefixListMaxEntriesExceeded", "You've reached the maximum number of entries for the prefix "
                                                       "list.")


@EC2.action("CreateManagedPrefixList")
def create(request):
    if ec2._is_aws_managed_prefix_name(request["PrefixListName"]):
        raise ApiError("InvalidParameterValue", "The prefix list name cannot start with com.amazonaws")
    family = request["AddressFamily"]
    if family not in ("IPv4", "IPv6"):
        raise ApiError("InvalidParameterValue", f"Value ({family}) for parameter AddressFamily is invalid.")
    entries = _checked(request.get("Entries", []), family)
    _check_size(entries, request["MaxEntries"])
    list_id = new_id("pl")
    ec2._prefix_lists[list_id] = created = {
        "PrefixListId": list_id, "PrefixListName": request["PrefixListName"], "State": "create-complete",
        "AddressFamily": family, "MaxEntries": request["MaxEntries"], "Version": 1, "OwnerId": get_account_id(),
        "PrefixListArn": f"arn:aws:ec2:{get_region()}:{get_account_id()}:prefix-list/{list_id}",
        "Entries": entries, "Versions": {1: entries}}
    ec2._tags[list_id] = tags_for("prefix-list", request)
    return {"PrefixList": _view(created, "create-in-progress")}


@EC2.action("ModifyManagedPrefixList")
def modify(request):
    """Change a prefix list. Changed entries create a version. CurrentVersion must be the latest version."""
    row = _customer_managed(request["PrefixListId"])
    if request.get("CurrentVersion", row["Version"]) != row["Version"]:
        raise ApiError("PrefixListVersionMismatch", "The version of the prefix list doesn't match the current version")
    removed = [str(cidr(entry["Cidr"], "Cidr")) for entry in request.get("RemoveEntries", [])]
    added = _checked(request.get("AddEntries", []), row["AddressFamily"])
    present = [entry["Cidr"] for entry in row["Entries"]]
    for gone in removed:
        if gone not in present:
            raise ApiError("InvalidParameterValue", f"The CIDR {gone} is not in the prefix list")
    replaced = [*removed, *[entry["Cidr"] for entry in added]]
    entries = [entry for entry in row["Entries"] if entry["Cidr"] not in replaced] + added
    _check_size(entries, request.get("MaxEntries", row["MaxEntries"]))
    row["MaxEntries"] = request.get("MaxEntries", row["MaxEntries"])
    row["PrefixListName"] = request.get("PrefixListName", row["PrefixListName"])
    if added or removed:
        row["Version"] += 1
        row.setdefault("Versions", {})[row["Version"]] = row["Entries"] = entries
    row["State"] = "modify-complete"
    return {"PrefixList": _view(row, "modify-in-progress")}


@EC2.action("DeleteManagedPrefixList")
def delete(request):
    row = _customer_managed(request["PrefixListId"])
    del ec2._prefix_lists[row["PrefixListId"]]
    return {"PrefixList": _view(row, "delete-in-progress")}


@EC2.action("DescribeManagedPrefixLists")
def describe(request):
    rows = [prefix_list(i) for i in request["PrefixListIds"]] if "PrefixListIds" in request else [
        *_aws_managed(), *ec2._prefix_lists.values()]
    rows = ec2_filter(request, [_view(row) for row in rows], {
        "prefix-list-id": "PrefixListId", "prefix-list-name": "PrefixListName", "owner-id": "OwnerId"})
    return ec2_page(request, "PrefixLists", rows, smallest=1, largest=100)


@EC2.action("GetManagedPrefixListEntries")
def entries_of(request):
    row = prefix_list(request["PrefixListId"])
    version = request.get("TargetVersion", row.get("Version"))
    entries = row["Entries"] if version == row.get("Version") else row.get("Versions", {}).get(version)
    if entries is None:
        raise ApiError("InvalidPrefixListVersion.NotFound", f"The prefix list has no version {version}")
    return ec2_page(request, "Entries", entries, smallest=1, largest=100)
