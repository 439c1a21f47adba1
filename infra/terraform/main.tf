# The guard as a Terraform resource. It wraps the CloudFormation stack: CloudFormation unrolls the template's loops over
# the endpoint services, and rolls a failed update back.

terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0"
    }
  }
}

resource "aws_cloudformation_stack" "guard" {
  name         = var.name
  template_url = var.template_url
  parameters   = var.parameters
  tags         = var.tags

  # The template creates IAM roles, with names of CloudFormation's choice, and uses transforms.
  capabilities = ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]
  # A first deployment that fails is removed, so that the next apply can create the stack.
  on_failure = "DELETE"
}
