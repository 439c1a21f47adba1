variable "name" {
  type        = string
  default     = "privatelink-guard"
  description = "The name of the stack."
}

variable "template_url" {
  type        = string
  description = "What make package prints: the address of the packaged template, in a bucket in the stack's Region."

  validation {
    condition     = can(regex("^https://[^/]+\\.amazonaws\\.com(\\.cn)?/.+\\.yaml$", var.template_url))
    error_message = "template_url must be the https address in S3 that make package prints."
  }
}

variable "parameters" {
  type        = map(string)
  description = "The parameters of the stack, as in docs/parameters.md. EndpointServiceIds and DbtPrincipals are required."

  validation {
    condition     = alltrue([for name in ["EndpointServiceIds", "DbtPrincipals"] : contains(keys(var.parameters), name)])
    error_message = "EndpointServiceIds and DbtPrincipals are required."
  }
}

variable "tags" {
  type        = map(string)
  default     = {}
  description = "The tags of the stack, which CloudFormation also gives its resources."
}
