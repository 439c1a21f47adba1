output "outputs" {
  value       = aws_cloudformation_stack.guard.outputs
  description = "The outputs of the stack, such as AlertTopicArn and TestMessage."
}
