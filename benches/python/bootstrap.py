"""Lambda's runtime loop, as awslambdaric runs it, without its frills: `bootstrap.py MODULE`."""
import importlib
import json
import os
import sys
import traceback
from http.client import HTTPConnection

API = "/2018-06-01/runtime/invocation"


def main():
    module = importlib.import_module(sys.argv[1])
    runtime = HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    while True:
        runtime.request("GET", f"{API}/next")
        response = runtime.getresponse()
        event, request_id = json.loads(response.read()), response.headers["Lambda-Runtime-Aws-Request-Id"]
        try:
            path, result = "response", module.handler(event)
        except Exception as error:
            traceback.print_exc()
            path, result = "error", {"errorMessage": str(error), "errorType": type(error).__name__}
        runtime.request("POST", f"{API}/{request_id}/{path}", json.dumps(result))
        runtime.getresponse().read()


main()
