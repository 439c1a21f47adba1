"""Delays on demand, where AWS is late: the delivery of CloudTrail events, and the list of endpoint connections."""

CLOUDTRAIL = 0.0  # seconds from a call to the delivery of its event
CONNECTIONS = 0.0  # seconds from a change of a connection until DescribeVpcEndpointConnections shows it


def configure(cloudtrail=None, connections=None):
    """Delay what happens from now on; 0 switches a delay off. What is already delayed stays so."""
    global CLOUDTRAIL, CONNECTIONS
    if min(cloudtrail or 0, connections or 0) < 0:
        raise ValueError("a delay is not negative")
    CLOUDTRAIL = CLOUDTRAIL if cloudtrail is None else cloudtrail
    CONNECTIONS = CONNECTIONS if connections is None else connections
