"""EC2: instances and network interfaces that an AWS service manages.

A Describe call shows them only if it asks for them with IncludeManagedResources.
https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ManagedResourceVisibilitySettings.html
"""
from .wire import ApiError

_managed: dict[str, str] = {}  # resource id -> the service's principal
_parameter = {"known": True}


def operator(*resource_ids):
    """The Operator of the resource with the first of these ids. It is managed if any of the ids is."""
    principal = next((_managed[resource_id] for resource_id in resource_ids if resource_id in _managed), None)
    if principal is None:
        return {"Managed": False}
    return {"Managed": True, "Principal": principal, "HiddenByDefault": True}


def visible(request, rows):
    """The rows that the request may see. An older EC2 refuses the unknown parameter."""
    if "IncludeManagedResources" in request and not _parameter["known"]:
        raise ApiError("UnknownParameter", "The parameter IncludeManagedResources is not recognized")
    return rows if request.get("IncludeManagedResources") else [row for row in rows if not row["Operator"]["Managed"]]


FILTERS = {"operator.managed": lambda row: row["Operator"]["Managed"],
           "operator.principal": lambda row: row["Operator"].get("Principal")}


def force(resource_id, principal):
    """Make a service manage an instance with its interfaces, or a single interface; "none": no service."""
    if not resource_id.startswith(("i-", "eni-")):
        raise ValueError(f"{resource_id} is neither an instance nor a network interface")
    if principal == "none":
        _managed.pop(resource_id, None)
    else:
        _managed[resource_id] = principal


def support(parameter):
    """Set whether EC2 knows the parameter IncludeManagedResources: known or unknown."""
    _parameter["known"] = {"known": True, "unknown": False}[parameter]
