"""What is measured with: policies, models of random weights, prompts."""
