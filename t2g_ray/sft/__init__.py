"""The supervised stage: records -> a policy that knows the form of the answer."""
