"""The local AWS for the tests that deploy. It starts with the first of them."""
from infra_support import local

aws, names, provider = local.aws, local.names, local.provider
